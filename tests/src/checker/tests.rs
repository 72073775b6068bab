//! All checkers at once.

use std::collections::BTreeSet;

use super::sample::*;
use super::{Guarantee, Settling, check, check_claims};
use crate::history::{
    Answer, Call, DurableSample, Fate, History, Incident, Intrusion, IntrusionAnswer, Request, Seen,
};

/// A history in which every guarantee is put to the test and kept: "a", then "b" and "c" side by side, then a delete of
/// all, then "d" of which nobody was told, and "e" that is lost with its disk.
fn kept() -> History {
    let scene = Scene::new()
        .put(1, "a", &[])
        .put(2, "b", &[1])
        .put(3, "c", &[1])
        .delete(4, &[1, 2, 3])
        .put(5, "d", &[4])
        .put(6, "e", &[])
        .fate(6, Fate::MayBeGone)
        .call(at(0, 10, put("a", acknowledged(1))))
        .call(at(20, 30, in_session(keyed(put("b", not_promised(2))))))
        .call(at(31, 40, in_session(keyed(put("b", acknowledged(2))))))
        .call(at(41, 50, put("c", acknowledged(3))))
        .call(at(51, 60, in_session(asking(2, read(value("c", 3), &[2, 3])))))
        .call(at(70, 80, delete(acknowledged(4))))
        .call(at(81, 90, in_session(asking(2, read(Seen::Deleted, &[4])))))
        .call(at(91, 92, put("d", Answer::Cut)))
        .call(at(93, 94, put("e", Answer::TimedOut)))
        .call(at(95, 96, put("f", refused())))
        .live_at_all(&[5])
        .shown(all(&value("d", 5)));
    let mut history = scene.0;
    history.durable.push(DurableSample { dot: dot(1), needed: 2, holders: [0, 1].into() });
    history.settlings.push(Settling { equal_after_ms: Some(700), ..Settling::default() });
    let answer = IntrusionAnswer::Refused { slug: "bad_signature".to_owned() };
    history.intrusions.push(Intrusion { kind: "forged op".to_owned(), node: 0, answer });
    history
}

/// The same, by a harness that cannot look into the nodes.
fn kept_as_shown() -> History {
    let mut history = kept();
    history.ops.clear();
    history.durable.clear();
    history.finals.live.clear();
    for call in &mut history.calls {
        if let Answer::Read { live, .. } = &mut call.answer {
            live.clear();
        }
    }
    history
}

fn in_session(call: Call) -> Call {
    Call { session: Some(1), ..call }
}

fn keyed(call: Call) -> Call {
    Call { idempotency_key: Some("i".to_owned()), ..call }
}

fn asking(level: usize, call: Call) -> Call {
    Call { level: Some(level), ..call }
}

fn reads(history: &mut History) -> impl Iterator<Item = &mut Call> {
    history.calls.iter_mut().filter(|call| call.request == Request::Read)
}

fn show(history: &mut History, seen: &Seen) {
    history.finals.records.insert("k".to_owned(), all(seen).to_vec());
}

/// What is violated after this change, by all checkers together; the same is by each of them alone.
fn violated(mut history: History, change: impl FnOnce(&mut History)) -> Vec<Guarantee> {
    change(&mut history);
    let together: BTreeSet<_> = check(&history).iter().map(|violation| violation.guarantee).collect();
    for guarantee in Guarantee::ALL {
        let alone = check_claims(&history, &[guarantee].into());
        assert!(alone.iter().all(|violation| violation.guarantee == guarantee), "{alone:?}");
        assert!(!alone.is_empty() || !together.contains(&guarantee), "{guarantee}");
    }
    together.into_iter().collect()
}

#[test]
fn what_keeps_every_promise_violates_none() {
    assert_eq!(check(&kept()), []);
    assert_eq!(check(&kept_as_shown()), []);
    assert_eq!(check(&History::default()), []);
}

#[test]
fn each_promise_that_is_broken_is_named() {
    use Guarantee::{G1, G2, G3, G4, G5, G6, G7, G8, G9, G10};
    let gone = violated(kept(), |history| {
        history.finals.live.insert("k".to_owned(), vec![BTreeSet::new(); 3]);
        show(history, &Seen::Missing);
    });
    assert_eq!(gone, [G1, G5]);
    let on_one_disk = violated(kept(), |history| history.durable[0].holders = [0].into());
    assert_eq!(on_one_disk, [G2]);
    let late = violated(kept(), |history| history.settlings[0].equal_after_ms = Some(5_001));
    assert_eq!(late, [G3]);
    let zombie = violated(kept(), |history| {
        history.finals.live.get_mut("k").unwrap().fill(dots(&[2, 5]));
    });
    assert_eq!(zombie, [G4]);
    let overwritten_unseen = violated(kept(), |history| {
        history.ops.get_mut(&dot(4)).unwrap().knew.remove(&dot(3));
    });
    assert_eq!(overwritten_unseen, [G5]);
    let not_the_winner = violated(kept(), |history| show(history, &Seen::Deleted));
    assert_eq!(not_the_winner, [G5]);
    let stale = violated(kept(), |history| {
        reads(history).next().unwrap().answer = Answer::Read { seen: value("b", 2), live: dots(&[2]) };
    });
    assert_eq!(stale, [G6]);
    let two_names = violated(kept(), |history| history.calls[1].answer = not_promised(3));
    assert_eq!(two_names, [G7]);
    let let_in = violated(kept(), |history| {
        history.intrusions[0].answer = IntrusionAnswer::Accepted { what: "200".to_owned() };
    });
    assert_eq!(let_in, [G8]);
    let crashed = violated(kept(), |history| {
        history.incidents.push(Incident { node: Some(0), what: "a task panicked".to_owned() });
    });
    assert_eq!(crashed, [G9]);
    let back = violated(kept(), |history| {
        let local = reads(history).last().unwrap();
        (local.level, local.answer) = (None, Answer::Read { seen: value("a", 1), live: dots(&[1]) });
    });
    assert_eq!(back, [G10]);
}

#[test]
fn what_clients_can_see_of_it_is_named_as_well() {
    use Guarantee::{G1, G3, G4, G6, G7, G9, G10};
    let gone = violated(kept_as_shown(), |history| show(history, &Seen::Missing));
    assert_eq!(gone, [G1]);
    let unequal = violated(kept_as_shown(), |history| {
        history.finals.records.get_mut("k").unwrap()[1] = Seen::Deleted;
    });
    assert_eq!(unequal, [G3]);
    let back_after_its_delete = violated(kept_as_shown(), |history| show(history, &value("c", 3)));
    assert_eq!(back_after_its_delete, [G4]);
    let stale = violated(kept_as_shown(), |history| {
        reads(history).next().unwrap().answer = Answer::Read { seen: value("b", 2), live: dots(&[]) };
    });
    assert_eq!(stale, [G6]);
    let odd_reason = violated(kept_as_shown(), |history| {
        let Answer::NotPromised { reason, .. } = &mut history.calls[1].answer else { return };
        "bad luck".clone_into(reason);
    });
    assert_eq!(odd_reason, [G7]);
    let crashed = violated(kept_as_shown(), |history| {
        history.incidents.push(Incident { node: None, what: "node-1 ended with signal 11".to_owned() });
    });
    assert_eq!(crashed, [G9]);
    let back = violated(kept_as_shown(), |history| {
        let local = reads(history).last().unwrap();
        (local.level, local.answer) = (None, Answer::Read { seen: value("a", 1), live: dots(&[]) });
    });
    assert_eq!(back, [G10]);
}

#[test]
fn only_what_is_asked_for_is_checked() {
    let mut history = kept();
    history.settlings[0].equal_after_ms = None;
    history.durable[0].holders.clear();
    let named = |claims: &[Guarantee]| {
        let found = check_claims(&history, &claims.iter().copied().collect());
        found.into_iter().map(|violation| violation.guarantee).collect::<Vec<_>>()
    };
    assert_eq!(named(&[Guarantee::G1, Guarantee::G9]), []);
    assert_eq!(named(&[Guarantee::G3]), [Guarantee::G3]);
    assert_eq!(named(&[Guarantee::G2, Guarantee::G4]), [Guarantee::G2]);
    assert_eq!(named(&[]), []);
}

#[test]
fn a_history_is_the_same_after_it_was_written_and_read() {
    for history in [kept(), kept_as_shown()] {
        let text = serde_json::to_string(&history).unwrap();
        assert_eq!(serde_json::from_str::<History>(&text).unwrap(), history);
    }
}
