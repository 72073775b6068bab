//! G6: with R + W > N a read sees every write that was acknowledged before it began.

use federation_wire::api::DotText;

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
            if due.is_empty() || read.went_back || matches!(seen, Seen::Unknown { .. }) {
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
fn missed(record: &RecordBook<'_>, due: &[(usize, &Call)], live: &[&DotText]) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::*;
    use crate::history::Fate;

    /// A read that asks this many nodes, between 20 and 30 us.
    fn asking(level: usize, call: Call) -> Call {
        Call { level: Some(level), client: 2, ..at(20, 30, call) }
    }

    /// A write "a" that was acknowledged after 10 us, and then "b".
    fn written(a: Call) -> Scene {
        let scene = Scene::new().put(1, "a", &[]).put(2, "b", &[1]).put(3, "c", &[]);
        scene.fate(3, Fate::MayBeGone).call(at(0, 10, a))
    }

    fn seen(level: usize, live: &[u64]) -> Vec<Option<usize>> {
        let read = asking(level, read(Seen::Missing, live));
        written(put("a", acknowledged(1))).call(read).found_by(check)
    }

    #[test]
    fn a_read_of_a_majority_sees_what_a_majority_has() {
        assert_eq!(seen(2, &[1]), []);
        assert_eq!(seen(3, &[1, 3]), []);
        assert_eq!(seen(2, &[2]), []);
        assert_eq!(seen(2, &[3]), [Some(0)]);
        assert_eq!(seen(2, &[]), [Some(0)]);
    }

    #[test]
    fn a_read_of_one_node_need_not() {
        assert_eq!(seen(1, &[]), []);
        assert_eq!(seen(1, &[3]), []);
    }

    #[test]
    fn what_all_nodes_have_is_seen_by_a_read_of_one() {
        let to_all = Call { level: Some(3), ..put("a", acknowledged(1)) };
        let local = Call { level: None, ..asking(1, read(Seen::Missing, &[])) };
        assert_eq!(written(to_all).call(local).found_by(check), [Some(0)]);
        let to_one = Call { level: Some(1), ..put("a", acknowledged(1)) };
        let of_two = asking(2, read(Seen::Missing, &[]));
        assert_eq!(written(to_one).call(of_two).found_by(check), []);
    }

    #[test]
    fn a_node_whose_disk_went_back_and_that_was_not_told_shows_what_it_has() {
        let to_all = Call { level: Some(3), ..put("a", acknowledged(1)) };
        let read = Call { went_back: true, ..asking(1, read(Seen::Missing, &[])) };
        assert_eq!(written(to_all).call(read).found_by(check), []);
    }

    #[test]
    fn a_write_that_was_not_acknowledged_need_not_be_seen() {
        for open in [not_promised(1), Answer::Cut, Answer::TimedOut, refused()] {
            let scene = written(put("a", open)).call(asking(3, read(Seen::Missing, &[])));
            assert_eq!(scene.found_by(check), []);
        }
    }

    #[test]
    fn a_write_that_was_acknowledged_while_the_read_went_on_need_not_be_seen() {
        let scene = |end| {
            let scene = Scene::new().put(1, "a", &[]).call(at(0, end, put("a", acknowledged(1))));
            scene.call(asking(2, read(Seen::Missing, &[]))).found_by(check)
        };
        assert_eq!(scene(19), [Some(0)]);
        assert_eq!(scene(20), []);
        assert_eq!(scene(25), []);
    }

    #[test]
    fn at_the_same_moment_the_calls_of_one_client_are_in_order() {
        let write = at(20, 20, put("a", acknowledged(1)));
        let read = Call { client: write.client, ..asking(2, read(Seen::Missing, &[])) };
        let scene = Scene::new().put(1, "a", &[]).call(write.clone()).call(read.clone());
        assert_eq!(scene.found_by(check), [Some(0)]);
        let other_way_round = Scene::new().put(1, "a", &[]).call(Call { end_us: 20, ..read }).call(write);
        assert_eq!(other_way_round.found_by(check), []);
    }

    #[test]
    fn a_read_that_was_not_answered_has_missed_nothing() {
        let unknown = Seen::Unknown { what: "503".to_owned() };
        let scene = written(put("a", acknowledged(1))).call(asking(3, read(unknown, &[])));
        assert_eq!(scene.found_by(check), []);
        let refused = Call { answer: refused(), ..asking(3, read(Seen::Missing, &[])) };
        assert_eq!(written(put("a", acknowledged(1))).call(refused).found_by(check), []);
    }

    #[test]
    fn a_write_to_another_record_is_not_looked_for() {
        let elsewhere = Call { key: "other".to_owned(), ..asking(3, read(Seen::Missing, &[])) };
        assert_eq!(written(put("a", acknowledged(1))).call(elsewhere).found_by(check), []);
    }

    #[test]
    fn without_a_look_into_the_nodes_the_value_tells() {
        let history = |more: &[Call], seen: Seen| {
            let scene = Scene::new().call(at(0, 4, put("a", acknowledged(1))));
            let scene = scene.call(at(5, 9, put("b", acknowledged(2))));
            let scene = more.iter().cloned().fold(scene, Scene::call);
            scene.call(asking(2, read(seen, &[]))).found_by(check)
        };
        assert_eq!(history(&[], value("b", 2)), []);
        for wrong in [value("a", 1), value("z", 9), Seen::Missing, Seen::Deleted] {
            assert_eq!(history(&[], wrong), [Some(0)]);
        }
        let uncertain = at(10, 12, put("c", not_promised(3)));
        assert_eq!(history(std::slice::from_ref(&uncertain), value("b", 2)), []);
        assert_eq!(history(std::slice::from_ref(&uncertain), value("c", 3)), []);
        assert_eq!(history(&[uncertain], value("a", 1)), [Some(0)]);
        let deleted = at(10, 12, delete(acknowledged(3)));
        assert_eq!(history(std::slice::from_ref(&deleted), Seen::Deleted), []);
        assert_eq!(history(&[deleted], value("b", 2)), [Some(0)]);
        let begun_after = at(31, 32, put("c", acknowledged(3)));
        assert_eq!(history(&[begun_after], value("c", 3)), [Some(0)]);
        let refused = at(10, 12, put("c", refused()));
        assert_eq!(history(&[refused], value("c", 3)), [Some(0)]);
    }

    #[test]
    fn of_a_contended_record_only_that_something_is_there_is_known() {
        let seen = |seen: Seen| {
            let scene = Scene::new().call(at(0, 4, shared(put("a", acknowledged(1)))));
            let scene = scene.call(at(5, 9, shared(put("b", acknowledged(2)))));
            scene.call(asking(2, shared(read(seen, &[])))).found_by(check)
        };
        assert_eq!(seen(value("b", 2)), []);
        assert_eq!(seen(value("a", 1)), []);
        assert_eq!(seen(Seen::Missing), [Some(0)]);
    }
}
