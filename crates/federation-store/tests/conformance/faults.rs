//! Failing operations, full disks, damaged files, and directories that are not to be opened.

use federation_core::decide::{Change, WriteRefusal};
use federation_core::id::StoreId;
use federation_core::op::Body;
use federation_core::port::store::{Fact, Health, Outcome, Request, StoreError};
use federation_store::disk::{Disk, DiskFile, Loss};
use federation_store::index::Survival;
use federation_store::{Corruption, Engine, OpenError, SimulatedDisk};

use crate::model::Model;
use crate::script::{Look, expected, key, keys, open_epoch, put, run, script};
use crate::world::{NOW, World, commit, commit_group, node, see, setup, small};

fn written(world: &World, groups: usize) -> crate::world::SimulatedEngine {
    let (mut engine, _) = world.open();
    commit(&mut engine, vec![open_epoch()]).unwrap();
    for i in 0..groups {
        commit(&mut engine, vec![Request::Change(put(i % 20, &format!("{i} {}", "y".repeat(300))))]).unwrap();
    }
    engine
}

#[test]
fn a_failed_write_or_sync_poisons_and_is_never_tried_again() {
    for operation in 0..2 {
        let mut world = World::new();
        let mut engine = written(&world, 3);
        let before = see(&engine, keys());
        let snapshot = engine.snapshot();
        world.disk.fail_after(operation);
        let two =
            vec![vec![Request::Change(put(1, "lost"))], vec![Request::BeginSession { peer: node("b") }]];
        assert_eq!(commit_group(&mut engine, two), vec![Err(StoreError::InDoubt); 2]);
        assert_eq!(engine.snapshot().health, Health::Poisoned);
        assert_eq!(
            (&engine.snapshot().clock, engine.snapshot().position),
            (&snapshot.clock, snapshot.position)
        );
        assert_eq!(see(&engine, keys()), before, "half of a group is visible");
        let operations = world.disk.operations();
        assert_eq!(commit(&mut engine, vec![Request::Change(put(2, "no"))]), Err(StoreError::ReadOnly));
        assert_eq!(commit(&mut engine, vec![open_epoch()]), Err(StoreError::ReadOnly));
        assert_eq!(engine.checkpoint(), Err(StoreError::ReadOnly));
        assert_eq!(world.disk.operations(), operations, "the disk was touched again");
        drop(engine);
        world.crash(Loss::All, Survival::Everything);
        assert_eq!(see(&world.open().0, keys()), before);
    }
}

#[test]
fn a_failure_of_any_operation_acknowledges_nothing_that_is_lost() {
    let steps = script();
    let expected = expected(&steps);
    let total = {
        let mut world = World::new();
        run(&mut world, &steps, Look::Never);
        world.disk.operations()
    };
    for operation in (0..total).step_by(3) {
        let mut world = World::new();
        world.disk.fail_after(operation);
        let (ran, engine) = run(&mut world, &steps, Look::Never);
        if let Some(engine) = engine {
            assert_eq!(engine.snapshot().health, Health::Poisoned, "operation {operation} failed unseen");
        }
        world.crash(Loss::All, Survival::Empty);
        let seen = see(&world.open().0, keys());
        let acknowledged = ran.steps.checked_sub(1).map(|last| &expected[last]);
        assert!(
            acknowledged.is_none_or(|state| seen.clock.contains_all(&state.clock)),
            "operation {operation}: an acknowledged op is lost"
        );
    }
}

#[test]
fn a_failed_index_batch_poisons_and_the_log_has_the_group() {
    let mut world = World::new();
    let mut engine = written(&world, 3);
    let before = see(&engine, keys());
    world.indexes.fail();
    assert_eq!(commit(&mut engine, vec![Request::Change(put(1, "in the log"))]), Err(StoreError::InDoubt));
    assert_eq!(see(&engine, keys()), before, "half of a group is visible");
    drop(engine);
    // Dead between the sync of the log and the index: the index is one group behind.
    world.crash(Loss::All, Survival::Everything);
    let (engine, report) = world.open();
    assert_eq!((report.replayed_ops, report.rebuilt), (1, None));
    assert_eq!(engine.reads().record(&key(1)).unwrap().ops.len(), 1);
    assert_ne!(see(&engine, keys()), before);
}

#[test]
fn a_full_disk_refuses_for_now() {
    let mut world = World::new();
    let mut engine = written(&world, 3);
    world.disk.set_capacity_bytes(Some(world.disk.used_bytes() + 1_000));
    let mut accepted = 0;
    let refused = loop {
        let before = see(&engine, keys());
        match commit(&mut engine, vec![Request::Change(put(accepted, &"z".repeat(500)))]) {
            Ok(_) => accepted += 1,
            Err(error) => {
                assert_eq!(see(&engine, keys()), before);
                break error;
            }
        }
    };
    assert_eq!(refused, StoreError::DiskFull);
    assert!((1..10).contains(&accepted), "the rest of the segment is there to be used: {accepted}");
    assert_eq!(engine.snapshot().health, Health::DiskFull);
    assert_eq!(
        commit(&mut engine, vec![Request::Change(put(1, &"z".repeat(900)))]),
        Err(StoreError::DiskFull)
    );
    world.disk.set_capacity_bytes(None);
    commit(&mut engine, vec![Request::Change(put(1, "room again"))]).unwrap();
    assert_eq!(engine.snapshot().health, Health::Writable);
    let after = see(&engine, keys());
    assert_eq!(after.clock.range_count(), 1, "a refused write took a number: {:?}", after.clock);
    drop(engine);
    world.crash(Loss::All, Survival::Empty);
    assert_eq!(see(&world.open().0, keys()), after);
}

#[test]
fn a_disk_that_is_nearly_full_keeps_room_for_the_index() {
    let world = World::new();
    world.disk.set_capacity_bytes(Some(100_000));
    let mut options = small();
    options.reserve_bytes = 50_000;
    let (mut engine, _) =
        Engine::open(world.disk.clone(), &world.indexes, setup(options, false), &mut |_, _| {}).unwrap();
    commit(&mut engine, vec![open_epoch()]).unwrap();
    let refused = (0..1_000)
        .find_map(|i| commit(&mut engine, vec![Request::Change(put(i % 20, &"z".repeat(500)))]).err());
    assert_eq!(refused, Some(StoreError::DiskFull));
    assert!(world.disk.free_bytes().unwrap() >= 50_000);
}

fn content(disk: &SimulatedDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name).unwrap();
    let mut all = vec![0; usize::try_from(file.len_bytes().unwrap()).unwrap()];
    file.read_at(0, &mut all).unwrap();
    all
}

#[test]
fn a_flipped_bit_in_a_closed_segment_is_reported_and_never_skipped() {
    let mut world = World::new();
    drop(written(&world, 40));
    world.crash(Loss::All, Survival::Everything);
    let segments: Vec<String> =
        world.disk.list().unwrap().into_iter().filter(|n| n.starts_with("log-")).collect();
    assert!(segments.len() > 3);
    let closed = &segments[1];
    let bytes = content(&world.disk, closed);
    let used = bytes.iter().rposition(|b| *b != 0).unwrap();
    for offset in (0..used).step_by(37) {
        let damaged = world.fork();
        assert!(damaged.disk.flip_bit(closed, offset as u64, 3));
        damaged.indexes.survive(Survival::Empty);
        let is_padding = bytes[52..64].iter().all(|b| *b == 0) && (44..64).contains(&offset);
        match damaged.try_open(false) {
            Err(OpenError::Corrupt(_)) => {}
            Ok(_) if is_padding => {}
            other => panic!("byte {offset} of {closed}: {:?}", other.map(|(_, report)| report)),
        }
    }
}

#[test]
fn damage_to_what_was_synced_last_is_seen_by_the_index() {
    let mut world = World::new();
    drop(written(&world, 3));
    world.crash(Loss::All, Survival::Everything);
    let name = "log-0000000001.seg";
    let last = content(&world.disk, name).iter().rposition(|b| *b != 0).unwrap() as u64;
    assert!(world.disk.flip_bit(name, last, 0));
    let with_index = world.fork();
    with_index.indexes.survive(Survival::Everything);
    assert!(matches!(with_index.try_open(false), Err(OpenError::Corrupt(Corruption::BehindIndex { .. }))));
    // Without a witness it is the same as a group whose sync had not returned.
    world.indexes.survive(Survival::Empty);
    assert!(world.open().1.torn_bytes > 0);
}

#[test]
fn damage_before_the_last_group_of_the_last_segment_is_not_taken_for_a_torn_tail() {
    let mut world = World::new();
    drop(written(&world, 3));
    world.crash(Loss::All, Survival::Everything);
    let name = "log-0000000001.seg";
    let used = content(&world.disk, name).iter().rposition(|b| *b != 0).unwrap() as u64;
    // The last group holds one op of somewhat over 300 bytes.
    for offset in (64..used - 600).step_by(29) {
        let damaged = world.fork();
        damaged.disk.flip_bit(name, offset, 5);
        damaged.indexes.survive(Survival::Empty);
        let opened = damaged.try_open(false).map(|(_, report)| report);
        assert!(matches!(opened, Err(OpenError::Corrupt(Corruption::Group { .. }))), "{offset}: {opened:?}");
    }
}

#[test]
fn a_torn_group_leaves_no_bytes_behind() {
    let mut torn = 0;
    for seed in 0..20 {
        let mut world = World::new();
        let mut engine = written(&world, 1);
        world.disk.crash_after(1);
        assert!(commit(&mut engine, vec![Request::Change(put(2, &"t".repeat(900)))]).is_err());
        drop(engine);
        world.crash(Loss::Some { seed }, Survival::Everything);
        let (engine, report) = world.open();
        torn += u64::from(report.torn_bytes > 0);
        let end = usize::try_from(engine.snapshot().position.0).unwrap();
        let behind = &content(&world.disk, "log-0000000001.seg")[64 + end..];
        assert!(behind.iter().all(|byte| *byte == 0), "seed {seed}");
    }
    assert!(torn > 5);
}

#[test]
fn what_was_dropped_in_a_group_covers_nothing_that_came_later_in_it() {
    let mut b = Model::of_node("b");
    b.run(vec![put(1, "older")]);
    b.run(vec![put(1, "covers the older one")]);
    let ops: Vec<_> = b.ops.into_values().collect();
    let mut world = World::new();
    let (mut engine, _) = world.open();
    commit(&mut engine, vec![Request::Change(Change::Admit(ops[1].clone()))]).unwrap();
    let drop_it = Change::DropDead { key: key(1), dots: vec![ops[1].op.dot.clone()] };
    let both = vec![Request::Change(drop_it), Request::Change(Change::Admit(ops[0].clone()))];
    commit(&mut engine, both).unwrap();
    let before = see(&engine, keys());
    assert_eq!(before.records[&key(1)].ops, [ops[0].sealed.clone()]);
    drop(engine);
    world.crash(Loss::All, Survival::Empty);
    assert_eq!(see(&world.open().0, keys()), before);
}

#[test]
fn a_missing_segment_is_reported() {
    let mut world = World::new();
    drop(written(&world, 40));
    world.crash(Loss::All, Survival::Everything);
    world.disk.remove("log-0000000002.seg").unwrap();
    let missing = Corruption::Missing { segment: 2 };
    assert!(matches!(world.try_open(false), Err(OpenError::Corrupt(found)) if found == missing));
}

#[test]
fn a_mark_in_a_payload_is_not_taken_for_one() {
    let mut world = World::new();
    let mut engine = written(&world, 1);
    // Real marks of this very log inside a record that is torn: they name positions before it.
    let log = content(&world.disk, "log-0000000001.seg");
    let mut change = put(2, "");
    if let Change::Write(mutation) = &mut change {
        mutation.body = Body::Put { payload: log[64..1_500].into(), embedding: None, archived: false };
    }
    world.disk.crash_after(1);
    assert!(commit(&mut engine, vec![Request::Change(change)]).is_err());
    for seed in 0..50 {
        let mut torn = world.fork();
        torn.crash(Loss::Some { seed }, Survival::Empty);
        torn.open();
    }
    drop(engine);
    world.crash(Loss::None, Survival::Empty);
    world.open();
}

#[test]
fn directories_that_are_not_to_be_opened() {
    let mut world = World::new();
    let (mut engine, report) = world.try_open(true).unwrap();
    assert!(report.is_new);
    assert!(engine.snapshot().facts.pristine && engine.snapshot().facts.rebootstrap.is_none());
    commit(&mut engine, vec![open_epoch()]).unwrap();
    let store = engine.snapshot().facts.store;
    drop(engine);
    world.crash(Loss::All, Survival::Everything);
    assert!(matches!(world.fork().try_open(true), Err(OpenError::NotEmpty)));
    let mut other = setup(small(), false);
    other.node = node("b");
    let opened = Engine::open(world.fork().disk, &world.indexes.fork(), other, &mut |_, _| {});
    assert!(matches!(opened, Err(OpenError::OtherNode { .. })));
    let (engine, report) = world.fork().open();
    assert_eq!((engine.snapshot().facts.store, report.is_new), (store, false));
    assert_eq!(engine.snapshot().facts.own_epoch.map(|epoch| epoch.0), Some(1));

    world.disk.write_small("FORMAT", b"federation-store 3 and more\n").unwrap();
    assert!(matches!(world.try_open(false), Err(OpenError::NewerFormat { found: 3, supported: 2 })));
    world.disk.write_small("FORMAT", b"what?").unwrap();
    assert!(matches!(world.try_open(false), Err(OpenError::FormatUnreadable)));
    world.disk.remove("FORMAT").unwrap();
    assert!(matches!(world.try_open(false), Err(OpenError::FormatUnreadable)));
}

#[test]
fn an_empty_directory_without_a_new_mesh_begins_with_a_re_bootstrap() {
    let mut world = World::new();
    let (engine, _) = world.open();
    assert!(!engine.snapshot().facts.pristine && engine.snapshot().facts.rebootstrap.is_some());
    drop(engine);
    world.crash(Loss::All, Survival::Empty);
    assert!(world.open().0.snapshot().facts.rebootstrap.is_some(), "a restart in between goes on with it");
}

#[test]
fn a_re_bootstrap_ends_the_epoch_of_own_ops() {
    let mut world = World::new();
    let mut engine = written(&world, 1);
    let store = StoreId { created_ms: NOW + 1, random: 1 };
    commit(&mut engine, vec![Request::Remember(Fact::RebootstrapBegun { store })]).unwrap();
    let refused = commit(&mut engine, vec![Request::Change(put(1, "under which epoch?"))]).unwrap();
    assert_eq!(refused.outcomes, [Outcome::Refused(WriteRefusal::NoEpoch)]);
    let facts = engine.snapshot().facts.clone();
    assert_eq!((facts.store, facts.own_epoch, facts.pristine), (Some(store), None, false));
    drop(engine);
    for survival in [Survival::Everything, Survival::Empty] {
        world.crash(Loss::All, survival);
        let again = world.open().0.snapshot().facts.clone();
        assert_eq!(
            (again.store, again.own_epoch, &again.rebootstrap),
            (Some(store), None, &facts.rebootstrap)
        );
    }
}

#[test]
fn what_is_known_already_costs_no_sync() {
    let world = World::new();
    let mut engine = written(&world, 1);
    let operations = world.disk.operations();
    let idle = vec![
        open_epoch(),
        Request::BeginSession { peer: node("b") },
        Request::EndSession(federation_core::port::store::SessionId(1)),
        Request::Change(Change::Complete(engine.snapshot().clock.clone())),
    ];
    let committed = commit(&mut engine, idle).unwrap();
    assert!(matches!(committed.outcomes[1], Outcome::Session(_)));
    assert_eq!(world.disk.operations(), operations);
    assert_eq!(committed.position, engine.snapshot().position);
}
