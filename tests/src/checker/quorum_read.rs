//! G6: with R + W > N a read sees every write that was acknowledged before it began.

use super::books::{Books, Past, RecordBook};
use super::{Guarantee, Violation, listed};
use crate::history::{Answer, Call, Seen};

/// Checks every read that was answered.
pub fn check(books: &Books<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for record in books.records() {
        for (at, read) in record.calls.iter().enumerate() {
            let Answer::Read { seen, .. } = &read.answer else { continue };
            let due: Vec<_> = due(books, record, at, read).collect();
            if due.is_empty() || matches!(seen, Seen::Unknown { .. }) {
                continue;
            }
            let missed = match books.shown(read) {
                Some(live) => missed(record, &due, &live),
                None => older(record, &due, read, seen),
            };
            violations.extend(missed.map(|seen| record.violation(Guarantee::G6, Some(read.node), seen)));
        }
    }
    violations
}

/// The writes that a read must see, by their places among the calls.
fn due<'a>(
    books: &Books<'_>,
    record: &'a RecordBook<'_>,
    at: usize,
    read: &Call,
) -> impl Iterator<Item = (usize, &'a Call)> {
    let nodes = books.history.nodes;
    let asked = read.level.unwrap_or(1);
    let writes = record.calls.iter().enumerate().map(|(at, call)| (at, *call));
    writes.filter(move |(written_at, write)| {
        let held = write.level.unwrap_or(nodes / 2 + 1);
        // Calls of one client are in order even where the clock is too coarse to show it.
        let is_before = write.end_us < read.begin_us
            || write.client == read.client && *written_at < at && write.end_us <= read.begin_us;
        write.acknowledged().is_some() && asked + held > nodes && is_before
    })
}

/// The first write that none of the versions read stands for.
fn missed(
    record: &RecordBook<'_>,
    due: &[(usize, &Call)],
    live: &[&federation_wire::api::DotText],
) -> Option<String> {
    let there = record.there(live.iter().copied(), Past::Covered);
    let is_there = |dot| record.number(dot).is_some_and(|number| there.has(number));
    let dot = due.iter().filter_map(|(_, call)| call.acknowledged()).find(|dot| !is_there(dot))?;
    Some(format!("a read saw {} and missed {dot}, acknowledged before it", listed(live.iter().copied())))
}

/// What is wrong with `seen` where only one client writes: that it is older than the last write that is due.
fn older(record: &RecordBook<'_>, due: &[(usize, &Call)], read: &Call, seen: &Seen) -> Option<String> {
    let (last, write) = due.last()?;
    let is_fine = match record.explained_by(read, seen) {
        Some(explained) => explained >= *last || !record.is_owned(),
        // Of a record that many write, what is there is any of theirs; that nothing is, is wrong all the same.
        None => !record.is_owned() && *seen != Seen::Missing,
    };
    (!is_fine).then(|| format!("a read saw {seen}, and {}, {}, came before it", write.request, write.answer))
}
