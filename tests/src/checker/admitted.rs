//! G8: nothing enters a node that its origin did not make, or that its sender may not send.

use federation_wire::api::DotText;

use super::books::{Books, RecordBook};
use super::{Guarantee, Violation};
use crate::history::{Answer, IntrusionAnswer};

/// Checks what was answered to those who may not, and where every version that a node holds or shows came from.
pub fn check(books: &Books<'_>) -> Vec<Violation> {
    let mut violations = intrusions(books);
    for record in books.records() {
        for (node, live) in books.history.finals.live.get(record.key).into_iter().flatten().enumerate() {
            let strangers = live.iter().filter_map(|dot| strange(books, record, dot));
            violations.extend(strangers.map(|seen| record.violation(Guarantee::G8, Some(node), seen)));
        }
        for call in &record.calls {
            let Answer::Read { live, .. } = &call.answer else { continue };
            let known = live.iter().filter(|dot| !books.history.reused.contains(*dot));
            let strangers = known.filter_map(|dot| strange(books, record, dot));
            violations.extend(strangers.map(|seen| record.violation(Guarantee::G8, Some(call.node), seen)));
        }
    }
    violations
}

fn intrusions(books: &Books<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for intrusion in &books.history.intrusions {
        let IntrusionAnswer::Accepted { what } = &intrusion.answer else { continue };
        violations.push(Violation {
            guarantee: Guarantee::G8,
            node: Some(intrusion.node),
            key: None,
            seen: format!("{} was not refused: {what}", intrusion.kind),
            calls: Vec::new(),
        });
    }
    violations
}

/// What is wrong with a version of this name being live on the record.
fn strange(books: &Books<'_>, record: &RecordBook<'_>, dot: &DotText) -> Option<String> {
    match books.history.ops.get(dot) {
        Some(fact) if fact.key == record.key => None,
        Some(fact) => Some(format!("it has {dot}, which is an op of {}", fact.key)),
        None => Some(format!("it has {dot}, which its origin never made")),
    }
}
