//! G3: after healing, all nodes reach the same state within 5 s + backlog / 5,000 per second.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use super::books::Books;
use super::{Guarantee, Violation};
use crate::history::FinalStates;

/// What every healed mesh may take, whatever its backlog.
const SETTLE_MS: u64 = 5_000;
/// Ops of backlog that a node takes per second at least.
const BACKLOG_OPS_PER_SECOND: u64 = 5_000;

/// How the nodes became equal after healing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settling {
    /// Ops that a node may have had to take: all that were attempted since the nodes were last equal.
    pub backlog_ops: u64,
    /// Milliseconds more than the backlog needs, for what could not be had sooner whatever the nodes did: an op that is
    /// dated further ahead than a node may believe is refused until its time comes, and a node with a lost disk first
    /// asks the others for all they have.
    #[serde(default)]
    pub allowance_ms: u64,
    /// Milliseconds from the later of healing and the last answer to equal hashes; none if that was not seen.
    pub equal_after_ms: Option<u64>,
    /// The state hash of each node when it was last looked at; none where there was no answer.
    pub hashes: Vec<Option<String>>,
}

impl Settling {
    /// How long it may take, in milliseconds.
    pub fn limit_ms(&self) -> u64 {
        settling_limit_ms(self.backlog_ops).saturating_add(self.allowance_ms)
    }
}

/// How long nodes with this backlog may take to become equal, in milliseconds.
pub fn settling_limit_ms(backlog_ops: u64) -> u64 {
    SETTLE_MS + backlog_ops.saturating_mul(1_000) / BACKLOG_OPS_PER_SECOND
}

/// Checks that the nodes became equal in time, each time, and that equal hashes mean equal records.
pub fn check(books: &Books<'_>) -> Vec<Violation> {
    let settlings = &books.history.settlings;
    let mut violations: Vec<_> =
        settlings.iter().filter_map(late).map(|seen| violation(None, seen)).collect();
    // Where the hashes differ so do the records: that is one fault, told once.
    if settlings.last().is_none_or(|last| last.equal_after_ms.is_some()) {
        let (finals, nodes) = (&books.history.finals, books.history.nodes);
        violations.extend(differing(finals, &finals.records, nodes, "show"));
        violations.extend(differing(finals, &finals.live, nodes, "hold"));
    }
    violations
}

fn late(settling: &Settling) -> Option<String> {
    let (limit, hashes) = (settling.limit_ms(), &settling.hashes);
    match settling.equal_after_ms {
        Some(took) if took <= limit => None,
        Some(took) => Some(format!("equal after {took} ms, {limit} ms are allowed")),
        None => Some(format!("not equal, {limit} ms are allowed: {hashes:?}")),
    }
}

/// Records that are not seen at every node, or not the same.
fn differing<T: PartialEq + Debug>(
    finals: &FinalStates,
    by_key: &BTreeMap<String, Vec<T>>,
    nodes: usize,
    verb: &str,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (key, states) in by_key {
        if states.len() != nodes {
            let seen = format!("{} of {nodes} nodes {verb} something", states.len());
            violations.push(violation(Some(key), seen));
            continue;
        }
        let kept = states.iter().enumerate().filter(|(node, _)| finals.is_kept_by(key, *node));
        let mut kept = kept.map(|(_, state)| state);
        if kept.next().is_some_and(|first| kept.any(|other| other != first)) {
            let seen = format!("the hashes are equal and the nodes {verb} {states:?}");
            violations.push(violation(Some(key), seen));
        }
    }
    violations
}

fn violation(key: Option<&String>, seen: String) -> Violation {
    Violation { guarantee: Guarantee::G3, node: None, key: key.cloned(), seen, calls: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::*;
    use crate::history::{FinalStates, History, Seen};

    fn settling(backlog_ops: u64, equal_after_ms: Option<u64>) -> Settling {
        let hashes = vec![Some("a".to_owned()), Some("b".to_owned())];
        Settling { backlog_ops, equal_after_ms, hashes, ..Settling::default() }
    }

    fn count(settling: &Settling, seen: &[Seen; 3]) -> usize {
        let mut finals = FinalStates::default();
        finals.records.insert("k".to_owned(), seen.to_vec());
        let history = History { nodes: 3, settlings: vec![settling.clone()], finals, ..History::default() };
        check(&Books::of(&history)).len()
    }

    #[test]
    fn equal_in_time_is_fine_and_late_or_never_is_not() {
        let same = || all(&value("a", 1));
        assert_eq!(count(&settling(0, Some(5_000)), &same()), 0);
        assert_eq!(count(&settling(0, Some(5_001)), &same()), 1);
        assert_eq!(count(&settling(0, None), &same()), 1);
    }

    #[test]
    fn a_backlog_gives_time_and_so_does_an_allowance() {
        assert_eq!(settling_limit_ms(10_000), 7_000);
        assert_eq!(count(&settling(10_000, Some(7_000)), &all(&Seen::Deleted)), 0);
        assert_eq!(count(&settling(10_000, Some(7_001)), &all(&Seen::Deleted)), 1);
        let allowed = Settling { allowance_ms: 1, ..settling(10_000, Some(7_001)) };
        assert_eq!(count(&allowed, &all(&Seen::Deleted)), 0);
    }

    #[test]
    fn equal_hashes_with_other_answers_are_not_equal() {
        assert_eq!(count(&settling(0, Some(1)), &[value("a", 1), value("a", 1), Seen::Missing]), 1);
    }
    #[test]
    fn every_settling_counts_not_only_the_last() {
        let mut scene = Scene::new();
        scene.0.settlings = vec![settling(0, Some(9_000)), settling(0, Some(1))];
        assert_eq!(scene.found_by(check), [None]);
        scene.0.settlings = vec![settling(0, None), settling(0, Some(9_000)), settling(0, Some(1))];
        assert_eq!(scene.found_by(check), [None, None]);
    }

    #[test]
    fn nodes_that_show_the_same_of_other_versions_are_not_equal() {
        let scene = |third: &[u64]| {
            let scene = Scene::new().put(1, "a", &[]).put(2, "a", &[]).live([&[1, 2], &[1, 2], third]);
            scene.shown(all(&value("a", 2))).found_by(check)
        };
        assert_eq!(scene(&[1, 2]), []);
        assert_eq!(scene(&[2]), [None]);
    }

    #[test]
    fn a_node_that_was_not_looked_at_is_not_equal() {
        let mut scene = Scene::new().put(1, "a", &[]).live_at_all(&[1]).shown(all(&value("a", 1)));
        scene.0.finals.records.values_mut().for_each(|seen| drop(seen.pop()));
        assert_eq!(scene.found_by(check), [None]);
        scene.0.finals.live.values_mut().for_each(|live| drop(live.pop()));
        assert_eq!(scene.found_by(check), [None, None]);
    }

    #[test]
    fn nodes_that_never_became_equal_are_told_once() {
        let mut scene = Scene::new().put(1, "a", &[]).live([&[1], &[], &[1]]);
        scene.0.settlings.push(settling(0, None));
        assert_eq!(scene.found_by(check), [None]);
    }
}
