//! G10: no answered read of a session goes back in causal order: what it has read or written once, it does not miss
//! later. But for ops that were promised to nobody and whose every disk was lost.

use std::collections::BTreeMap;

use federation_wire::api::DotText;

use super::books::{BookedOp, Books, Past, RecordBook};
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
    /// The write at this place among the calls.
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
            None => self.read_value(call, seen),
        }
    }

    fn read_ops(&mut self, call: &'b Call, live: &[&'b DotText]) -> Option<Violation> {
        let there = self.record.there(live.iter().copied(), Past::Covered);
        let is_missed = |dot: &&DotText| {
            let Some(number) = self.record.number(dot) else { return false };
            !there.has(number) && self.record.ops.get(number).is_some_and(BookedOp::is_owed)
        };
        let missed: Vec<_> = self.ops_before(call).filter(is_missed).collect();
        for dot in live {
            self.learn(call, What::Op(dot));
        }
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

    /// By calls alone. Of a record that many write no one knows which write came first, but that there was one.
    fn read_value(&mut self, call: &'b Call, seen: &Seen) -> Option<Violation> {
        let newest = self.writes_before(call).max();
        let place = self.record.explained_by(call, seen);
        if let Some(place) = place {
            self.learn(call, What::Write(place));
        }
        let is_back = match (place, newest) {
            (Some(place), Some(newest)) => self.record.is_owned() && place < newest,
            (None, Some(_)) => *seen == Seen::Missing,
            (_, None) => false,
        };
        let newer = self.record.calls.get(newest.filter(|_| is_back)?)?;
        let seen = format!(
            "a session read {seen} after it had read or made this: {}, {}",
            newer.request, newer.answer
        );
        Some(self.record.violation(Guarantee::G10, Some(call.node), seen))
    }

    fn ops_before(&self, call: &Call) -> impl Iterator<Item = &'b DotText> {
        self.before(call).filter_map(|what| match what {
            What::Op(dot) => Some(dot),
            What::Write(_) => None,
        })
    }

    fn writes_before(&self, call: &Call) -> impl Iterator<Item = usize> {
        self.before(call).filter_map(|what| match what {
            What::Write(at) => Some(at),
            What::Op(_) => None,
        })
    }

    /// What was known when a call began.
    fn before(&self, call: &Call) -> impl Iterator<Item = What<'b>> {
        self.known.iter().filter(|fact| fact.since_us <= call.begin_us).map(|fact| fact.what)
    }

    fn learn(&mut self, call: &Call, what: What<'b>) {
        if self.known.iter().all(|fact| fact.what != what) {
            self.known.push(Fact { since_us: call.end_us, what });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::*;
    use crate::history::Fate;

    fn in_session(session: u64, call: Call) -> Call {
        Call { session: Some(session), ..call }
    }

    /// Two concurrent writes "a" and "b", then "c" over "a", and "d" over all.
    fn writes() -> Scene {
        Scene::new().put(1, "a", &[]).put(2, "b", &[]).put(3, "c", &[1]).put(4, "d", &[2, 3])
    }

    /// A session reads these, one after the other.
    fn reads(scene: Scene, reads: &[&[u64]]) -> Vec<Option<usize>> {
        let calls = reads.iter().zip(1_u64..);
        let calls = calls.map(|(live, n)| at(10 * n, 10 * n + 5, in_session(1, read(Seen::Missing, live))));
        calls.fold(scene, Scene::call).found_by(check)
    }

    #[test]
    fn a_session_goes_forward() {
        assert_eq!(reads(writes(), &[&[], &[1], &[1, 2], &[2, 3], &[4], &[4]]), []);
        assert_eq!(reads(writes(), &[&[1], &[4]]), []);
    }

    #[test]
    fn a_session_does_not_go_back() {
        assert_eq!(reads(writes(), &[&[3], &[1]]), [Some(0)]);
        assert_eq!(reads(writes(), &[&[1], &[]]), [Some(0)]);
        assert_eq!(reads(writes(), &[&[1, 2], &[2]]), [Some(0)]);
        assert_eq!(reads(writes(), &[&[4], &[2, 3]]), [Some(0)]);
    }

    #[test]
    fn a_session_does_not_go_sideways() {
        assert_eq!(reads(writes(), &[&[1], &[2]]), [Some(0)]);
        assert_eq!(reads(writes(), &[&[3], &[1, 2]]), [Some(0)]);
    }

    #[test]
    fn what_was_missed_is_told_once_and_what_was_read_long_ago_is_remembered() {
        assert_eq!(reads(writes(), &[&[3], &[1], &[1], &[3]]), [Some(0)]);
        assert_eq!(reads(writes(), &[&[1], &[1, 2], &[3, 2], &[2]]).len(), 1);
    }

    #[test]
    fn an_op_whose_disks_are_all_lost_may_be_gone() {
        assert_eq!(reads(writes().fate(1, Fate::MayBeGone), &[&[1], &[]]), []);
        assert_eq!(reads(writes().fate(1, Fate::Promised), &[&[1], &[]]), [Some(0)]);
    }

    #[test]
    fn sessions_do_not_bind_each_other_and_calls_outside_of_one_not_at_all() {
        let first = at(10, 11, in_session(1, read(Seen::Missing, &[3])));
        let back = at(20, 21, read(Seen::Missing, &[1]));
        assert_eq!(writes().call(first.clone()).call(back.clone()).found_by(check), []);
        assert_eq!(writes().call(first.clone()).call(in_session(2, back.clone())).found_by(check), []);
        assert_eq!(writes().call(first.clone()).call(in_session(1, back.clone())).found_by(check), [Some(0)]);
        let elsewhere = Call { key: "other".to_owned(), ..in_session(1, back) };
        assert_eq!(writes().call(first).call(elsewhere).found_by(check), []);
    }

    #[test]
    fn reads_that_overlap_are_in_no_order() {
        let first = at(10, 20, in_session(1, read(Seen::Missing, &[3])));
        let second = |begin| at(begin, 30, in_session(1, read(Seen::Missing, &[1])));
        assert_eq!(writes().call(first.clone()).call(second(15)).found_by(check), []);
        assert_eq!(writes().call(first).call(second(20)).found_by(check), [Some(0)]);
    }

    #[test]
    fn the_order_is_that_of_the_begins_whatever_that_of_the_record() {
        let late = at(30, 31, in_session(1, read(Seen::Missing, &[1])));
        let early = at(10, 11, in_session(1, read(Seen::Missing, &[3])));
        assert_eq!(writes().call(late).call(early).found_by(check), [Some(0)]);
    }

    #[test]
    fn a_session_sees_what_it_has_written() {
        let after = |answer: Answer, live: &[u64]| {
            let write = at(10, 11, in_session(1, put("a", answer)));
            let read = at(20, 21, in_session(1, read(Seen::Missing, live)));
            writes().call(write).call(read).found_by(check)
        };
        assert_eq!(after(acknowledged(1), &[1]), []);
        assert_eq!(after(acknowledged(1), &[2, 3]), []);
        assert_eq!(after(acknowledged(1), &[2]), [Some(0)]);
        assert_eq!(after(acknowledged(1), &[]), [Some(0)]);
        assert_eq!(after(not_promised(1), &[]), []);
    }

    #[test]
    fn a_read_that_was_not_answered_neither_binds_nor_is_bound() {
        let unknown = || read(Seen::Unknown { what: "503".to_owned() }, &[]);
        let first = at(10, 11, in_session(1, read(Seen::Missing, &[3])));
        let second = at(20, 21, in_session(1, unknown()));
        assert_eq!(writes().call(first).call(second).found_by(check), []);
    }

    /// What a session sees, one read after the other, of a record that was written "a", "b", and perhaps deleted.
    fn values(share: fn(Call) -> Call, seen: &[Seen]) -> usize {
        let writes = [put("a", acknowledged(1)), put("b", not_promised(2)), delete(acknowledged(3))];
        let scene = writes
            .into_iter()
            .zip(1..)
            .fold(Scene::new(), |scene, (call, n)| scene.call(share(at(n, n, call))));
        let calls = seen
            .iter()
            .zip(1_u64..)
            .map(|(seen, n)| at(10 * n, 10 * n + 5, share(in_session(1, read(seen.clone(), &[])))));
        calls.fold(scene, Scene::call).found_by(check).len()
    }

    #[test]
    fn without_a_look_into_the_nodes_the_values_tell() {
        let owned = |seen: &[Seen]| values(|call| call, seen);
        assert_eq!(owned(&[Seen::Missing, value("a", 1), value("b", 2), Seen::Deleted, Seen::Deleted]), 0);
        assert_eq!(owned(&[value("b", 2), value("a", 1)]), 1);
        assert_eq!(owned(&[Seen::Deleted, value("b", 2)]), 1);
        assert_eq!(owned(&[value("a", 1), Seen::Missing]), 1);
        assert_eq!(owned(&[Seen::Deleted, Seen::Missing]), 1);
        // What nobody has written is wrong in another way.
        assert_eq!(owned(&[value("b", 2), value("z", 9)]), 0);
    }

    #[test]
    fn of_a_contended_record_only_that_nothing_is_there_any_more_is_known_to_be_back() {
        let contended = |seen: &[Seen]| values(shared, seen);
        assert_eq!(contended(&[value("b", 2), value("a", 1), Seen::Deleted, value("b", 2)]), 0);
        assert_eq!(contended(&[value("b", 2), Seen::Missing]), 1);
    }

    #[test]
    fn without_a_look_into_the_nodes_a_session_still_sees_what_it_has_written() {
        let scene = |seen: Seen| {
            let first = at(1, 2, put("a", acknowledged(1)));
            let own = at(3, 4, in_session(1, put("b", acknowledged(2))));
            let read = at(5, 6, in_session(1, read(seen, &[])));
            Scene::new().call(first).call(own).call(read).found_by(check)
        };
        assert_eq!(scene(value("b", 2)), []);
        assert_eq!(scene(value("a", 1)), [Some(0)]);
        assert_eq!(scene(Seen::Missing), [Some(0)]);
    }
}
