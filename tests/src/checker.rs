//! Holds a history and what the nodes show in the end against the guarantees: pure functions, one file per guarantee.
//!
//! [`books`] sorts a history once; each checker reads it and says what was not kept. Where the harness could look into
//! the nodes they go by the ops, else by what clients were told and shown: see [`crate::history::History`].

pub mod acknowledged;
pub mod admitted;
pub mod answers;
pub mod books;
pub mod converges;
pub mod deleted;
pub mod durable;
pub mod guarantee;
pub mod healthy;
pub mod marks;
pub mod monotonic;
pub mod quorum_read;
pub mod siblings;

use std::collections::BTreeSet;

use federation_wire::api::DotText;
use serde::{Deserialize, Serialize};

use crate::history::{Call, History};
use books::Books;

pub use converges::Settling;
pub use guarantee::{Guarantee, UnknownGuarantee};

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

/// Checks all guarantees.
pub fn check(history: &History) -> Vec<Violation> {
    check_claims(history, &Guarantee::ALL.into())
}

/// Checks some of the guarantees.
pub fn check_claims(history: &History, claims: &BTreeSet<Guarantee>) -> Vec<Violation> {
    let books = Books::of(history);
    let mut violations: Vec<_> = claims.iter().flat_map(|claim| checker_of(*claim)(&books)).collect();
    if !books.is_white_box() {
        tell_once(&mut violations);
    }
    violations
}

fn checker_of(guarantee: Guarantee) -> fn(&Books<'_>) -> Vec<Violation> {
    match guarantee {
        Guarantee::G1 => acknowledged::check,
        Guarantee::G2 => durable::check,
        Guarantee::G3 => converges::check,
        Guarantee::G4 => deleted::check,
        Guarantee::G5 => siblings::check,
        Guarantee::G6 => quorum_read::check,
        Guarantee::G7 => answers::check,
        Guarantee::G8 => admitted::check,
        Guarantee::G9 => healthy::check,
        Guarantee::G10 => monotonic::check,
    }
}

/// A deleted value that is back is one violation, not also a delete that was lost.
fn tell_once(violations: &mut Vec<Violation>) {
    let place = |violation: &Violation| (violation.key.clone(), violation.node);
    let is_back = |violation: &&Violation| violation.guarantee == Guarantee::G4;
    let back: BTreeSet<_> = violations.iter().filter(is_back).map(place).collect();
    violations.retain(|found| found.guarantee != Guarantee::G1 || !back.contains(&place(found)));
}

/// Ops by name, for people.
fn listed<'a>(dots: impl IntoIterator<Item = &'a DotText>) -> String {
    let names: Vec<_> = dots.into_iter().map(DotText::to_string).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
