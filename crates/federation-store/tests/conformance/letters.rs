//! Dead letters: given up, sent again, remembered.

use std::collections::BTreeMap;

use federation_core::dot::Dot;
use federation_core::port::store::{DeadLetter, Fact, RefusalReason, Request};
use federation_store::disk::Loss;
use federation_store::index::Survival;

use crate::model::origin;
use crate::script::{key, open_epoch, put};
use crate::world::{SimulatedEngine, World, begin_session, commit, node};

fn dot(seq: u64) -> Dot {
    Dot { origin: origin("a"), seq }
}

fn remember(engine: &mut SimulatedEngine, fact: Fact) {
    commit(engine, vec![Request::Remember(fact)]).unwrap();
}

fn refused(seq: u64, reason: RefusalReason) -> Fact {
    Fact::DeadLetter { peer: node("b"), dot: dot(seq), reason }
}

fn discarded(seq: u64) -> Fact {
    Fact::DeadLetterDiscarded { peer: node("b"), dot: dot(seq) }
}

fn retried(seq: u64) -> Fact {
    Fact::DeadLetterRetried { peer: node("b"), dot: dot(seq) }
}

/// The letters of the one peer: seq, reason, whether it is given up.
fn letters(engine: &SimulatedEngine) -> Vec<(u64, RefusalReason, bool)> {
    let (snapshot, peer) = (engine.snapshot(), node("b"));
    let of_peer = snapshot.facts.dead_letters_of(&peer);
    of_peer.map(|(dot, letter)| (dot.seq, letter.reason, letter.is_discarded)).collect()
}

/// Four own ops, of which the peer refused the first three and the first is given up.
fn given_up(world: &World) -> SimulatedEngine {
    let (mut engine, _) = world.open();
    commit(&mut engine, vec![open_epoch()]).unwrap();
    commit(&mut engine, (0..4).map(|id| Request::Change(put(id, "x"))).collect()).unwrap();
    for fact in [1, 2].map(|seq| refused(seq, RefusalReason::Forbidden)) {
        remember(&mut engine, fact);
    }
    remember(&mut engine, refused(3, RefusalReason::TooLarge));
    remember(&mut engine, discarded(1));
    engine
}

#[test]
fn what_is_given_up_stays_so_until_it_is_sent_again_by_name() {
    let (forbidden, large) = (RefusalReason::Forbidden, RefusalReason::TooLarge);
    let mut world = World::new();
    let mut engine = given_up(&world);
    assert_eq!(letters(&engine), [(1, forbidden, true), (2, forbidden, false), (3, large, false)]);
    let start = begin_session(&mut engine, "b");
    assert!((1..=3).all(|seq| start.withheld.contains(&dot(seq))), "none of them is claimed");
    assert!(!start.withheld.contains(&dot(4)));
    let letter = DeadLetter { reason: forbidden, is_discarded: true };
    assert_eq!(start.facts.dead_letter(&node("b"), &dot(1)), Some(letter), "nor sent");

    remember(&mut engine, Fact::DeadLettersRetried(node("b")));
    assert_eq!(letters(&engine), [(1, forbidden, true), (3, large, false)]);
    remember(&mut engine, refused(1, RefusalReason::Invalid));
    let left = [(1, RefusalReason::Invalid, true), (3, large, false)];
    assert_eq!(letters(&engine), left, "refused once more, it is still given up");
    assert!(begin_session(&mut engine, "b").withheld.contains(&dot(1)));
    drop(engine);
    for survival in [Survival::Everything, Survival::Empty] {
        let mut world = world.fork();
        world.crash(Loss::All, survival);
        assert_eq!(letters(&world.open().0), left, "{survival:?}");
    }

    let mut engine = world.open().0;
    remember(&mut engine, retried(1));
    remember(&mut engine, retried(3));
    assert!(letters(&engine).is_empty());
    assert!(begin_session(&mut engine, "b").withheld.is_empty());
    remember(&mut engine, refused(1, forbidden));
    assert_eq!(letters(&engine), [(1, forbidden, false)], "what is refused after that is a new letter");
    drop(engine);
    world.crash(Loss::All, Survival::Everything);
    assert_eq!(letters(&world.open().0), [(1, forbidden, false)]);
}

#[test]
fn what_changes_nothing_about_a_letter_is_not_written() {
    let world = World::new();
    let mut engine = given_up(&world);
    let before = engine.snapshot().position;
    for fact in [discarded(1), discarded(4), retried(4), refused(1, RefusalReason::Forbidden)] {
        remember(&mut engine, fact.clone());
        assert_eq!(engine.snapshot().position, before, "{fact:?}");
    }
}

#[test]
fn a_letter_that_is_given_up_ends_with_its_op() {
    let world = World::new();
    let mut engine = given_up(&world);
    let keys: BTreeMap<u64, _> =
        (1..=4).zip(engine.reads().keys_of_dots(&[1, 2, 3, 4].map(dot)).unwrap()).collect();
    assert_eq!(keys[&2], Some(key(1)));
    commit(&mut engine, vec![Request::Change(put(0, "in its place"))]).unwrap();
    assert_eq!(letters(&engine).len(), 2);
    assert!(!begin_session(&mut engine, "b").withheld.contains(&dot(1)));
    assert_eq!(engine.reads().keys_of_dots(&[dot(1), dot(5)]).unwrap(), [None, Some(key(0))]);
}
