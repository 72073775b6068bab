//! The oldest segments go, and nothing that counts goes with them.

use federation_core::decide::Change;
use federation_core::dot::Origin;
use federation_core::dot_set::DotSet;
use federation_core::id::BootId;
use federation_core::node_clock::NodeClock;
use federation_core::port::store::Request;
use federation_core::scope::Scope;
use federation_core::seq_ranges::SeqRange;
use federation_store::disk::{Disk, Loss};
use federation_store::index::Survival;
use federation_store::{Compacted, ProofVerdict, RebuildReason, verify};

use crate::model::origin;
use crate::script::{Look, PIECE_BYTES, Step, compact, expected, keys, open_epoch, put, run, script};
use crate::world::{Seen, SimulatedEngine, World, commit, commit_group, see};

/// Own writes that replace one another, until there is a lot of garbage.
fn overwritten(world: &World, writes: usize) -> SimulatedEngine {
    let (mut engine, _) = world.open();
    commit(&mut engine, vec![open_epoch()]).unwrap();
    for i in 0..writes {
        commit(&mut engine, vec![Request::Change(put(i % 8, &format!("{i} {}", "y".repeat(300))))]).unwrap();
    }
    engine
}

fn segments(world: &World) -> Vec<String> {
    world.disk.list().unwrap().into_iter().filter(|name| name.starts_with("log-")).collect()
}

/// What is shown by an index that is made anew from what a power cut leaves now, and what `verify` says to that.
fn rebuilt(world: &World, survival: Survival, what: &str) -> Seen {
    let mut cut = world.fork();
    cut.crash(Loss::All, survival);
    let report = verify(cut.disk.clone(), Some(&cut.indexes), &mut |_, _| ProofVerdict::Holds).unwrap();
    assert!(report.is_sound(), "{what}: {:?} {:?}", report.faults, report.index);
    cut.indexes.survive(survival);
    let (engine, _) = cut.try_open(false).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert_eq!(report.clock, engine.snapshot().clock);
    see(&engine, keys())
}

#[test]
fn after_every_step_an_index_made_anew_shows_what_the_running_one_shows() {
    let (mut steps_done, mut removed) = (0, 0);
    let mut world = World::new();
    let (mut engine, _) = world.open();
    for (step, expected) in script().into_iter().zip(expected(&script())) {
        match step {
            Step::Group(batches) => assert!(commit_group(&mut engine, batches).iter().all(Result::is_ok)),
            Step::Checkpoint => engine.checkpoint().unwrap(),
            Step::Restart => {
                world.crash(Loss::All, Survival::Everything);
                engine = world.open().0;
            }
            Step::Compact => loop {
                let compacted = engine.compact(PIECE_BYTES).unwrap();
                steps_done += 1;
                assert_eq!(see(&engine, keys()), expected, "step {steps_done}, as it runs");
                for survival in [
                    Survival::Empty,
                    Survival::Everything,
                    Survival::Checkpoint { before_last: 0 },
                    Survival::Checkpoint { before_last: 1 },
                ] {
                    let what = format!("step {steps_done}, {compacted:?}, {survival:?}");
                    assert_eq!(rebuilt(&world, survival, &what), expected, "{what}");
                }
                match compacted {
                    Compacted::More => {}
                    Compacted::Waits => engine.checkpoint().unwrap(),
                    Compacted::Done => {
                        removed += engine.metrics().segments_removed.value();
                        break;
                    }
                }
            },
        }
        assert_eq!(see(&engine, keys()), expected);
    }
    assert!(steps_done > 40 && removed > 10, "{steps_done} steps, {removed} segments");
}

#[test]
fn the_log_is_never_more_than_twice_what_is_live_and_two_segments() {
    let world = World::new();
    let mut engine = overwritten(&world, 8);
    let live = engine.metrics().live_bytes.value();
    for i in 0..1_000 {
        commit(&mut engine, vec![Request::Change(put(i % 8, &format!("{i} {}", "y".repeat(300))))]).unwrap();
        compact(&mut engine).unwrap();
        let size = engine.metrics().log_size_bytes.value();
        assert!(size <= 2 * live + 2 * 4_096, "{size} bytes of which {live} are live");
    }
    let metrics = engine.metrics();
    assert!(metrics.segments_removed.value() > 100);
    assert!(segments(&world).len() < 6, "{:?}", segments(&world));
    let written = metrics.log_bytes.value() - metrics.compaction_bytes.value();
    assert!(metrics.compaction_bytes.value() < written, "each byte is copied less than once");
}

#[test]
fn what_is_live_and_old_is_not_copied_for_ever() {
    let world = World::new();
    let (mut engine, _) = world.open();
    commit(&mut engine, vec![open_epoch()]).unwrap();
    for i in 0..20 {
        commit(&mut engine, vec![Request::Change(put(i, &"cold ".repeat(100)))]).unwrap();
    }
    assert!(!engine.wants_compaction(), "all of it is live");
    for i in 0..400 {
        commit(&mut engine, vec![Request::Change(put(21, &format!("{i} {}", "hot".repeat(100))))]).unwrap();
        compact(&mut engine).unwrap();
        assert_eq!(engine.compact(PIECE_BYTES), Ok(Compacted::Done), "nothing was written since");
    }
    let metrics = engine.metrics();
    let (copied, written) = (metrics.compaction_bytes.value(), metrics.log_bytes.value());
    assert!(copied > 0 && copied < 2 * (written - copied), "{copied} of {written} bytes are copies");
}

#[test]
fn what_a_crash_leaves_of_a_removal_goes_with_the_next_start() {
    let mut world = World::new();
    let mut engine = overwritten(&world, 60);
    while engine.metrics().segments_removed.value() == 0 {
        if engine.compact(PIECE_BYTES).unwrap() == Compacted::Waits {
            engine.checkpoint().unwrap();
        }
    }
    let before = see(&engine, keys());
    drop(engine);
    // The removal itself is not synced: the file is there again.
    world.crash(Loss::All, Survival::Everything);
    assert_eq!(segments(&world)[0], "log-0000000001.seg");
    assert_eq!(see(&world.open().0, keys()), before);
    assert_eq!(segments(&world)[0], "log-0000000002.seg");
    assert_eq!(world.open().1.rebuilt, None);
}

#[test]
fn a_segment_that_compaction_did_not_take_is_missing() {
    let mut world = World::new();
    let mut engine = overwritten(&world, 60);
    compact(&mut engine).unwrap();
    drop(engine);
    world.crash(Loss::None, Survival::Everything);
    let left = segments(&world);
    world.disk.remove(&left[0]).unwrap();
    let opened = world.try_open(false).map(|(_, report)| report);
    assert!(format!("{opened:?}").contains("Missing"), "{opened:?}");
}

#[test]
fn damage_in_the_oldest_segment_halts_compaction_and_nothing_goes() {
    let mut world = World::new();
    drop(overwritten(&world, 60));
    world.crash(Loss::All, Survival::Everything);
    world.disk.flip_bit("log-0000000001.seg", 2_000, 3);
    let (mut engine, _) = world.open();
    let (before, count) = (see(&engine, keys()), segments(&world).len());
    compact(&mut engine).unwrap();
    assert!(!engine.wants_compaction());
    assert_eq!(engine.metrics().unreadable.value(), 1, "it is told");
    assert_eq!((see(&engine, keys()), segments(&world).len()), (before, count));
    commit(&mut engine, vec![open_epoch(), Request::Change(put(1, "writes go on"))]).unwrap();
}

#[test]
fn a_full_disk_lets_compaction_wait_and_then_go_on() {
    let mut world = World::new();
    let mut engine = overwritten(&world, 60);
    world.disk.set_capacity_bytes(Some(world.disk.used_bytes()));
    let before = see(&engine, keys());
    let waited = (0..100).any(|_| engine.compact(PIECE_BYTES).unwrap() == Compacted::Waits);
    assert!(waited, "there is no room for the copies");
    assert_eq!(see(&engine, keys()), before);
    world.disk.set_capacity_bytes(None);
    compact(&mut engine).unwrap();
    assert!(engine.metrics().segments_removed.value() > 3);
    assert_eq!(see(&engine, keys()), before);
    drop(engine);
    world.crash(Loss::All, Survival::Empty);
    let (engine, report) = world.open();
    assert_eq!((see(&engine, keys()), report.rebuilt), (before, Some(RebuildReason::Missing)));
}

#[test]
fn a_failed_operation_of_compaction_poisons_and_loses_nothing() {
    let world = World::new();
    let mut engine = overwritten(&world, 60);
    let before = see(&engine, keys());
    engine.checkpoint().unwrap();
    drop(engine);
    for operation in 0.. {
        let mut world = world.fork();
        world.crash(Loss::All, Survival::Everything);
        let (mut engine, _) = world.open();
        world.disk.fail_after(operation);
        if compact(&mut engine).is_ok() {
            assert!(operation > 30, "compaction has only {operation} operations");
            return;
        }
        assert!(!engine.wants_compaction(), "{operation}: poisoned");
        assert_eq!(see(&engine, keys()), before, "{operation}: reads go on");
        drop(engine);
        for loss in [Loss::None, Loss::All, Loss::Some { seed: operation }] {
            for survival in [Survival::Everything, Survival::Checkpoint { before_last: 0 }, Survival::Empty] {
                let mut cut = world.fork();
                cut.crash(loss, survival);
                assert_eq!(see(&cut.open().0, keys()), before, "{operation}, {loss:?}, {survival:?}");
            }
        }
    }
}

#[test]
fn a_directory_of_the_first_format_is_opened_and_is_of_this_one_then() {
    let mut world = World::new();
    let engine = overwritten(&world, 20);
    let before = see(&engine, keys());
    drop(engine);
    world.crash(Loss::All, Survival::Everything);
    let now = String::from_utf8(world.disk.read_small("FORMAT").unwrap().unwrap()).unwrap();
    let salt = now.split_whitespace().nth(2).unwrap();
    world.disk.write_small("FORMAT", format!("federation-store 1 {salt}\n").as_bytes()).unwrap();
    assert_eq!(see(&world.open().0, keys()), before);
    assert_eq!(world.disk.read_small("FORMAT").unwrap().unwrap(), now.as_bytes());
}

#[test]
fn the_script_compacts() {
    let mut world = World::new();
    let (_, engine) = run(&mut world, &script(), Look::Never);
    assert!(engine.unwrap().metrics().segments_removed.value() > 5, "since its last restart");
    assert_ne!(segments(&world)[0], "log-0000000001.seg");
}

#[test]
fn a_clock_that_a_widened_scope_forgot_does_not_come_back() {
    let mut world = World::new();
    let narrow = Scope::parse(["team/*"]).unwrap();
    let mut engine = world.open_keeping(narrow.clone());
    let open = |epoch| Request::Change(Change::OpenEpoch(Origin { epoch: BootId(epoch), ..origin("a") }));
    let fill = |engine: &mut SimulatedEngine, epoch| {
        commit(engine, vec![open(epoch)]).unwrap();
        for i in 0..40 {
            commit(engine, vec![Request::Change(put(i % 4, &format!("{i} {}", "y".repeat(300))))]).unwrap();
        }
    };
    fill(&mut engine, 1);
    let mut claimed = DotSet::new();
    claimed.insert_range(&origin("b"), SeqRange { first: 1, last: 9 });
    commit(&mut engine, vec![Request::Change(Change::Complete(NodeClock::from(claimed.clone())))]).unwrap();
    drop(engine);
    // From wide to narrow and back: what the beginning of the log said of the scope is gone when it is read again.
    for (epoch, scope) in [(2, Scope::everything()), (3, narrow), (4, Scope::everything())] {
        let mut engine = world.open_keeping(scope.clone());
        fill(&mut engine, epoch);
        let clock = engine.snapshot().clock.clone();
        assert!(!clock.contains_all(&NodeClock::from(claimed.clone())), "a wider scope forgets it");
        loop {
            let before = see(&engine, keys());
            let compacted = engine.compact(PIECE_BYTES).unwrap();
            let mut cut = world.fork();
            cut.crash(Loss::All, Survival::Empty);
            assert_eq!(see(&cut.open_keeping(scope.clone()), keys()), before, "epoch {epoch}");
            match compacted {
                Compacted::More => {}
                Compacted::Waits => engine.checkpoint().unwrap(),
                Compacted::Done => break,
            }
        }
        drop(engine);
        world.crash(Loss::All, Survival::Everything);
    }
}
