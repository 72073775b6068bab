//! Histories by hand.

use std::collections::BTreeMap;

use federation_wire::api::DotText;

use crate::checker::{Guarantee, Violation, check_claims};
use crate::history::{Answer, Call, FinalStates, History, Request, Seen, Sharing};

/// The n-th op of a node.
pub(crate) fn dot(seq: u64) -> DotText {
    format!("node-1/00000000000000ab/{seq}").parse().unwrap()
}

pub(crate) fn acknowledged(seq: u64) -> Answer {
    Answer::Acknowledged { dot: dot(seq) }
}

pub(crate) fn not_promised(seq: u64) -> Answer {
    Answer::NotPromised { dot: dot(seq), got: 1, needed: 2, reason: "timeout".to_owned() }
}

pub(crate) fn refused() -> Answer {
    Answer::Refused { status: 409, slug: "already_exists".to_owned() }
}

pub(crate) fn put(content: &str, answer: Answer) -> Call {
    call(Request::Update { content: content.to_owned() }, answer)
}

pub(crate) fn delete(answer: Answer) -> Call {
    call(Request::Delete, answer)
}

pub(crate) fn shared(call: Call) -> Call {
    Call { sharing: Sharing::Contended, ..call }
}

pub(crate) fn value(content: &str, seq: u64) -> Seen {
    Seen::Value { content: content.to_owned(), dot: dot(seq) }
}

/// What of G1 and G4 is found violated when three nodes show this of the one record of the history.
pub(crate) fn found(calls: &[Call], seen: &[Seen; 3]) -> Vec<(Guarantee, Option<usize>)> {
    let records = BTreeMap::from([("k".to_owned(), seen.to_vec())]);
    found_in(calls, &FinalStates { records, ..FinalStates::default() })
}

pub(crate) fn found_in(calls: &[Call], finals: &FinalStates) -> Vec<(Guarantee, Option<usize>)> {
    let (calls, finals) = (calls.to_vec(), finals.clone());
    let history = History { nodes: 3, calls, finals, ..History::default() };
    named(&check_claims(&history, &[Guarantee::G1, Guarantee::G4].into()))
}

/// Which guarantees were violated at which nodes.
pub(crate) fn named(violations: &[Violation]) -> Vec<(Guarantee, Option<usize>)> {
    violations.iter().map(|violation| (violation.guarantee, violation.node)).collect()
}

/// What all three nodes show alike.
pub(crate) fn all(seen: &Seen) -> [Seen; 3] {
    [seen.clone(), seen.clone(), seen.clone()]
}

fn call(request: Request, answer: Answer) -> Call {
    Call {
        client: 1,
        node: 0,
        key: "k".to_owned(),
        sharing: Sharing::Owned,
        session: None,
        level: None,
        idempotency_key: None,
        request,
        begin_us: 0,
        end_us: 1,
        answer,
    }
}
