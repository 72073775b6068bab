//! G3: after healing, all nodes reach the same state within 5 s + backlog / 5,000 per second.

use serde::{Deserialize, Serialize};

use super::{Guarantee, Violation};
use crate::history::FinalStates;

/// What every healed mesh may take, whatever its backlog.
const SETTLE_MS: u64 = 5_000;
/// Ops of backlog that a node takes per second at least.
const BACKLOG_OPS_PER_SECOND: u64 = 5_000;

/// How the nodes became equal after healing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settling {
    /// Ops that a node may have had to take: all that were attempted since the nodes were last equal.
    pub backlog_ops: u64,
    /// Milliseconds from the later of healing and the last answer to equal hashes; none if that was not seen.
    pub equal_after_ms: Option<u64>,
    /// The state hash of each node when it was last looked at; none where there was no answer.
    pub hashes: Vec<Option<String>>,
}

impl Settling {
    /// How long it may take, in milliseconds.
    pub fn limit_ms(&self) -> u64 {
        settling_limit_ms(self.backlog_ops)
    }
}

/// How long nodes with this backlog may take to become equal, in milliseconds.
pub fn settling_limit_ms(backlog_ops: u64) -> u64 {
    SETTLE_MS + backlog_ops.saturating_mul(1_000) / BACKLOG_OPS_PER_SECOND
}

/// Checks that the nodes became equal in time, and that equal hashes mean equal answers.
pub fn check(settling: &Settling, finals: &FinalStates) -> Vec<Violation> {
    let (limit, hashes) = (settling.limit_ms(), &settling.hashes);
    let violation = |key: Option<&String>, seen: String| Violation {
        guarantee: Guarantee::G3,
        node: None,
        key: key.cloned(),
        seen,
        calls: Vec::new(),
    };
    let mut violations = Vec::new();
    match settling.equal_after_ms {
        Some(took) if took <= limit => {}
        Some(took) => {
            violations.push(violation(None, format!("equal after {took} ms, {limit} ms are allowed")));
        }
        None => violations.push(violation(None, format!("not equal, {limit} ms are allowed: {hashes:?}"))),
    }
    if settling.equal_after_ms.is_some() {
        for (key, seen) in &finals.records {
            if seen.first().is_some_and(|first| seen.iter().any(|other| other != first)) {
                let what = format!("the hashes are equal and the nodes show {seen:?}");
                violations.push(violation(Some(key), what));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::*;
    use crate::history::Seen;

    fn settling(backlog_ops: u64, equal_after_ms: Option<u64>) -> Settling {
        Settling { backlog_ops, equal_after_ms, hashes: vec![Some("a".to_owned()), Some("b".to_owned())] }
    }

    fn count(settling: &Settling, seen: &[Seen; 3]) -> usize {
        let mut finals = FinalStates::default();
        finals.records.insert("k".to_owned(), seen.to_vec());
        check(settling, &finals).len()
    }

    #[test]
    fn equal_in_time_is_fine_and_late_or_never_is_not() {
        let same = || all(&value("a", 1));
        assert_eq!(count(&settling(0, Some(5_000)), &same()), 0);
        assert_eq!(count(&settling(0, Some(5_001)), &same()), 1);
        assert_eq!(count(&settling(0, None), &same()), 1);
    }

    #[test]
    fn a_backlog_gives_time() {
        assert_eq!(settling_limit_ms(10_000), 7_000);
        assert_eq!(count(&settling(10_000, Some(7_000)), &all(&Seen::Deleted)), 0);
        assert_eq!(count(&settling(10_000, Some(7_001)), &all(&Seen::Deleted)), 1);
    }

    #[test]
    fn equal_hashes_with_other_answers_are_not_equal() {
        assert_eq!(count(&settling(0, Some(1)), &[value("a", 1), value("a", 1), Seen::Missing]), 1);
    }
}
