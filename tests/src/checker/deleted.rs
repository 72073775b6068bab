//! G4: a delete stays deleted. Once a delete was acknowledged, no value that it covered is shown again.

use std::collections::BTreeMap;

use super::{Guarantee, Violation, on_record};
use crate::history::{Call, FinalStates, Request, Seen, Sharing};

/// Checks every record of `finals` that has one owner: of the others no one knows what a delete covered.
pub fn check(by_key: &BTreeMap<&str, Vec<&Call>>, finals: &FinalStates) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (key, seen_by_node) in &finals.records {
        let calls = by_key.get(key.as_str()).map_or(&[][..], Vec::as_slice);
        if calls.iter().any(|call| call.sharing == Sharing::Contended) {
            continue;
        }
        for (node, seen) in seen_by_node.iter().enumerate() {
            if let Some(fault) = resurrected(calls, seen) {
                violations.push(on_record(Guarantee::G4, node, key, fault, calls));
            }
        }
    }
    violations
}

/// What is wrong with `seen`: a value from before the last acknowledged delete.
fn resurrected(calls: &[&Call], seen: &Seen) -> Option<String> {
    let is_promised_delete = |call: &&Call| call.request == Request::Delete && call.acknowledged().is_some();
    let deleted = calls.iter().rposition(is_promised_delete)?;
    let (before, from) = calls.split_at_checked(deleted)?;
    let Seen::Value { content, .. } = seen else { return None };
    let is_of = |call: &&Call| call.content() == Some(content);
    (before.iter().any(is_of) && !from.iter().any(is_of))
        .then(|| format!("{seen} is back, which an acknowledged delete had covered"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::*;

    #[test]
    fn a_delete_that_stays_is_fine() {
        let calls = [put("a", acknowledged(1)), delete(acknowledged(2))];
        assert_eq!(found(&calls, &all(&Seen::Deleted)), []);
    }

    #[test]
    fn a_value_that_was_deleted_is_not_back() {
        let calls = [put("a", acknowledged(1)), delete(acknowledged(2))];
        let seen = [Seen::Deleted, value("a", 1), Seen::Deleted];
        assert_eq!(found(&calls, &seen), [(Guarantee::G4, Some(1))]);
    }

    #[test]
    fn a_value_that_was_never_promised_is_not_back_either() {
        let calls = [put("a", acknowledged(1)), put("b", not_promised(2)), delete(acknowledged(3))];
        let seen = [Seen::Deleted, Seen::Deleted, value("b", 2)];
        assert_eq!(found(&calls, &seen), [(Guarantee::G4, Some(2))]);
    }

    #[test]
    fn a_tombstone_that_is_forgotten_is_a_lost_write() {
        let calls = [put("a", acknowledged(1)), delete(acknowledged(2))];
        let seen = [Seen::Deleted, Seen::Deleted, Seen::Missing];
        assert_eq!(found(&calls, &seen), [(Guarantee::G1, Some(2))]);
    }

    #[test]
    fn what_is_written_after_a_delete_stays() {
        let calls = [put("a", acknowledged(1)), delete(acknowledged(2)), put("b", not_promised(3))];
        assert_eq!(found(&calls, &all(&value("b", 3))), []);
        assert_eq!(found(&calls, &all(&Seen::Deleted)), []);
        assert_eq!(found(&calls, &[value("b", 3), Seen::Deleted, value("a", 1)]), [(Guarantee::G4, Some(2))]);
    }

    #[test]
    fn a_delete_that_was_not_promised_may_be_there_and_may_not() {
        let calls = [put("a", acknowledged(1)), delete(not_promised(2))];
        assert_eq!(found(&calls, &all(&value("a", 1))), []);
        assert_eq!(found(&calls, &all(&Seen::Deleted)), []);
    }
}
