//! G7: every answer that promises nothing has a documented shape and is true, and a write that is repeated under its
//! idempotency key makes no second record.

use std::collections::{BTreeMap, BTreeSet};

use federation_wire::api::DotText;

use super::books::Books;
use super::{Guarantee, Violation};
use crate::history::{Answer, Call, Fate, Request};

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
    let request = &call.request;
    match &call.answer {
        Answer::Undocumented { status, body } => {
            Some(format!("{request} was answered {status} with {body:?}"))
        }
        Answer::NotPromised { dot, got, needed, reason } => {
            if !REASONS.contains(&reason.as_str()) {
                return Some(format!(
                    "{request} was not promised for {reason:?}, which is no documented reason"
                ));
            }
            let nodes = books.history.nodes;
            if !(1 <= *got && got < needed && *needed <= nodes) {
                return Some(format!("{request} was not promised with {got} of {needed} of {nodes} nodes"));
            }
            if books.history.ops.is_empty() || books.history.reused.contains(dot) {
                return None;
            }
            match books.history.ops.get(dot) {
                Some(fact) if fact.key == call.key && fact.content.as_deref() == call.content() => None,
                Some(fact) => Some(format!(
                    "{request} was not promised as {dot}, which writes {:?} to {}",
                    fact.content, fact.key
                )),
                None => Some(format!("{request} was not promised as {dot}, which is no op")),
            }
        }
        _ => None,
    }
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

/// Writes that were repeated under one idempotency key, and are more than one.
fn repeated(books: &Books<'_>) -> Vec<Violation> {
    let mut writes: BTreeMap<(u32, &str, Option<&str>), Vec<&Call>> = BTreeMap::new();
    for call in &books.history.calls {
        if let Some(key) = call.idempotency_key.as_deref().filter(|_| call.request != Request::Read) {
            writes.entry((call.client, key, call.content())).or_default().push(call);
        }
    }
    let may_be_gone = |dot: &DotText| {
        let is_gone = books.history.ops.get(dot).is_some_and(|fact| fact.fate == Fate::MayBeGone);
        is_gone || books.history.reused.contains(dot)
    };
    let mut violations = Vec::new();
    for ((_, key, _), calls) in &writes {
        let named = calls.iter().filter_map(|call| Some((*call, named(call)?)));
        let mut named = named.filter(|(_, dot)| !may_be_gone(dot));
        let Some((_, first)) = named.next() else { continue };
        if let Some((call, second)) = named.find(|(_, dot)| *dot != first) {
            let seen = format!("{} under the key {key:?} is both {first} and {second}", call.request);
            violations.push(violation(call, seen));
        }
    }
    violations
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
    use crate::history::History;

    #[test]
    fn an_answer_that_no_document_names_is_seen() {
        let odd = Answer::Undocumented { status: 500, body: "oops".to_owned() };
        let calls =
            vec![put("a", acknowledged(1)), put("b", refused()), put("c", Answer::Cut), put("d", odd)];
        let history = History { nodes: 3, calls, ..History::default() };
        assert_eq!(named_of(&history), [Guarantee::G7]);
    }

    fn named_of(history: &History) -> Vec<Guarantee> {
        check(&Books::of(history)).into_iter().map(|violation| violation.guarantee).collect()
    }
}
