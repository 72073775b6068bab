//! G4: a delete stays deleted. What a delete covered is never shown or held again, and so with all that was replaced.

use super::books::{BookedOp, Books, RecordBook};
use super::{Guarantee, Violation};
use crate::history::{Call, Request, Seen};

/// Checks every record. Where nobody could look into the nodes, those with one owner: of the others no one knows what a
/// delete covered.
pub fn check(books: &Books<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for record in books.records() {
        if books.is_white_box() {
            violations.extend(zombies(books, record));
        } else if record.is_owned() {
            violations.extend(resurrected_values(books, record));
        }
    }
    violations
}

/// Live versions that were replaced: by an op that must be there, or by one that is at the same node.
fn zombies(books: &Books<'_>, record: &RecordBook<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let finals = &books.history.finals;
    let by_node = finals.live.get(record.key).into_iter().flatten().enumerate();
    for (node, live) in by_node.filter(|(node, _)| finals.is_kept_by(record.key, *node)) {
        let numbers: Vec<_> = live.iter().filter_map(|dot| record.number(dot)).collect();
        for number in &numbers {
            let replaces = |(at, op): &(usize, &BookedOp<'_>)| {
                op.covers.has(*number) && (op.is_owed() || numbers.contains(at))
            };
            let mut by = record.ops.iter().enumerate().filter(replaces).map(|(_, op)| op);
            let Some(first) = by.next() else { continue };
            // A delete says more than what came after it.
            let by = by
                .find(|op| op.fact.content.is_none())
                .filter(|_| first.fact.content.is_some())
                .unwrap_or(first);
            let Some(zombie) = record.ops.get(*number) else { continue };
            let seen = format!("{} is back, which {} had replaced", zombie.describe(), by.describe());
            violations.push(record.violation(Guarantee::G4, Some(node), seen));
        }
    }
    violations
}

fn resurrected_values(books: &Books<'_>, record: &RecordBook<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (node, seen) in books.history.finals.records.get(record.key).into_iter().flatten().enumerate() {
        let fault = resurrected(&record.calls, seen);
        violations.extend(fault.map(|fault| record.violation(Guarantee::G4, Some(node), fault)));
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
    use crate::history::Fate;

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
    /// A value and a delete that covers it.
    fn deleted() -> Scene {
        Scene::new().put(1, "a", &[]).delete(2, &[1])
    }

    #[test]
    fn a_deleted_version_is_at_no_node() {
        assert_eq!(deleted().live_at_all(&[2]).found_by(check), []);
        assert_eq!(deleted().live([&[2], &[2], &[1]]).found_by(check), [Some(2)]);
        assert_eq!(deleted().live([&[2], &[1, 2], &[2]]).found_by(check), [Some(1)]);
        let promised = deleted().fate(2, Fate::Promised);
        assert_eq!(promised.live([&[1], &[2], &[2]]).found_by(check), [Some(0)]);
    }

    #[test]
    fn a_delete_whose_disks_are_all_lost_may_never_have_been_but_for_those_who_hold_it() {
        let lost = || deleted().fate(2, Fate::MayBeGone);
        assert_eq!(lost().live_at_all(&[1]).found_by(check), []);
        assert_eq!(lost().live([&[1], &[1], &[1, 2]]).found_by(check), [Some(2)]);
        let but_acknowledged = lost().call(delete(acknowledged(2)));
        assert_eq!(but_acknowledged.live([&[1], &[2], &[2]]).found_by(check), [Some(0)]);
    }

    #[test]
    fn a_version_that_a_deleted_one_had_replaced_is_not_back_either() {
        let scene = || Scene::new().put(1, "a", &[]).put(2, "b", &[1]).delete(3, &[2]);
        assert_eq!(scene().live_at_all(&[3]).found_by(check), []);
        assert_eq!(scene().live([&[3], &[1, 3], &[3]]).found_by(check), [Some(1)]);
    }

    #[test]
    fn a_version_beside_a_delete_that_had_not_seen_it_stays() {
        let scene = Scene::new().put(1, "a", &[]).delete(2, &[]).live_at_all(&[1, 2]);
        assert_eq!(scene.found_by(check), []);
    }

    #[test]
    fn what_was_replaced_by_a_value_is_not_back_either() {
        let scene = || Scene::new().put(1, "a", &[]).put(2, "b", &[1]);
        assert_eq!(scene().live_at_all(&[2]).found_by(check), []);
        assert_eq!(scene().live([&[2], &[2], &[1, 2]]).found_by(check), [Some(2)]);
    }

    #[test]
    fn the_delete_is_named_before_a_later_write_over_it() {
        let scene = deleted().put(3, "c", &[1, 2]).live([&[3], &[1, 3], &[3]]);
        let found = check(&Books::of(&scene.0));
        let seen: Vec<_> = found.iter().map(|violation| violation.seen.as_str()).collect();
        let expect = format!("{} (\"a\") is back, which {} (a delete) had replaced", dot(1), dot(2));
        assert_eq!(seen, [expect]);
    }
}
