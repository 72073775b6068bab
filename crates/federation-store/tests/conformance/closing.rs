//! A boot that ended in order says so in the last record of the log, and none that did not.

use federation_core::decide::Change;
use federation_core::dot::Origin;
use federation_core::epoch::LastEpoch;
use federation_core::id::BootId;
use federation_core::port::store::{Request, StoreError};
use federation_store::disk::Loss;
use federation_store::index::Survival;
use federation_store::{InlineStore, ProofVerdict, Stepping, verify};

use crate::script::{key, keys, open_epoch, put};
use crate::world::{SimulatedEngine, World, commit, node, see};

const EPOCH: BootId = BootId(1);

fn written(world: &World) -> SimulatedEngine {
    let (mut engine, _) = world.open();
    commit(&mut engine, vec![open_epoch(), Request::Change(put(1, "x"))]).unwrap();
    engine
}

fn last_epoch(engine: &SimulatedEngine) -> LastEpoch {
    engine.snapshot().facts.last_epoch()
}

/// What the next start finds, and what a look from outside does before it.
fn found_by_the_next_start(world: &World) -> (SimulatedEngine, bool) {
    let seen = verify(world.disk.clone(), Some(&world.indexes), &mut |_, _| ProofVerdict::Holds).unwrap();
    assert!(seen.is_sound(), "{:?} {:?}", seen.faults, seen.index);
    let (engine, report) = world.open();
    assert_eq!(seen.ended_in_order, report.ended_in_order);
    (engine, report.ended_in_order)
}

#[test]
fn an_end_in_order_is_found_by_the_next_start_whatever_is_left_of_the_index() {
    let world = World::new();
    let mut engine = written(&world);
    let before = see(&engine, keys());
    engine.close().unwrap();
    drop(engine);
    for survival in [Survival::Everything, Survival::Checkpoint { before_last: 0 }, Survival::Empty] {
        let mut world = world.fork();
        world.crash(Loss::All, survival);
        let (mut engine, ended_in_order) = found_by_the_next_start(&world);
        assert_eq!((ended_in_order, last_epoch(&engine)), (true, LastEpoch::Unbroken(EPOCH)), "{survival:?}");
        assert_eq!(see(&engine, keys()), before);
        commit(&mut engine, vec![open_epoch(), Request::Change(put(2, "y"))]).unwrap();
        drop(engine);
        world.crash(Loss::All, survival);
        let (engine, ended_in_order) = found_by_the_next_start(&world);
        assert_eq!(
            (ended_in_order, last_epoch(&engine)),
            (false, LastEpoch::Interrupted(EPOCH)),
            "{survival:?}"
        );
    }
    // The other way round: the index has taken the end in, and the start that it was for never came to its boot.
    for operation in 0.. {
        let mut world = world.fork();
        world.crash(Loss::All, Survival::Checkpoint { before_last: 0 });
        world.disk.fail_after(operation);
        if world.try_open(false).is_ok() {
            assert!(operation > 1, "nothing has failed");
            break;
        }
        world.crash(Loss::All, Survival::Everything);
        assert_eq!(last_epoch(&world.open().0), LastEpoch::Unbroken(EPOCH), "failed at {operation}");
    }
}

#[test]
fn what_was_cut_off_once_stays_so_until_another_epoch_begins() {
    let mut world = World::new();
    drop(written(&world));
    world.crash(Loss::All, Survival::Everything);
    for survival in [Survival::Everything, Survival::Empty, Survival::Checkpoint { before_last: 0 }] {
        let (mut engine, _) = found_by_the_next_start(&world);
        assert_eq!(last_epoch(&engine), LastEpoch::Interrupted(EPOCH));
        engine.close().unwrap();
        drop(engine);
        world.crash(Loss::All, survival);
    }
    let (mut engine, ended_in_order) = found_by_the_next_start(&world);
    assert_eq!((ended_in_order, last_epoch(&engine)), (true, LastEpoch::Interrupted(EPOCH)));
    let next = Origin { node: node("a"), epoch: BootId(2) };
    commit(&mut engine, vec![Request::Change(Change::OpenEpoch(next))]).unwrap();
    engine.close().unwrap();
    drop(engine);
    world.crash(Loss::All, Survival::Empty);
    assert_eq!(last_epoch(&found_by_the_next_start(&world).0), LastEpoch::Unbroken(BootId(2)));
}

#[test]
fn a_crash_anywhere_within_the_end_leaves_one_or_the_other() {
    let world = World::new();
    drop(written(&world));
    let mut outcomes = Vec::new();
    for after in 0.. {
        for loss in [Loss::None, Loss::All, Loss::Some { seed: after }] {
            let mut world = world.fork();
            world.crash(Loss::All, Survival::Everything);
            let (mut engine, _) = world.open();
            let next = Origin { node: node("a"), epoch: BootId(2) };
            commit(&mut engine, vec![Request::Change(Change::OpenEpoch(next))]).unwrap();
            world.disk.crash_after(after);
            let is_told = engine.close().is_ok() && !world.disk.is_off();
            drop(engine);
            world.crash(loss, Survival::Checkpoint { before_last: 0 });
            let (engine, ended_in_order) = found_by_the_next_start(&world);
            assert!(ended_in_order || !is_told, "an end that was told is lost");
            assert_eq!(last_epoch(&engine) == LastEpoch::Unbroken(BootId(2)), ended_in_order);
            outcomes.push((is_told, ended_in_order));
        }
        if outcomes.last() == Some(&(true, true)) {
            break;
        }
    }
    assert!(outcomes.contains(&(false, false)) && outcomes.contains(&(true, true)), "{outcomes:?}");
}

#[test]
fn nothing_is_written_behind_the_end() {
    let world = World::new();
    let mut engine = written(&world);
    engine.close().unwrap();
    let operations = world.disk.operations();
    assert_eq!(commit(&mut engine, vec![Request::Change(put(1, "late"))]), Err(StoreError::Closed));
    assert_eq!(engine.checkpoint(), Err(StoreError::Closed));
    assert_eq!(engine.close(), Err(StoreError::Closed));
    assert!(!engine.wants_checkpoint());
    assert_eq!(world.disk.operations(), operations);
    assert_eq!(engine.reads().record(&key(1)).unwrap().ops.len(), 1, "reads go on");
}

#[test]
fn a_store_that_is_poisoned_or_full_has_no_end_in_order() {
    for is_full in [false, true] {
        let mut world = World::new();
        let mut engine = written(&world);
        if is_full {
            let mut i = 0;
            world.disk.set_capacity_bytes(Some(world.disk.used_bytes()));
            while commit(&mut engine, vec![Request::Change(put(i % 20, &"z".repeat(100)))]).is_ok() {
                i += 1;
            }
            // Fill what room is left, to the last byte that an end would take.
            while commit(&mut engine, vec![Request::Change(Change::OpenEpoch(fresh(&mut i)))]).is_ok() {}
        } else {
            world.disk.fail_after(0);
            assert!(commit(&mut engine, vec![Request::Change(put(1, "lost"))]).is_err());
        }
        let expect = if is_full { StoreError::DiskFull } else { StoreError::ReadOnly };
        assert_eq!(engine.close(), Err(expect));
        drop(engine);
        world.disk.set_capacity_bytes(None);
        world.crash(Loss::All, Survival::Everything);
        assert!(!found_by_the_next_start(&world).1, "full: {is_full}");
    }
}

fn fresh(count: &mut usize) -> Origin {
    *count += 1;
    Origin { node: node("a"), epoch: BootId(*count as u64 + 10) }
}

#[test]
fn an_inline_store_ends_in_order_when_it_is_closed_and_not_when_it_is_dropped() {
    let mut world = World::new();
    let store = InlineStore::new(written(&world), Stepping::Manual);
    drop(store);
    world.crash(Loss::All, Survival::Everything);
    let (engine, ended_in_order) = found_by_the_next_start(&world);
    assert!(!ended_in_order);
    let store = InlineStore::new(engine, Stepping::Manual);
    store.close().unwrap();
    world.crash(Loss::All, Survival::Everything);
    assert!(found_by_the_next_start(&world).1);
}
