//! `verify` says of a directory what the running store said of it, and finds what is wrong.

use federation_core::decide::Change;
use federation_core::port::store::Request;
use federation_store::disk::{Disk, Loss};
use federation_store::index::{Batch, Index, IndexOpener, Survival};
use federation_store::{
    Corruption, IndexVerdict, ProofVerdict, VerifyFault, VerifyReport, verify, verify_offline,
};

use crate::script::{Look, key, open_epoch, put, run, script};
use crate::world::{World, commit, proof, see};

fn check(world: &World) -> VerifyReport {
    verify(world.disk.clone(), Some(&world.indexes), &mut |_, sealed| {
        if sealed.proof == proof(&sealed.op.hash) { ProofVerdict::Holds } else { ProofVerdict::Fails }
    })
    .unwrap()
}

fn damaged_segment(fault: &VerifyFault) -> u64 {
    match fault {
        VerifyFault::Corrupt(Corruption::Group { segment, .. }) => *segment,
        other => panic!("{other}"),
    }
}

fn ran() -> (World, crate::world::Seen, std::sync::Arc<federation_core::port::store::Facts>) {
    let mut world = World::new();
    let (_, engine) = run(&mut world, &script(), Look::Never);
    let engine = engine.unwrap();
    let (seen, facts) = (see(&engine, crate::script::keys()), engine.snapshot().facts.clone());
    world.crash(Loss::All, Survival::Everything);
    (world, seen, facts)
}

#[test]
fn a_sound_directory_is_found_sound() {
    let (world, seen, facts) = ran();
    let report = check(&world);
    assert!(report.is_sound(), "{:?} {:?}", report.faults, report.index);
    assert_eq!(report.index, IndexVerdict::Agrees { to: report.log_end });
    assert_eq!((&report.clock, &report.facts), (&seen.clock, &*facts));
    assert_eq!((report.live_versions, report.visible_records), (seen.hash.versions, seen.hash.records));
    let live =
        seen.records.values().flat_map(|r| r.record.versions().iter().map(|v| (v.dot.clone(), v.hash)));
    let mut count = 0;
    for (dot, hash) in live {
        count += 1;
        assert!(report.ops[&dot].is_live);
        assert_eq!(report.ops[&dot].hash, hash);
    }
    assert_eq!(report.ops.values().filter(|op| op.is_live).count(), count);
    assert!(report.ops.len() > count, "superseded ops are in the log too");

    world.indexes.survive(Survival::Checkpoint { before_last: 0 });
    let behind = check(&world);
    assert!(matches!(behind.index, IndexVerdict::Agrees { to } if to < behind.log_end), "{:?}", behind.index);
    world.indexes.survive(Survival::Damaged);
    let without = check(&world);
    assert_eq!((without.index, without.is_sound(), without.ops), (IndexVerdict::Unusable, true, report.ops));
}

#[test]
fn damage_is_found() {
    let (world, ..) = ran();
    let damaged = world.fork();
    let name = damaged.disk.list().unwrap().into_iter().rfind(|name| name.starts_with("log-")).unwrap();
    damaged.disk.flip_bit(&name, 80, 0);
    damaged.indexes.survive(Survival::Everything);
    let report = check(&damaged);
    let expect = format!("log-{:010}.seg", report.faults.iter().map(damaged_segment).sum::<u64>());
    assert_eq!((name, report.faults.len()), (expect, 1));
    assert!(!report.is_sound());

    let cut = world.fork();
    let last = cut.disk.list().unwrap().into_iter().rfind(|name| name.starts_with("log-")).unwrap();
    cut.disk.remove(&last).unwrap();
    cut.indexes.survive(Survival::Everything);
    assert!(matches!(check(&cut).faults[..], [VerifyFault::Corrupt(Corruption::BehindIndex { .. })]));

    world.indexes.survive(Survival::Everything);
    let report = verify(world.disk.clone(), Some(&world.indexes), &mut |op, _| {
        if op.dot.seq == 3 { ProofVerdict::Fails } else { ProofVerdict::Holds }
    });
    assert!(
        report
            .unwrap()
            .faults
            .iter()
            .all(|fault| matches!(fault, VerifyFault::Proof { dot, .. } if dot.seq == 3))
    );

    let index = world.indexes.open().unwrap();
    let mut batch = Batch::new();
    let (key, _) = index.scan(b"R", b"S", 1).unwrap().remove(0);
    batch.remove(key);
    batch.put(b"K with nothing behind it".to_vec(), Vec::new());
    index.apply(batch).unwrap();
    world.indexes.survive(Survival::Everything);
    assert_eq!(check(&world).index, IndexVerdict::Differs { keys: 2 });
}

#[test]
fn a_directory_on_the_file_system_is_verified_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (mut engine, _) = crate::real::engine(dir.path());
    commit(&mut engine, vec![open_epoch(), Request::Change(put(1, "one"))]).unwrap();
    let drop_it = Change::DropDead { key: key(1), dots: engine_dots(&engine) };
    commit(&mut engine, vec![Request::Change(put(2, "two")), Request::Change(drop_it)]).unwrap();
    let refused = verify_offline(dir.path(), &mut |_, _| ProofVerdict::Holds);
    assert!(refused.is_err(), "the directory is in use");
    drop(engine);
    for _ in 0..2 {
        let report = verify_offline(dir.path(), &mut |_, _| ProofVerdict::Holds).unwrap();
        assert!(report.is_sound(), "{report:?}");
        assert_eq!((report.ops.len(), report.live_versions), (2, 1));
        assert_eq!(report.index, IndexVerdict::Agrees { to: report.log_end });
    }
    let empty = tempfile::tempdir().unwrap();
    let report = verify_offline(empty.path(), &mut |_, _| ProofVerdict::Holds).unwrap();
    assert_eq!((report.node, report.groups, report.index), (None, 0, IndexVerdict::Unusable));
}

#[test]
fn what_the_next_start_will_make_durable_is_shown_and_left_to_it() {
    let (mut world, seen, _) = ran();
    let (mut engine, _) = world.open();
    world.disk.fail_after(1);
    assert!(commit(&mut engine, vec![open_epoch(), Request::Change(put(2, "its sync fails"))]).is_err());
    drop(engine);
    world.disk = world.disk.restarted();
    // The power goes somewhere in the next start, or it is through.
    for operation in 0..14 {
        let mut world = world.fork();
        world.indexes.survive(Survival::Everything);
        world.disk.crash_after(operation);
        drop(world.try_open(false));
        world.crash(Loss::Some { seed: operation }, Survival::Everything);
        let operations = world.disk.operations();
        let report = check(&world);
        assert_eq!(world.disk.operations(), operations, "to look changed something");
        assert!(report.is_sound() && report.clock.contains_all(&seen.clock), "{operation}: {report:?}");
        world.indexes.survive(Survival::Everything);
        let (engine, opened) = world.open();
        assert_eq!((engine.snapshot().clock.clone(), opened.recovered_to), (report.clock, report.log_end));
    }
}

#[test]
fn to_verify_changes_no_byte_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (mut engine, _) = crate::real::engine(dir.path());
    for i in 0..20 {
        let changes = vec![open_epoch(), Request::Change(put(i, &"y".repeat(400)))];
        commit(&mut engine, changes).unwrap();
    }
    drop(engine);
    let log = || -> std::collections::BTreeMap<_, _> {
        let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap());
        files
            .filter(|entry| entry.file_type().unwrap().is_file())
            .map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap()))
            .collect()
    };
    let before = log();
    assert!(before.len() > 4);
    assert!(verify_offline(dir.path(), &mut |_, _| ProofVerdict::Holds).unwrap().is_sound());
    assert!(log() == before);
}

fn engine_dots<D: Disk, O: IndexOpener>(
    engine: &federation_store::Engine<D, O>,
) -> Vec<federation_core::dot::Dot> {
    engine.reads().record(&key(1)).unwrap().record.versions().iter().map(|v| v.dot.clone()).collect()
}
