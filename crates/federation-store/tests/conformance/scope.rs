//! What a node keeps is remembered, and what happens when it is another; what a session lets out.

use federation_core::attest::Trust;
use federation_core::decide::Change;
use federation_core::dot::Dot;
use federation_core::dot_set::DotSet;
use federation_core::node_clock::NodeClock;
use federation_core::port::store::{Fact, RefusalReason, Request, SessionQuery};
use federation_core::scope::Scope;
use federation_core::seq_ranges::SeqRange;
use federation_store::disk::Loss;
use federation_store::index::Survival;
use federation_store::{ProofVerdict, verify};

use crate::model::origin;
use crate::script::{delete, keys, open_epoch, put};
use crate::world::{SimulatedEngine, World, begin_session, commit, node, see};

fn scope(globs: &[&str]) -> Scope {
    Scope::parse(globs.iter().copied()).unwrap()
}

fn write(engine: &mut SimulatedEngine, changes: impl IntoIterator<Item = Change>) {
    commit(engine, changes.into_iter().map(Request::Change).collect()).unwrap();
}

/// Own ops 1 to 6, of which 2 to 6 are live, and a claim of ops of another node that are not there.
fn written(world: &World, scope: Scope) -> SimulatedEngine {
    let mut engine = world.open_keeping(scope);
    commit(&mut engine, vec![open_epoch()]).unwrap();
    write(&mut engine, (0..5).map(|id| put(id, "first")).chain([put(0, "second")]));
    let mut claimed = DotSet::new();
    claimed.insert_range(&origin("b"), SeqRange { first: 1, last: 9 });
    write(&mut engine, [Change::Complete(NodeClock::from(claimed))]);
    engine
}

#[test]
fn a_scope_that_is_the_same_or_narrower_leaves_what_is_known() {
    for narrower in [&["**"][..], &["team/**"], &["team"]] {
        let world = World::new();
        let engine = written(&world, Scope::everything());
        let (before, store) = (see(&engine, keys()), engine.snapshot().facts.store);
        drop(engine);
        let engine = world.open_keeping(scope(narrower));
        let after = see(&engine, keys());
        assert_eq!((&after.clock, &after.records), (&before.clock, &before.records), "{narrower:?}");
        let facts = engine.snapshot().facts.clone();
        assert_eq!((facts.store, facts.replica_scope.clone()), (store, scope(narrower)));
        let is_same = narrower == ["**"];
        assert_eq!(facts.own_epoch.is_some(), is_same, "an epoch is of one scope: {narrower:?}");
    }
}

#[test]
fn a_scope_that_is_widened_is_a_rebootstrap_that_knows_of_what_is_live_alone() {
    let world = World::new();
    let engine = written(&world, scope(&["team/*"]));
    let (before, store) = (see(&engine, keys()), engine.snapshot().facts.store);
    assert_eq!(before.clock.dot_count(), 15);
    drop(engine);
    let mut engine = world.open_keeping(Scope::everything());
    let snapshot = engine.snapshot();
    let live: Vec<u64> = (2..=6).collect();
    let expect: DotSet = live.iter().map(|seq| Dot { origin: origin("a"), seq: *seq }).collect();
    assert_eq!(*snapshot.clock, expect, "nothing that is not here");
    assert!(snapshot.facts.rebootstrap.is_some() && snapshot.facts.own_epoch.is_none());
    assert!(snapshot.facts.store > store, "a new life of the directory");
    assert_eq!(see(&engine, keys()).records, before.records, "and what is here stays");
    commit(&mut engine, vec![Request::Change(Change::OpenEpoch(origin("c")))]).unwrap();
    write(&mut engine, [put(1, "again"), delete(2)]);
    let after = see(&engine, keys());
    drop(engine);
    // Whatever is left of the index: the log says it too.
    for survival in [Survival::Everything, Survival::Checkpoint { before_last: 0 }, Survival::Empty] {
        let mut world = world.fork();
        world.crash(Loss::All, survival);
        let seen = verify(world.disk.clone(), Some(&world.indexes), &mut |_, _| ProofVerdict::Holds).unwrap();
        assert!(seen.is_sound(), "{survival:?}: {:?} {:?}", seen.faults, seen.index);
        let engine = world.open_keeping(Scope::everything());
        assert_eq!(see(&engine, keys()), after, "{survival:?}");
    }
}

#[test]
fn a_session_lets_out_what_is_granted_and_kept_alone() {
    let mut engine = written(&World::new(), Scope::everything());
    let start = begin_session(&mut engine, "b");
    let paged = |grant: &[&str], replicates: &[&str], ops_max| {
        let trust = Trust { grant: scope(grant), replicates: scope(replicates), ..Trust::full() };
        let (mut seqs, mut after) = (Vec::new(), None);
        loop {
            let (session, known, trust) = (start.session, NodeClock::new(), trust.clone());
            let query = SessionQuery { session, known, trust, after, ops_max, bytes_max: 1 << 20 };
            let page = engine.reads().session_page(&query).unwrap();
            seqs.extend(page.ops.iter().map(|op| op.dot.seq));
            after = page.next;
            if after.is_none() {
                return seqs;
            }
        }
    };
    // "team" has the records 0 and 3, "team/notes" the others.
    for ops_max in [1, 2, 100] {
        assert_eq!(paged(&["**"], &["**"], ops_max), [2, 3, 4, 5, 6]);
        assert_eq!(paged(&["team"], &["**"], ops_max), [4, 6]);
        assert_eq!(paged(&["**"], &["team/*"], ops_max), [2, 3, 5]);
        assert_eq!(paged(&["team"], &["team/*"], ops_max), [0_u64; 0]);
    }
}

#[test]
fn a_replaced_op_stands_for_what_replaced_it_within_the_grant_too() {
    let mut engine = written(&World::new(), Scope::everything());
    let start = begin_session(&mut engine, "b");
    write(&mut engine, [put(3, "later"), put(1, "later")]);
    let trust = Trust { grant: scope(&["team"]), ..Trust::full() };
    let query = SessionQuery {
        session: start.session,
        known: NodeClock::new(),
        trust,
        after: None,
        ops_max: 100,
        bytes_max: 1 << 20,
    };
    let page = engine.reads().session_page(&query).unwrap();
    assert_eq!(page.ops.iter().map(|op| op.dot.seq).collect::<Vec<_>>(), [6, 7]);
}

#[test]
fn what_a_peer_refused_for_what_it_is_goes_to_it_once_more() {
    let world = World::new();
    let mut engine = written(&world, Scope::everything());
    let letter = |peer: &str, seq, reason| {
        let dot = Dot { origin: origin("a"), seq };
        Request::Remember(Fact::DeadLetter { peer: node(peer), dot, reason })
    };
    let (forbidden, large) = (RefusalReason::Forbidden, RefusalReason::TooLarge);
    commit(&mut engine, vec![letter("b", 2, forbidden), letter("b", 3, large), letter("c", 2, forbidden)])
        .unwrap();
    commit(&mut engine, vec![Request::Remember(Fact::DeadLettersRetried(node("b")))]).unwrap();
    let left = |engine: &SimulatedEngine| {
        let letters = engine.snapshot().facts.dead_letters.clone();
        ["b", "c"].map(|peer| letters[&node(peer)].keys().map(|dot| dot.seq).collect::<Vec<_>>())
    };
    assert_eq!(left(&engine), [vec![3], vec![2]]);
    assert!(!begin_session(&mut engine, "b").withheld.contains(&Dot { origin: origin("a"), seq: 2 }));
    drop(engine);
    for survival in [Survival::Everything, Survival::Empty] {
        let mut world = world.fork();
        world.crash(Loss::All, survival);
        assert_eq!(left(&world.open().0), [vec![3], vec![2]], "{survival:?}");
    }
}
