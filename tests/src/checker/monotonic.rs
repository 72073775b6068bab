//! G10: no answered read of a session goes back in causal order.

use std::collections::BTreeMap;

use federation_wire::api::DotText;

use super::books::{Books, Past, RecordBook};
use super::{Guarantee, Violation, listed};
use crate::history::{Answer, Call, Seen};

/// Checks the reads of every session, against its earlier reads and its own acknowledged writes.
pub fn check(books: &Books<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for record in books.records() {
        let mut sessions: BTreeMap<u64, Vec<(usize, &Call)>> = BTreeMap::new();
        for (at, call) in record.calls.iter().enumerate() {
            if let Some(session) = call.session {
                sessions.entry(session).or_default().push((at, call));
            }
        }
        for mut calls in sessions.into_values() {
            calls.sort_by_key(|(at, call)| (call.begin_us, *at));
            let mut session = Session { books, record, known: Vec::new() };
            violations.extend(calls.into_iter().filter_map(|(at, call)| session.follow(at, call)));
        }
    }
    violations
}

/// What a session knows of a record.
struct Session<'b, 'h> {
    books: &'b Books<'h>,
    record: &'b RecordBook<'h>,
    known: Vec<Fact<'b>>,
}

/// Something that no later read may miss.
struct Fact<'b> {
    since_us: u64,
    what: What<'b>,
}

/// What was read or written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What<'b> {
    /// The op of this name.
    Op(&'b DotText),
    /// The write at this place among the calls, of a record with one owner.
    Write(usize),
}

impl<'b> Session<'b, '_> {
    /// Takes the next call; says what it missed.
    fn follow(&mut self, at: usize, call: &'b Call) -> Option<Violation> {
        if let Some(dot) = call.acknowledged() {
            self.learn(call, What::Op(dot));
            self.learn(call, What::Write(at));
            return None;
        }
        let Answer::Read { seen, .. } = &call.answer else { return None };
        if matches!(seen, Seen::Unknown { .. }) {
            return None;
        }
        match self.books.shown(call) {
            Some(live) => self.read_ops(call, &live),
            None if self.record.is_owned() => self.read_value(call, seen),
            None => None,
        }
    }

    fn read_ops(&mut self, call: &'b Call, live: &[&'b DotText]) -> Option<Violation> {
        let there = self.record.there(live.iter().copied(), Past::Covered);
        let missed: Vec<_> = self
            .before(call)
            .filter_map(|what| match what {
                What::Op(dot) => Some(dot),
                What::Write(_) => None,
            })
            .filter(|dot| {
                self.record.number(dot).is_some_and(|number| {
                    let is_promised = self.record.ops.get(number).is_some_and(|op| op.is_owed());
                    is_promised && !there.has(number)
                })
            })
            .collect();
        live.iter().for_each(|dot| self.learn(call, What::Op(dot)));
        if missed.is_empty() {
            return None;
        }
        // It is told once.
        self.known.retain(|fact| !matches!(fact.what, What::Op(dot) if missed.contains(&dot)));
        let seen = format!(
            "a session read {} and missed {}, which it had read or written before",
            listed(live.iter().copied()),
            listed(missed)
        );
        Some(self.record.violation(Guarantee::G10, Some(call.node), seen))
    }

    fn read_value(&mut self, call: &'b Call, seen: &Seen) -> Option<Violation> {
        let places = self.before(call).filter_map(|what| match what {
            What::Write(at) => Some(at),
            What::Op(_) => None,
        });
        let floor = places.max();
        let place = self.record.explained_by(call, seen);
        if let Some(place) = place {
            self.learn(call, What::Write(place));
        }
        let is_back = match (place, floor) {
            (Some(place), Some(floor)) => place < floor,
            (None, Some(_)) => *seen == Seen::Missing,
            (_, None) => false,
        };
        if !is_back {
            return None;
        }
        let newer = self.record.calls.get(floor?)?;
        let seen = format!(
            "a session read {seen} after it had read or written what {} {} left",
            newer.request, newer.answer
        );
        Some(self.record.violation(Guarantee::G10, Some(call.node), seen))
    }

    /// What was known before a call began.
    fn before(&self, call: &Call) -> impl Iterator<Item = What<'b>> {
        self.known.iter().filter(|fact| fact.since_us <= call.begin_us).map(|fact| fact.what)
    }

    fn learn(&mut self, call: &Call, what: What<'b>) {
        if self.known.iter().all(|fact| fact.what != what) {
            self.known.push(Fact { since_us: call.end_us, what });
        }
    }
}
