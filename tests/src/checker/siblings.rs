//! G5: concurrent writes are both kept until a later one has seen both; none vanishes silently.

use std::collections::BTreeSet;

use federation_wire::api::DotText;

use super::books::{Books, Past, RecordBook};
use super::{Guarantee, Violation, listed};
use crate::history::{Answer, Seen};

/// Checks that ops replace only what their writers had seen, that no other is gone, and that of all that is live the
/// right one is shown.
pub fn check(books: &Books<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    if !books.is_white_box() {
        return violations;
    }
    for record in books.records() {
        violations.extend(unseen(record));
        violations.extend(vanished(books, record));
        violations.extend(not_shown(books, record));
    }
    violations
}

/// Ops that replace what their writers had not seen.
fn unseen(record: &RecordBook<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for op in &record.ops {
        if op.names.is_within(&op.knew) && op.names.count() == op.fact.covers.len() {
            continue;
        }
        let has_seen = |dot: &DotText| record.number(dot).is_some_and(|number| op.knew.has(number));
        let beyond: Vec<_> = op.fact.covers.iter().filter(|dot| !has_seen(dot)).collect();
        let seen = format!("{} covers {}, which its writer had not seen", op.describe(), listed(beyond));
        violations.push(record.violation(Guarantee::G5, None, seen));
    }
    violations
}

/// Ops that some disk kept, and that a node has neither live nor under one whose writer had seen them.
fn vanished(books: &Books<'_>, record: &RecordBook<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let finals = &books.history.finals;
    let by_node = finals.live.get(record.key).into_iter().flatten().enumerate();
    for (node, live) in by_node.filter(|(node, _)| finals.is_kept_by(record.key, *node)) {
        let there = record.there(live, Past::Known);
        let owed = record.ops.iter().enumerate().filter(|(_, op)| op.is_owed());
        for (_, op) in owed.filter(|(number, _)| !there.has(*number)) {
            let seen = format!(
                "{} has vanished: live are {}, and none of their writers had seen it",
                op.describe(),
                listed(live)
            );
            violations.push(record.violation(Guarantee::G5, Some(node), seen));
        }
    }
    violations
}

/// Reads, in the end or before, that do not show the greatest of the live versions.
fn not_shown(books: &Books<'_>, record: &RecordBook<'_>) -> Vec<Violation> {
    let finals = &books.history.finals;
    let shown = finals.records.get(record.key).into_iter().flatten();
    let live = finals.live.get(record.key).into_iter().flatten();
    let at_the_end = shown.zip(live).enumerate().map(|(node, (seen, live))| (node, seen, live));
    let reads = record.calls.iter().filter_map(|call| match &call.answer {
        Answer::Read { seen, live } if !live.is_empty() => Some((call.node, seen, live)),
        _ => None,
    });
    let mut violations = Vec::new();
    for (node, seen, live) in at_the_end.chain(reads) {
        let Some(winner) = winner(record, live) else { continue };
        if winner != *seen {
            let seen = format!("{seen} is shown, of {} the visible one is {winner}", listed(live));
            violations.push(record.violation(Guarantee::G5, Some(node), seen));
        }
    }
    violations
}

/// What a node with these live versions is to show; none if it has one that is no op of this record.
fn winner(record: &RecordBook<'_>, live: &BTreeSet<DotText>) -> Option<Seen> {
    let ops: Option<Vec<_>> =
        live.iter().map(|dot| record.number(dot).and_then(|number| record.ops.get(number))).collect();
    let ops = ops?;
    let values = ops.iter().filter_map(|op| Some((op.fact.hlc, op.dot, op.fact.content.as_ref()?)));
    Some(match values.max() {
        Some((_, dot, content)) => Seen::Value { content: content.clone(), dot: dot.clone() },
        None if ops.is_empty() => Seen::Missing,
        None => Seen::Deleted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::*;
    use crate::history::Fate;

    /// Two concurrent writes.
    fn two() -> Scene {
        Scene::new().put(1, "a", &[]).put(2, "b", &[])
    }

    #[test]
    fn concurrent_writes_are_both_there() {
        assert_eq!(two().live_at_all(&[1, 2]).found_by(check), []);
    }

    #[test]
    fn none_of_two_concurrent_writes_vanishes() {
        assert_eq!(two().live([&[1, 2], &[2], &[1, 2]]).found_by(check), [Some(1)]);
        assert_eq!(two().live([&[1, 2], &[1, 2], &[]]).found_by(check), [Some(2), Some(2)]);
    }

    #[test]
    fn a_promised_write_does_not_vanish_either() {
        let scene = two().fate(1, Fate::Promised).live([&[2], &[1, 2], &[1, 2]]);
        assert_eq!(scene.found_by(check), [Some(0)]);
        let acknowledged_only = two().fate(1, Fate::MayBeGone).call(put("a", acknowledged(1)));
        assert_eq!(acknowledged_only.live([&[2], &[1, 2], &[1, 2]]).found_by(check), [Some(0)]);
    }

    #[test]
    fn a_write_whose_disks_are_all_lost_may_be_gone() {
        assert_eq!(two().fate(1, Fate::MayBeGone).live_at_all(&[2]).found_by(check), []);
    }

    #[test]
    fn a_write_that_has_seen_both_replaces_both_however_it_came_to_see_them() {
        assert_eq!(two().put(3, "c", &[1, 2]).live_at_all(&[3]).found_by(check), []);
        assert_eq!(two().put(3, "c", &[2]).put(4, "d", &[1, 3]).live_at_all(&[4]).found_by(check), []);
    }

    #[test]
    fn a_write_that_has_seen_one_does_not_replace_the_other() {
        assert_eq!(two().put(3, "c", &[1]).live_at_all(&[2, 3]).found_by(check), []);
        let all = [Some(0), Some(1), Some(2)];
        assert_eq!(two().put(3, "c", &[1]).live_at_all(&[3]).found_by(check), all);
    }

    #[test]
    fn a_write_may_not_claim_to_have_seen_what_its_writer_had_not() {
        let claims = two().put(3, "c", &[1]).covering(3, &[1, 2]);
        // That is wrong of it, and the other is gone at each node.
        assert_eq!(claims.live_at_all(&[3]).found_by(check), [None, Some(0), Some(1), Some(2)]);
        let not_even_made = Scene::new().put(3, "c", &[]).covering(3, &[7]);
        assert_eq!(not_even_made.live_at_all(&[3]).found_by(check), [None]);
    }

    #[test]
    fn a_write_may_claim_less_than_its_writer_had_seen() {
        let scene = Scene::new().put(1, "a", &[]).put(2, "b", &[1]).covering(2, &[]);
        assert_eq!(scene.live_at_all(&[1, 2]).found_by(check), []);
    }

    #[test]
    fn the_greatest_put_is_shown() {
        let both = || two().live_at_all(&[1, 2]);
        assert_eq!(both().shown(all(&value("b", 2))).found_by(check), []);
        for wrong in [value("a", 1), value("a", 2), value("b", 1), Seen::Deleted, Seen::Missing] {
            let scene = both().shown([value("b", 2), wrong, value("b", 2)]);
            assert_eq!(scene.found_by(check), [Some(1)]);
        }
        let older_dot_later_time = both().with(1, |op| op.hlc = 3);
        assert_eq!(older_dot_later_time.shown(all(&value("a", 1))).found_by(check), []);
        let same_time = both().with(1, |op| op.hlc = 2);
        assert_eq!(same_time.shown(all(&value("b", 2))).found_by(check), []);
    }

    #[test]
    fn a_value_is_shown_before_a_later_delete_beside_it() {
        let scene = || Scene::new().put(1, "a", &[]).delete(2, &[]).live_at_all(&[1, 2]);
        assert_eq!(scene().shown(all(&value("a", 1))).found_by(check), []);
        assert_eq!(scene().shown(all(&Seen::Deleted)).found_by(check).len(), 3);
    }

    #[test]
    fn deleted_is_what_only_deletes_leave_and_missing_what_nothing_does() {
        let deleted = || Scene::new().delete(1, &[]).delete(2, &[]).live_at_all(&[1, 2]);
        assert_eq!(deleted().shown(all(&Seen::Deleted)).found_by(check), []);
        assert_eq!(deleted().shown(all(&Seen::Missing)).found_by(check).len(), 3);
        let nothing = || Scene::new().put(1, "a", &[]).fate(1, Fate::MayBeGone).live_at_all(&[]);
        assert_eq!(nothing().shown(all(&Seen::Missing)).found_by(check), []);
        assert_eq!(nothing().shown(all(&Seen::Deleted)).found_by(check).len(), 3);
        let unknown = Seen::Unknown { what: "500".to_owned() };
        assert_eq!(nothing().shown(all(&unknown)).found_by(check).len(), 3);
    }

    #[test]
    fn a_read_shows_the_greatest_too() {
        let seen = |seen: Seen| two().live_at_all(&[1, 2]).call(read(seen, &[1, 2])).found_by(check);
        assert_eq!(seen(value("b", 2)), []);
        assert_eq!(seen(value("a", 1)), [Some(0)]);
    }

    #[test]
    fn without_a_look_into_the_nodes_nothing_is_said() {
        let scene = Scene::new().call(put("a", acknowledged(1))).shown(all(&Seen::Missing));
        assert_eq!(scene.found_by(check), []);
    }
}
