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
        let has_seen = |dot: &DotText| record.number(dot).is_some_and(|number| op.knew.has(number));
        let beyond: Vec<_> = op.fact.covers.iter().filter(|dot| !has_seen(dot)).collect();
        if !beyond.is_empty() {
            let seen = format!("{} covers {}, which its writer had not seen", op.describe(), listed(beyond));
            violations.push(record.violation(Guarantee::G5, None, seen));
        }
    }
    violations
}

/// Ops that some disk kept, and that a node has neither live nor under one whose writer had seen them.
fn vanished(books: &Books<'_>, record: &RecordBook<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (node, live) in books.history.finals.live.get(record.key).into_iter().flatten().enumerate() {
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
