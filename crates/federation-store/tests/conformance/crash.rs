//! A crash after every single disk operation of the script, opened again in every way there is.

use std::collections::BTreeSet;

use federation_core::dot_set::DotSet;
use federation_core::id::LogPosition;
use federation_core::port::store::{Boot, Fact, Request};
use federation_store::disk::Loss;
use federation_store::index::Survival;
use federation_store::{OpenReport, RebuildReason};

use crate::model::{Model, check_i1};
use crate::script::{Look, Ran, Step, expected, key, keys, losses, open_epoch, put, run, script};
use crate::world::{Seen, SimulatedEngine, World, commit, see};

const SURVIVALS: [Survival; 6] = [
    Survival::Checkpoint { before_last: 0 },
    Survival::Checkpoint { before_last: 1 },
    Survival::Checkpoint { before_last: 3 },
    Survival::Empty,
    Survival::Damaged,
    Survival::Everything,
];

#[test]
fn the_script_shows_what_the_model_shows() {
    let steps = script();
    let mut model = Model::default();
    for (step, seen) in steps.iter().zip(expected(&steps)) {
        match step {
            Step::Group(batches) => {
                let changes = batches.iter().flatten().filter_map(|request| match request {
                    Request::Change(change) => Some(change.clone()),
                    _ => None,
                });
                model.run(changes.collect());
                let begins_anew = |r: &Request| matches!(r, Request::Remember(Fact::RebootstrapBegun { .. }));
                if batches.iter().flatten().any(begins_anew) {
                    model.end_epoch();
                }
            }
            Step::Checkpoint | Step::Compact => {}
            Step::Restart => model.restart(),
        }
        assert_eq!(seen.clock, model.clock);
        for (key, read) in &seen.records {
            assert_eq!(read.record, model.records.get(key).cloned().unwrap_or_default(), "{key}");
            let ops: Vec<_> =
                read.record.versions().iter().map(|v| model.ops[&v.dot].sealed.clone()).collect();
            assert_eq!(read.ops, ops, "{key}");
        }
        assert_eq!(seen.hash.versions, model.live().len() as u64);
        model.check_i1();
    }
}

#[test]
fn a_crash_after_any_operation_loses_nothing_that_was_acknowledged() {
    let steps = script();
    let expected = expected(&steps);
    let total = {
        let mut world = World::new();
        run(&mut world, &steps, Look::Never);
        world.disk.operations()
    };
    assert!(total > 280, "the script has only {total} operations");
    let (first, second) = std::thread::scope(|scope| {
        let half = scope.spawn(|| crash_after_each((0..=total).step_by(2), &steps, &expected));
        (crash_after_each((1..=total).step_by(2), &steps, &expected), half.join().unwrap())
    });
    let reached: BTreeSet<String> = first.into_iter().chain(second).collect();
    for what in
        ["torn tail cut", "rebuilt: Missing", "rebuilt: Unreadable", "replayed", "index complete", "new"]
    {
        assert!(reached.contains(what), "never reached: {what} ({reached:?})");
    }
}

fn crash_after_each(
    operations: impl Iterator<Item = u64>,
    steps: &[Step],
    expected: &[Seen],
) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    for operation in operations {
        let mut crashed = World::new();
        crashed.disk.crash_after(operation);
        let (ran, _) = run(&mut crashed, steps, Look::Never);
        // Every survival meets every loss, at neighbouring operations.
        for (i, loss) in losses(operation).into_iter().enumerate() {
            let survival = SURVIVALS[(usize::try_from(operation / 2).unwrap() + i) % SURVIVALS.len()];
            reached.insert(note(&check_reopened(crashed.fork(), loss, survival, &ran, expected)));
        }
    }
    reached
}

#[test]
fn an_index_older_than_the_logs_checkpoint_is_made_again() {
    let mut world = World::new();
    let steps = script();
    let (ran, _) = run(&mut world, &steps, Look::Never);
    let expected = expected(&steps);
    assert!(world.indexes.checkpoints() > 3);
    for before_last in 1..world.indexes.checkpoints() {
        let survival = Survival::Checkpoint { before_last };
        let report = check_reopened(world.fork(), Loss::All, survival, &ran, &expected);
        assert_eq!(report.rebuilt, Some(RebuildReason::Older), "{before_last}");
    }
    let last = Survival::Checkpoint { before_last: 0 };
    assert_eq!(check_reopened(world.fork(), Loss::All, last, &ran, &expected).rebuilt, None);
}

/// Opens what a crash left, and checks it; then writes, crashes again, and checks that.
fn check_reopened(
    mut world: World,
    loss: Loss,
    survival: Survival,
    ran: &Ran,
    expected: &[Seen],
) -> OpenReport {
    let what = format!("{loss:?} {survival:?} after {} steps", ran.steps);
    world.crash(loss, survival);
    let (mut engine, report) = world.try_open(false).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    let seen = check_state(&engine, ran, expected, &what);
    check_boots(&engine.snapshot().facts.boots, ran, &what);

    let more = vec![open_epoch(), Request::Change(put(3, "after the crash"))];
    let committed = commit(&mut engine, more).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    assert!(committed.position.0 > report.recovered_to);
    let after = see(&engine, keys());
    assert_ne!(after.clock, seen.clock);
    drop(engine);
    world.crash(Loss::All, Survival::Empty);
    assert_eq!(see(&world.open().0, keys()), after, "{what}: a write after the crash is lost");
    report
}

/// The state is that after the acknowledged steps, or with the next one too, which was under way.
fn check_state(engine: &SimulatedEngine, ran: &Ran, expected: &[Seen], what: &str) -> Seen {
    let seen = see(engine, keys());
    let acknowledged = ran.steps.checked_sub(1).and_then(|last| expected.get(last));
    let next = expected.get(ran.steps);
    let is_known = match acknowledged {
        Some(state) => seen == *state,
        None => seen.clock.is_empty() && seen.hash.versions == 0,
    };
    // A group that holds a drop beside writes is written as several.
    let is_between = || {
        let covers = acknowledged.is_none_or(|state| seen.clock.contains_all(&state.clock));
        let within = next.is_some_and(|next| next.clock.contains_all(&seen.clock));
        covers && within && seen.records.values().any(|r| r.ops.iter().any(|op| is_mixed(&op.op.bytes)))
    };
    assert!(is_known || next == Some(&seen) || is_between(), "{what}: neither before nor after the step");
    let records = seen.records.iter().map(|(key, read)| (key.clone(), read.record.clone())).collect();
    let dropped: DotSet = dropped();
    check_i1(&seen.clock, &records, &dropped);
    seen
}

fn is_mixed(op: &[u8]) -> bool {
    op.windows(10).any(|w| w == b"before the" || w == b"after the ")
}

/// The dots that the script drops.
fn dropped() -> DotSet {
    let drops = script().into_iter().filter_map(|step| match step {
        Step::Group(batches) => Some(batches),
        _ => None,
    });
    let changes = drops.flatten().flatten().filter_map(|request| match request {
        Request::Change(federation_core::decide::Change::DropDead { dots, .. }) => Some(dots),
        _ => None,
    });
    changes.flatten().collect()
}

/// Each boot ended where it had told, or behind; the last one is running.
fn check_boots(boots: &[Boot], ran: &Ran, what: &str) {
    assert_eq!(boots.last().map(|b| b.ended_at), Some(None), "{what}");
    for (boot, position) in &ran.told {
        let ended = boots.iter().find(|b| b.id == *boot).and_then(|b| b.ended_at);
        assert!(ended >= Some(*position), "{what}: boot {boot} told {position:?}, ended at {ended:?}");
    }
    let ends: Vec<LogPosition> = boots.iter().filter_map(|b| b.ended_at).collect();
    assert!(ends.is_sorted(), "{what}: {ends:?}");
}

fn note(report: &OpenReport) -> String {
    match report.rebuilt {
        _ if report.torn_bytes > 0 => "torn tail cut".to_owned(),
        Some(reason) => format!("rebuilt: {reason:?}"),
        None if report.is_new => "new".to_owned(),
        None if report.replayed_ops > 0 => "replayed".to_owned(),
        None => "index complete".to_owned(),
    }
}

#[test]
fn a_group_read_from_memory_is_made_durable_before_it_is_served() {
    let mut world = World::new();
    let (mut engine, _) = world.open();
    commit(&mut engine, vec![open_epoch(), Request::Change(put(1, "acknowledged"))]).unwrap();
    // The next group is written; the process dies before its sync, and the machine does not.
    world.disk.crash_after(1);
    assert!(commit(&mut engine, vec![Request::Change(put(2, "written, not synced"))]).is_err());
    world.crash(Loss::None, Survival::Everything);
    let (engine, _) = world.open();
    let served = see(&engine, keys());
    assert_eq!(served.records[&key(2)].ops.len(), 1, "it is whole, so it is served");
    drop(engine);
    world.crash(Loss::All, Survival::Everything);
    assert_eq!(see(&world.open().0, keys()), served, "what was served once is lost");
}
