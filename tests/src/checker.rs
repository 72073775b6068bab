//! Holds a history and what the nodes show in the end against the guarantees: pure functions, one file per guarantee.

pub mod acknowledged;
pub mod answers;
pub mod converges;
pub mod deleted;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::history::{Call, FinalStates};

pub use converges::Settling;

/// What the product promises, by the name the documents give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Guarantee {
    /// No acknowledged write is lost.
    G1,
    /// All nodes reach the same state in time after healing.
    G3,
    /// A delete stays deleted.
    G4,
    /// An answer that promises nothing has a documented shape.
    G7,
    /// No node ends by itself.
    G9,
}

/// A guarantee that was not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which.
    pub guarantee: Guarantee,
    /// The node that shows it, from 0, if it is one.
    pub node: Option<usize>,
    /// The record, if it is one.
    pub key: Option<String>,
    /// What was seen, for people.
    pub seen: String,
    /// The calls on the record.
    pub calls: Vec<Call>,
}

/// Checks all that follows from calls and final states, for the records that `finals` has.
pub fn check_records(calls: &[Call], finals: &FinalStates) -> Vec<Violation> {
    let by_key = by_key(calls);
    let mut violations = deleted::check(&by_key, finals);
    // A deleted record that is back is one violation, not two.
    let resurrected: Vec<_> =
        violations.iter().map(|violation| (violation.key.clone(), violation.node)).collect();
    let lost = acknowledged::check(&by_key, finals);
    violations.extend(lost.into_iter().filter(|lost| !resurrected.contains(&(lost.key.clone(), lost.node))));
    violations
}

/// The calls on each record, in the order of the history.
pub fn by_key(calls: &[Call]) -> BTreeMap<&str, Vec<&Call>> {
    let mut by_key: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in calls {
        by_key.entry(&call.key).or_default().push(call);
    }
    by_key
}

/// A violation on a record at a node.
fn on_record(guarantee: Guarantee, node: usize, key: &str, seen: String, calls: &[&Call]) -> Violation {
    let calls = calls.iter().map(|call| (*call).clone()).collect();
    Violation { guarantee, node: Some(node), key: Some(key.to_owned()), seen, calls }
}

#[cfg(test)]
mod sample;
