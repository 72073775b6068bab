//! G7: every answer that promises nothing has a documented shape and is true, and a write that is repeated under its
//! idempotency key makes no second record.

use std::collections::{BTreeMap, BTreeSet};

use federation_core::id::NodeId;
use federation_wire::api::DotText;

use super::books::Books;
use super::{Guarantee, Violation};
use crate::history::{Answer, Call, Fate, OpFact};

/// The reasons that the documents name.
const REASONS: [&str; 5] = ["insufficient_peers", "id_drift", "timeout", "refused", "unreachable"];

/// Checks every answer, and what there is of the writes that were answered so.
pub fn check(books: &Books<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for call in &books.history.calls {
        violations.extend(untrue(books, call).map(|seen| violation(call, seen)));
    }
    violations.extend(unwritten(books));
    violations.extend(repeated(books));
    violations
}

/// What is wrong with one answer.
fn untrue(books: &Books<'_>, call: &Call) -> Option<String> {
    let (request, nodes) = (&call.request, books.history.nodes);
    match &call.answer {
        Answer::Undocumented { status, body } => {
            Some(format!("{request} was answered {status} with {body:?}"))
        }
        Answer::NotPromised { reason, .. } if !REASONS.contains(&reason.as_str()) => {
            Some(format!("{request} was not promised for {reason:?}, which is no documented reason"))
        }
        Answer::NotPromised { got, needed, .. } if !(1 <= *got && got < needed && *needed <= nodes) => {
            Some(format!("{request} was not promised with {got} of {needed}, there are {nodes} nodes"))
        }
        Answer::NotPromised { dot, .. } => other_op(books, call, dot),
        _ => None,
    }
}

/// What is wrong with the op that a write that was not promised is said to be.
fn other_op(books: &Books<'_>, call: &Call, dot: &DotText) -> Option<String> {
    if !books.is_white_box() {
        return None;
    }
    let fault = match books.history.ops.get(dot) {
        Some(fact) if fact.key == call.key && fact.content.as_deref() == call.content() => return None,
        Some(fact) => format!("writes {:?} to {}", fact.content, fact.key),
        None => "is no op".to_owned(),
    };
    Some(format!("{} was not promised as {dot}, which {fault}", call.request))
}

/// Writes of which every answer says that nothing was written, and that are there.
fn unwritten(books: &Books<'_>) -> Vec<Violation> {
    let mut refused: BTreeMap<&str, &Call> = BTreeMap::new();
    let mut possible: BTreeSet<&str> = BTreeSet::new();
    for call in &books.history.calls {
        let Some(content) = call.content() else { continue };
        match call.answer {
            Answer::Refused { .. } | Answer::Unreached => drop(refused.insert(content, call)),
            _ => drop(possible.insert(content)),
        }
    }
    let mut violations = Vec::new();
    for (dot, fact) in &books.history.ops {
        let Some(content) = fact.content.as_deref().filter(|content| !possible.contains(content)) else {
            continue;
        };
        if let Some(call) = refused.get(content) {
            let seen = format!("{} was answered \"{}\", and is there as {dot}", call.request, call.answer);
            violations.push(violation(call, seen));
        }
    }
    violations
}

/// Writes that were repeated under one idempotency key, and became more than one.
///
/// A node knows the key of a write that it made itself: it has one op for it. A write that is repeated at another node,
/// which the first may not have reached, may be another op, of the same record: there is one record for it everywhere.
fn repeated(books: &Books<'_>) -> Vec<Violation> {
    let mut writes: BTreeMap<(u32, &str, Option<&str>), Vec<&Call>> = BTreeMap::new();
    for call in books.history.calls.iter().filter(|call| call.is_write()) {
        if let Some(key) = call.idempotency_key.as_deref() {
            writes.entry((call.client, key, call.content())).or_default().push(call);
        }
    }
    let mut made: BTreeMap<&str, Vec<(&DotText, &OpFact)>> = BTreeMap::new();
    if !writes.is_empty() {
        for (dot, fact) in books.history.ops.iter().filter(|(dot, _)| !may_be_gone(books, dot)) {
            made.entry(fact.content.as_deref().unwrap_or_default()).or_default().push((dot, fact));
        }
    }
    let mut violations = Vec::new();
    for ((_, key, content), calls) in &writes {
        let ops = content.and_then(|content| made.get(content)).map_or(&[][..], Vec::as_slice);
        let found =
            second_answer(books, calls).or_else(|| second_op(ops).map(|seen| (calls.first().copied(), seen)));
        if let Some((Some(call), seen)) = found {
            violations.push(violation(call, format!("{} under the key {key:?} is {seen}", call.request)));
        }
    }
    violations
}

/// Whether what was told of an op may be undone by the loss of its only disk, so that a repeated write is a new one.
fn may_be_gone(books: &Books<'_>, dot: &DotText) -> bool {
    books.history.ops.get(dot).is_some_and(|fact| fact.fate == Fate::MayBeGone)
}

/// An answer that names another record, or at the same node another op, than one before.
fn second_answer<'a>(books: &Books<'_>, calls: &[&'a Call]) -> Option<(Option<&'a Call>, String)> {
    let mut first_at: BTreeMap<usize, &DotText> = BTreeMap::new();
    let first = calls.first()?;
    for call in calls {
        if call.key != first.key {
            return Some((Some(*call), format!("of both {} and {}", first.key, call.key)));
        }
        let Some(dot) = named(call).filter(|dot| !may_be_gone(books, dot)) else { continue };
        let known = *first_at.entry(call.node).or_insert(dot);
        if known != dot {
            return Some((Some(*call), format!("both {known} and {dot} at one node")));
        }
    }
    None
}

/// Two ops of one write: of two records, or made by one node.
fn second_op(ops: &[(&DotText, &OpFact)]) -> Option<String> {
    let mut by_origin: BTreeMap<&NodeId, &DotText> = BTreeMap::new();
    let (first, first_fact) = ops.first()?;
    for (dot, fact) in ops {
        if fact.key != first_fact.key {
            return Some(format!("{first} of {} and {dot} of {}", first_fact.key, fact.key));
        }
        if let Some(known) = by_origin.insert(&dot.0.origin.node, dot) {
            return Some(format!("both {known} and {dot} of one node"));
        }
    }
    None
}

/// The op that an answer to a write names.
fn named(call: &Call) -> Option<&DotText> {
    match &call.answer {
        Answer::Acknowledged { dot } | Answer::NotPromised { dot, .. } => Some(dot),
        _ => None,
    }
}

fn violation(call: &Call, seen: String) -> Violation {
    Violation {
        guarantee: Guarantee::G7,
        node: Some(call.node),
        key: Some(call.key.clone()),
        seen,
        calls: vec![call.clone()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::*;
    use crate::history::{Request, Seen};

    fn found(calls: impl IntoIterator<Item = Call>, scene: Scene) -> usize {
        calls.into_iter().fold(scene, Scene::call).found_by(check).len()
    }

    fn short_of(got: usize, needed: usize, reason: &str) -> Call {
        let reason = reason.to_owned();
        put("a", Answer::NotPromised { dot: dot(1), got, needed, reason })
    }

    fn keyed(key: &str, call: Call) -> Call {
        Call { idempotency_key: Some(key.to_owned()), ..call }
    }

    fn at_node(node: usize, call: Call) -> Call {
        Call { node, ..call }
    }

    #[test]
    fn an_answer_that_no_document_names_is_seen() {
        let odd = Answer::Undocumented { status: 500, body: "oops".to_owned() };
        let calls = [put("a", acknowledged(1)), put("b", refused()), put("c", Answer::Cut), put("d", odd)];
        assert_eq!(found(calls, Scene::new()), 1);
        let odd = Answer::Undocumented { status: 200, body: "{}".to_owned() };
        let odd_read = Call { request: Request::Read, ..put("", odd) };
        assert_eq!(found([odd_read], Scene::new()), 1);
    }

    #[test]
    fn a_quorum_that_was_missed_has_a_documented_reason() {
        for reason in REASONS {
            assert_eq!(found([short_of(1, 2, reason)], Scene::new()), 0, "{reason}");
        }
        for reason in ["", "Timeout", "overloaded"] {
            assert_eq!(found([short_of(1, 2, reason)], Scene::new()), 1, "{reason}");
        }
    }

    #[test]
    fn a_quorum_that_was_missed_was_missed() {
        for (got, needed) in [(1, 2), (1, 3), (2, 3)] {
            assert_eq!(found([short_of(got, needed, "timeout")], Scene::new()), 0, "{got} of {needed}");
        }
        for (got, needed) in [(0, 2), (2, 2), (3, 2), (0, 0), (1, 4), (1, 0)] {
            assert_eq!(found([short_of(got, needed, "timeout")], Scene::new()), 1, "{got} of {needed}");
        }
    }

    #[test]
    fn a_write_that_was_not_promised_is_the_op_it_is_said_to_be() {
        let scene = || Scene::new().put(1, "a", &[]).put(2, "b", &[]).delete(3, &[]);
        assert_eq!(found([put("a", not_promised(1))], scene()), 0);
        assert_eq!(found([delete(not_promised(3))], scene()), 0);
        assert_eq!(found([put("a", not_promised(2))], scene()), 1);
        assert_eq!(found([put("a", not_promised(3))], scene()), 1);
        assert_eq!(found([delete(not_promised(1))], scene()), 1);
        assert_eq!(found([put("a", not_promised(9))], scene()), 1);
        let elsewhere = Call { key: "other".to_owned(), ..put("a", not_promised(1)) };
        assert_eq!(found([elsewhere], scene()), 1);
    }

    #[test]
    fn what_was_refused_or_never_sent_is_not_there() {
        for nothing in [refused(), Answer::Unreached] {
            assert_eq!(found([put("a", nothing.clone())], Scene::new().put(1, "b", &[])), 0);
            assert_eq!(found([put("a", nothing)], Scene::new().put(1, "a", &[])), 1);
        }
        for maybe in [Answer::Cut, Answer::TimedOut, not_promised(1), acknowledged(1)] {
            assert_eq!(found([put("a", maybe)], Scene::new().put(1, "a", &[])), 0);
        }
    }

    #[test]
    fn a_repeated_write_that_is_refused_may_be_there_from_before() {
        let calls = [keyed("i", put("a", Answer::Cut)), keyed("i", put("a", refused()))];
        assert_eq!(found(calls, Scene::new().put(1, "a", &[])), 0);
    }

    #[test]
    fn a_repeated_write_is_the_same_op_at_the_same_node() {
        let twice = |second: Call| [keyed("i", put("a", not_promised(1))), second];
        assert_eq!(found(twice(keyed("i", put("a", acknowledged(1)))), Scene::new()), 0);
        assert_eq!(found(twice(keyed("i", put("a", acknowledged(2)))), Scene::new()), 1);
        assert_eq!(found(twice(keyed("i", put("a", not_promised(2)))), Scene::new()), 1);
        // Other keys, other clients and other writes are no repetitions.
        assert_eq!(found(twice(keyed("j", put("a", acknowledged(2)))), Scene::new()), 0);
        assert_eq!(found(twice(keyed("i", put("b", acknowledged(2)))), Scene::new()), 0);
        let other_client = Call { client: 9, ..keyed("i", put("a", acknowledged(2))) };
        assert_eq!(found(twice(other_client), Scene::new()), 0);
        assert_eq!(found(twice(put("a", acknowledged(2))), Scene::new()), 0);
    }

    #[test]
    fn a_write_that_is_repeated_at_another_node_is_the_same_record() {
        let twice = |second: Call| [keyed("i", put("a", not_promised(1))), at_node(1, keyed("i", second))];
        assert_eq!(found(twice(put("a", acknowledged(2))), Scene::new()), 0);
        let other_record = Call { key: "other".to_owned(), ..put("a", acknowledged(2)) };
        assert_eq!(found(twice(other_record), Scene::new()), 1);
    }

    #[test]
    fn a_repeated_write_whose_disk_was_lost_is_new() {
        let calls = || [keyed("i", put("a", not_promised(1))), keyed("i", put("a", acknowledged(2)))];
        let scene = || Scene::new().put(1, "a", &[]).put(2, "a", &[]);
        assert_eq!(found(calls(), scene().fate(1, Fate::MayBeGone)), 0);
        assert!(found(calls(), scene()) > 0);
    }

    #[test]
    fn a_repeated_write_of_which_nobody_was_told_makes_no_second_op() {
        let calls = || [keyed("i", put("a", Answer::Cut)), keyed("i", put("a", Answer::TimedOut))];
        assert_eq!(found(calls(), Scene::new().put(1, "a", &[])), 0);
        let twice = || Scene::new().put(1, "a", &[]).put(2, "a", &[]);
        assert_eq!(found(calls(), twice()), 1);
        assert_eq!(found(calls(), twice().fate(2, Fate::MayBeGone)), 0);
        let mut two_nodes = Scene::new().put(1, "a", &[]);
        let fact = two_nodes.0.ops[&dot(1)].clone();
        let elsewhere: DotText = "node-2/00000000000000ab/1".parse().unwrap();
        two_nodes.0.ops.insert(elsewhere.clone(), fact.clone());
        assert_eq!(found(calls(), Scene(two_nodes.0.clone())), 0);
        two_nodes.0.ops.insert(elsewhere, OpFact { key: "other".to_owned(), ..fact });
        assert_eq!(found(calls(), two_nodes), 1);
    }

    #[test]
    fn a_read_is_no_write_to_be_repeated() {
        let first = keyed("i", read(Seen::Missing, &[]));
        let second = Call { key: "other".to_owned(), ..first.clone() };
        assert_eq!(found([first, second], Scene::new()), 0);
    }
}
