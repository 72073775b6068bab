//! G1: no acknowledged write is lost. At the end every write that was promised is on every node, or was replaced by
//! one that causally follows it.

use super::books::{BookedOp, Books, Past, RecordBook};
use super::{Guarantee, Violation, listed};
use crate::history::{Call, Request, Seen};

/// Checks every record.
pub fn check(books: &Books<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for record in books.records() {
        if books.is_white_box() {
            violations.extend(other_ops(books, record));
            violations.extend(lost_ops(books, record));
        } else {
            violations.extend(lost_values(books, record));
            violations.extend(unknown_ops(books, record));
        }
    }
    violations
}

/// Acknowledgements that name no op, or another than the one that was asked for.
fn other_ops(books: &Books<'_>, record: &RecordBook<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for call in &record.calls {
        let Some(dot) = call.acknowledged() else { continue };
        let fault = match books.history.ops.get(dot) {
            None => "is no op".to_owned(),
            Some(fact) if fact.key != record.key => format!("is an op of {}", fact.key),
            Some(fact) if fact.content.as_deref() != call.content() => {
                format!("writes {:?}", fact.content)
            }
            Some(_) => continue,
        };
        let seen = format!("{} was acknowledged as {dot}, which {fault}", call.request);
        violations.push(record.violation(Guarantee::G1, Some(call.node), seen));
    }
    violations
}

/// Promised ops that a node neither holds nor has replaced.
fn lost_ops(books: &Books<'_>, record: &RecordBook<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    if !record.ops.iter().any(BookedOp::is_owed) {
        return violations;
    }
    let by_node = books.history.finals.live.get(record.key).map_or(&[][..], Vec::as_slice);
    let finals = &books.history.finals;
    for node in (0..books.history.nodes).filter(|node| finals.is_kept_by(record.key, *node)) {
        let Some(live) = by_node.get(node) else {
            let seen = "nobody looked what it holds of a record that must be there".to_owned();
            violations.push(record.violation(Guarantee::G1, Some(node), seen));
            continue;
        };
        let there = record.there(live, Past::Covered);
        let promised = record.ops.iter().enumerate().filter(|(_, op)| op.is_promised);
        for (_, op) in promised.filter(|(number, _)| !there.has(*number)) {
            let seen = format!("the acknowledged op {} is gone: live are {}", op.describe(), listed(live));
            violations.push(record.violation(Guarantee::G1, Some(node), seen));
        }
    }
    violations
}

/// Values that no write explains, or that a promised one should have replaced.
fn lost_values(books: &Books<'_>, record: &RecordBook<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (node, seen) in books.history.finals.records.get(record.key).into_iter().flatten().enumerate() {
        let fault =
            if record.is_owned() { owned(&record.calls, seen) } else { contended(&record.calls, seen) };
        violations.extend(fault.map(|fault| record.violation(Guarantee::G1, Some(node), fault)));
    }
    violations
}

/// What is wrong with `seen` of a record with one owner: it must be the last promised write, or a later one that may
/// have been made.
fn owned(calls: &[&Call], seen: &Seen) -> Option<String> {
    let last = calls.iter().rposition(|call| call.acknowledged().is_some());
    let later = calls.get(last.map_or(0, |last| last + 1)..).unwrap_or_default();
    let mut allowed = later.iter().filter(|call| call.is_uncertain());
    if allowed.any(|call| call.explains(seen)) {
        return None;
    }
    match last.and_then(|last| calls.get(last)) {
        Some(promised) if promised.explains(seen) => None,
        Some(promised) => {
            let (request, answer) = (&promised.request, &promised.answer);
            Some(format!("{seen}, but the last acknowledged write is {request}, {answer}"))
        }
        None if *seen == Seen::Missing => None,
        None => Some(format!("{seen}, but no write of it was acknowledged or left open")),
    }
}

/// What is wrong with `seen` of a record that many write: it must come from one of the writes, and must be there if
/// one was promised and nobody deleted.
fn contended(calls: &[&Call], seen: &Seen) -> Option<String> {
    let mut made = calls.iter().filter(|call| call.acknowledged().is_some() || call.is_uncertain());
    let is_promised = calls.iter().any(|call| call.acknowledged().is_some());
    let is_explained = match seen {
        Seen::Missing => !is_promised,
        Seen::Value { .. } | Seen::Deleted => made.any(|call| call.explains(seen)),
        Seen::Unknown { .. } => false,
    };
    if is_explained {
        return None;
    }
    let writes = calls.iter().filter(|call| call.request != Request::Read).count();
    Some(format!("{seen}, which none of the {writes} writes explains"))
}

/// Promised ops of a contended record that a node has never seen.
fn unknown_ops(books: &Books<'_>, record: &RecordBook<'_>) -> Vec<Violation> {
    let promised = record.calls.iter().filter_map(|call| call.acknowledged());
    let mut violations = Vec::new();
    for dot in promised {
        let nodes = books.history.finals.known_ops.get(dot).map_or(&[][..], Vec::as_slice);
        for (node, _) in nodes.iter().enumerate().filter(|(_, is_known)| !**is_known) {
            let seen = format!("the acknowledged op {dot} is not known");
            violations.push(record.violation(Guarantee::G1, Some(node), seen));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::*;
    use crate::history::{Answer, Fate, FinalStates};

    const LOST: [(Guarantee, Option<usize>); 3] =
        [(Guarantee::G1, Some(0)), (Guarantee::G1, Some(1)), (Guarantee::G1, Some(2))];

    #[test]
    fn a_kept_write_is_kept() {
        let calls = [put("a", acknowledged(1)), put("b", acknowledged(2)), put("c", refused())];
        assert_eq!(found(&calls, &all(&value("b", 2))), []);
    }

    #[test]
    fn a_write_that_one_node_lacks_is_lost() {
        let calls = [put("a", acknowledged(1)), put("b", acknowledged(2))];
        let seen = [value("b", 2), value("b", 2), value("a", 1)];
        assert_eq!(found(&calls, &seen), [(Guarantee::G1, Some(2))]);
        let seen = [value("b", 2), Seen::Missing, value("b", 2)];
        assert_eq!(found(&calls, &seen), [(Guarantee::G1, Some(1))]);
        let seen = [Seen::Deleted, value("b", 2), value("b", 2)];
        assert_eq!(found(&calls, &seen), [(Guarantee::G1, Some(0))]);
    }

    #[test]
    fn the_content_under_another_op_is_another_write() {
        let calls = [put("a", acknowledged(1))];
        assert_eq!(found(&calls, &all(&value("a", 9))), LOST);
    }

    #[test]
    fn a_later_write_that_was_not_promised_may_be_there_and_may_not() {
        for open in [not_promised(2), Answer::Cut, Answer::TimedOut] {
            let calls = [put("a", acknowledged(1)), put("b", open)];
            assert_eq!(found(&calls, &all(&value("a", 1))), []);
            assert_eq!(found(&calls, &all(&value("b", 2))), []);
            assert_eq!(found(&calls, &all(&Seen::Missing)), LOST);
        }
    }

    #[test]
    fn an_earlier_write_that_was_not_promised_is_replaced() {
        let calls = [put("a", not_promised(1)), put("b", acknowledged(2))];
        assert_eq!(found(&calls, &all(&value("b", 2))), []);
        assert_eq!(found(&calls, &all(&value("a", 1))), LOST);
    }

    #[test]
    fn a_write_that_was_refused_or_never_sent_is_not_there() {
        for nothing in [refused(), Answer::Unreached] {
            let calls = [put("a", nothing)];
            assert_eq!(found(&calls, &all(&Seen::Missing)), []);
            assert_eq!(found(&calls, &all(&value("a", 1))), LOST);
        }
    }

    #[test]
    fn an_acknowledged_delete_is_a_write_like_others() {
        let calls = [put("a", acknowledged(1)), delete(acknowledged(2)), put("b", acknowledged(3))];
        assert_eq!(found(&calls, &all(&value("b", 3))), []);
        assert_eq!(found(&calls, &all(&Seen::Deleted)), LOST);
    }

    #[test]
    fn of_a_contended_record_any_write_may_win_but_one_must() {
        let calls = [shared(put("a", acknowledged(1))), shared(put("b", acknowledged(2)))];
        assert_eq!(found(&calls, &all(&value("a", 1))), []);
        assert_eq!(found(&calls, &all(&value("b", 2))), []);
        assert_eq!(found(&calls, &all(&value("z", 3))), LOST);
        assert_eq!(found(&calls, &all(&Seen::Missing)), LOST);
        assert_eq!(found(&calls, &all(&Seen::Deleted)), LOST);
    }

    #[test]
    fn an_op_of_a_contended_record_that_a_node_never_saw_is_lost() {
        let calls = [shared(put("a", acknowledged(1))), shared(put("b", acknowledged(2)))];
        let mut finals = FinalStates::default();
        finals.records.insert("k".to_owned(), all(&value("b", 2)).to_vec());
        finals.known_ops.insert(dot(1), vec![true, true, true]);
        assert_eq!(found_in(&calls, &finals), []);
        finals.known_ops.insert(dot(1), vec![true, false, true]);
        assert_eq!(found_in(&calls, &finals), [(Guarantee::G1, Some(1))]);
    }

    #[test]
    fn a_node_that_does_not_answer_has_not_kept_anything() {
        let calls = [put("a", acknowledged(1))];
        let unknown = Seen::Unknown { what: "500".to_owned() };
        assert_eq!(found(&calls, &all(&unknown)), LOST);
    }
    const EVERYWHERE: [Option<usize>; 3] = [Some(0), Some(1), Some(2)];

    /// Three writes, each of which had seen the one before; the first was acknowledged.
    fn chain() -> Scene {
        let scene = Scene::new().put(1, "a", &[]).put(2, "b", &[1]).put(3, "c", &[2]);
        scene.fate(1, Fate::Promised).call(put("a", acknowledged(1)))
    }

    #[test]
    fn a_promised_op_is_live_or_replaced_however_often() {
        assert_eq!(chain().live_at_all(&[1]).found_by(check), []);
        assert_eq!(chain().live_at_all(&[2]).found_by(check), []);
        assert_eq!(chain().live_at_all(&[3]).found_by(check), []);
        assert_eq!(chain().delete(4, &[3]).live_at_all(&[4]).found_by(check), []);
    }

    #[test]
    fn a_promised_op_that_a_node_lacks_is_lost() {
        assert_eq!(chain().live([&[1], &[], &[3]]).found_by(check), [Some(1)]);
        assert_eq!(chain().live_at_all(&[]).found_by(check), EVERYWHERE);
    }

    #[test]
    fn a_promised_op_is_not_replaced_by_one_that_had_not_seen_it() {
        let scene = chain().put(4, "d", &[]);
        assert_eq!(scene.live([&[1, 4], &[4], &[3, 4]]).found_by(check), [Some(1)]);
    }

    #[test]
    fn an_op_that_was_not_promised_is_not_missed() {
        let scene = Scene::new().put(1, "a", &[]).put(2, "b", &[]).fate(2, Fate::MayBeGone);
        assert_eq!(scene.live_at_all(&[]).found_by(check), []);
    }

    #[test]
    fn an_acknowledgement_is_a_promise_whatever_the_books_say() {
        for fate in [Fate::Durable, Fate::MayBeGone] {
            assert_eq!(chain().fate(1, fate).live([&[1], &[1], &[]]).found_by(check), [Some(2)]);
        }
    }

    #[test]
    fn a_promise_of_the_books_is_one_though_no_client_has_heard_it() {
        let scene = Scene::new().put(1, "a", &[]).fate(1, Fate::Promised).call(put("a", Answer::TimedOut));
        assert_eq!(scene.live([&[], &[1], &[1]]).found_by(check), [Some(0)]);
    }

    #[test]
    fn a_node_that_nobody_looked_at_has_not_kept_anything() {
        assert_eq!(chain().found_by(check), EVERYWHERE);
        let mut short = chain().live_at_all(&[1]);
        short.0.finals.live.values_mut().for_each(|live| drop(live.pop()));
        assert_eq!(short.found_by(check), [Some(2)]);
        let durable_only = Scene::new().put(1, "a", &[]);
        assert_eq!(durable_only.found_by(check), EVERYWHERE);
    }

    #[test]
    fn an_acknowledgement_names_the_op_that_was_asked_for() {
        let answered = |call: Call| chain().live_at_all(&[3]).call(call).found_by(check);
        assert_eq!(answered(put("b", acknowledged(2))), []);
        assert_eq!(answered(put("b", acknowledged(9))), [Some(0)]);
        assert_eq!(answered(put("other", acknowledged(2))), [Some(0)]);
        assert_eq!(answered(delete(acknowledged(2))), [Some(0)]);
        let elsewhere = Call { key: "other".to_owned(), ..put("b", acknowledged(2)) };
        assert_eq!(answered(elsewhere), [Some(0)]);
    }
}
