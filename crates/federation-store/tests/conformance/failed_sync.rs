//! After a failed write or sync the machine goes on: memory shows what the disk may not have. The process starts again,
//! and only later the power goes.

use std::collections::BTreeSet;

use federation_core::port::store::Request;
use federation_store::disk::{Disk, Loss};
use federation_store::index::Survival;
use federation_store::{OpenError, SimulatedDisk};

use crate::script::{Look, Ran, compact, expected, key, keys, losses, open_epoch, put, run, script};
use crate::world::{Seen, SimulatedEngine, World, commit, see};

const SURVIVALS: [Survival; 3] =
    [Survival::Everything, Survival::Checkpoint { before_last: 0 }, Survival::Empty];

/// The process ends, the machine does not.
fn restart(world: &mut World, survival: Survival) {
    world.disk = world.disk.restarted();
    world.indexes.survive(survival);
}

fn written() -> (World, SimulatedEngine) {
    let world = World::new();
    let (mut engine, _) = world.open();
    commit(&mut engine, vec![open_epoch()]).unwrap();
    for i in 0..3 {
        commit(&mut engine, vec![Request::Change(put(i, &"y".repeat(300)))]).unwrap();
    }
    (world, engine)
}

/// Every way in which the power may go.
fn power_cuts() -> impl Iterator<Item = (Loss, Survival)> {
    let losses = std::iter::once(Loss::All).chain((0..60).map(|seed| Loss::Some { seed }));
    losses.flat_map(|loss| SURVIVALS.map(|survival| (loss, survival)))
}

#[test]
fn what_is_acknowledged_after_a_failed_sync_and_a_restart_survives_a_power_cut() {
    for (operation, writes) in [(0, 0), (0, 2), (1, 0), (1, 1), (1, 5)] {
        let (mut world, mut engine) = written();
        world.disk.fail_after(operation);
        assert!(commit(&mut engine, vec![Request::Change(put(9, "its sync fails"))]).is_err());
        drop(engine);
        restart(&mut world, Survival::Everything);
        let (mut engine, _) = world.open();
        for i in 0..writes {
            commit(&mut engine, vec![Request::Change(put(10 + i, &"z".repeat(i * 100)))]).unwrap();
        }
        let promised = see(&engine, keys());
        assert_eq!(promised.records[&key(9)].ops.len(), usize::try_from(operation).unwrap());
        drop(engine);
        for (loss, survival) in power_cuts() {
            let what = format!("operation {operation}, {writes} writes, {loss:?}, {survival:?}");
            let mut cut = world.fork();
            cut.crash(loss, survival);
            let (engine, _) = cut.try_open(false).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            assert_eq!(see(&engine, keys()), promised, "{what}");
        }
    }
}

#[test]
fn an_index_is_not_ahead_of_what_the_disk_has_of_the_log() {
    let (world, mut engine) = written();
    world.disk.fail_after(1);
    assert!(commit(&mut engine, vec![Request::Change(put(9, "its sync fails"))]).is_err());
    drop(engine);
    for operation in 0..20 {
        let mut world = world.fork();
        restart(&mut world, Survival::Everything);
        // The opening comes so far; then the power goes, and all of the index was on the disk.
        world.disk.crash_after(operation);
        let has_opened = world.try_open(false).is_ok();
        world.crash(Loss::All, Survival::Everything);
        world.try_open(false).unwrap_or_else(|error| panic!("operation {operation}: {error:?}"));
        if has_opened {
            return;
        }
    }
    panic!("opening takes more operations than that");
}

#[test]
fn a_failure_of_any_operation_a_restart_and_a_power_cut_lose_nothing_that_was_promised() {
    let steps = script();
    let expected = expected(&steps);
    let total = {
        let mut world = World::new();
        run(&mut world, &steps, Look::Never);
        world.disk.operations()
    };
    for operation in (0..total).step_by(2) {
        let mut world = World::new();
        world.disk.fail_after(operation);
        let (ran, engine) = run(&mut world, &steps, Look::Never);
        drop(engine);
        let survival = SURVIVALS[usize::try_from(operation / 2).unwrap() % SURVIVALS.len()];
        restart(&mut world, survival);
        let what = format!("operation {operation}");
        let promised = promise(&world, &ran, &expected, &what);
        for loss in losses(operation) {
            let mut cut = world.fork();
            cut.crash(loss, survival);
            assert_eq!(promise(&cut, &ran, &expected, &what), promised, "{what}, {loss:?}");
        }
    }
}

/// Opens what is there, which is to hold all that was acknowledged; then whoever asks may have seen it.
fn promise(world: &World, ran: &Ran, expected: &[Seen], what: &str) -> Seen {
    let (engine, _) = world.try_open(false).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    let seen = see(&engine, keys());
    let acknowledged = ran.steps.checked_sub(1).and_then(|last| expected.get(last));
    assert!(acknowledged.is_none_or(|state| seen.clock.contains_all(&state.clock)), "{what}: lost");
    seen
}

#[test]
fn the_power_going_during_an_opening_spoils_nothing_that_was_durable() {
    let (mut world, engine) = written();
    let acknowledged = see(&engine, keys());
    drop(engine);
    restart(&mut world, Survival::Everything);
    for operation in 0..20 {
        let opening = world.fork();
        opening.disk.crash_after(operation);
        let has_opened = opening.try_open(false).is_ok();
        for (loss, survival) in power_cuts() {
            let mut again = opening.fork();
            again.crash(loss, survival);
            let what = format!("power goes at {operation}, {loss:?}, {survival:?}");
            assert_eq!(holds(&again, &acknowledged, &what), acknowledged, "{what}");
        }
        if has_opened {
            return;
        }
    }
    panic!("opening takes more operations than that");
}

/// What may happen to an opening.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Fails,
    PowerGoes,
}

#[test]
fn an_opening_that_fails_or_loses_power_anywhere_is_tried_again_and_loses_nothing() {
    let mut longest = 0;
    for (written_bytes, fail) in
        [(0, 0), (0, 1), (20, 1), (900, 0), (900, 1), (2_500, 1), (3_900, 2), (3_900, 4), (3_900, 5)]
    {
        let (mut world, mut engine) = written();
        let acknowledged = see(&engine, keys());
        world.disk.fail_after(fail);
        let last = commit(&mut engine, vec![Request::Change(put(9, &"l".repeat(written_bytes)))]);
        let acknowledged = if last.is_ok() { see(&engine, keys()) } else { acknowledged };
        drop(engine);
        restart(&mut world, Survival::Everything);
        for trouble in [Trouble::Fails, Trouble::PowerGoes] {
            for operation in 0..40 {
                let what = format!("{written_bytes} bytes, {fail}, {trouble:?} at {operation}");
                let opening = world.fork();
                match trouble {
                    Trouble::Fails => opening.disk.fail_after(operation),
                    Trouble::PowerGoes => opening.disk.crash_after(operation),
                }
                if opening.try_open(false).is_ok()
                    && opening.disk.operations() <= world.disk.operations() + operation
                {
                    longest = longest.max(operation);
                    break;
                }
                for loss in losses(operation * 7) {
                    let mut again = opening.fork();
                    match trouble {
                        // First the process alone ends, and it opens; then the power goes.
                        Trouble::Fails => {
                            restart(&mut again, Survival::Everything);
                            let promised = holds(&again, &acknowledged, &what);
                            again.crash(loss, Survival::Everything);
                            assert_eq!(holds(&again, &promised, &what), promised, "{what}, {loss:?}");
                        }
                        Trouble::PowerGoes => {
                            again.crash(loss, Survival::Everything);
                            holds(&again, &acknowledged, &what);
                        }
                    }
                }
            }
        }
    }
    assert!((5..39).contains(&longest), "an opening has {longest} operations");
}

fn holds(world: &World, promised: &Seen, what: &str) -> Seen {
    let (engine, _) = world.try_open(false).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    let seen = see(&engine, keys());
    assert!(seen.clock.contains_all(&promised.clock), "{what}: lost");
    for (key, read) in &promised.records {
        assert!(!seen.records[key].ops.is_empty() || read.ops.is_empty(), "{what}: {key} is gone");
    }
    seen
}

#[test]
fn no_history_of_failures_restarts_and_power_cuts_loses_what_was_promised() {
    let (mut reopened, mut refused, mut acknowledged) = (0, 0, 0);
    for seed in 0..500 {
        let mut history = History::new(seed);
        for _ in 0..40 {
            history.step();
        }
        history.open();
        reopened += history.opened;
        refused += history.refused;
        acknowledged += history.acknowledged;
    }
    assert!(reopened > 3_000 && refused > 500 && acknowledged > 8_000, "{reopened} {refused} {acknowledged}");
}

struct History {
    seed: u64,
    random: Random,
    world: World,
    engine: Option<SimulatedEngine>,
    /// What somebody was told or has seen.
    promised: Option<Seen>,
    texts: usize,
    opened: u64,
    refused: u64,
    acknowledged: u64,
}

impl History {
    fn new(seed: u64) -> Self {
        let (random, world) = (Random(seed), World::new());
        let (engine, promised) = (None, None);
        Self { seed, random, world, engine, promised, texts: 0, opened: 0, refused: 0, acknowledged: 0 }
    }

    fn step(&mut self) {
        match self.random.below(16) {
            0 | 1 => self.world.disk.fail_after(self.random.below(12)),
            2 | 3 => self.restart(),
            4 => self.cut(),
            5 => drop(self.engine.as_mut().map(SimulatedEngine::checkpoint)),
            6 => drop(self.engine.as_mut().map(compact)),
            _ => self.write(),
        }
    }

    fn write(&mut self) {
        if self.engine.is_none() {
            self.open();
        }
        let Some(engine) = &mut self.engine else { return };
        self.texts += 1;
        let bytes = usize::try_from(self.random.below(1_500)).unwrap();
        let text = format!("{} {}", self.texts, "w".repeat(bytes));
        let id = usize::try_from(self.random.below(6)).unwrap();
        if commit(engine, vec![open_epoch(), Request::Change(put(id, &text))]).is_ok() {
            self.acknowledged += 1;
            self.promised = Some(see(engine, keys()));
        }
    }

    fn restart(&mut self) {
        self.engine = None;
        let survival = self.survival(false);
        restart(&mut self.world, survival);
    }

    fn cut(&mut self) {
        self.engine = None;
        let seed = self.random.below(u64::MAX);
        let loss = if seed.is_multiple_of(3) { Loss::All } else { Loss::Some { seed } };
        let survival = self.survival(true);
        self.world.crash(loss, survival);
    }

    fn survival(&mut self, has_lost_power: bool) -> Survival {
        match self.random.below(8) {
            0 => Survival::Empty,
            1 => Survival::Damaged,
            2 | 3 if has_lost_power => Survival::Checkpoint { before_last: 0 },
            4 if has_lost_power => Survival::Checkpoint { before_last: 1 },
            _ => Survival::Everything,
        }
    }

    /// Opens, however often it fails on the way, and checks that all is there.
    fn open(&mut self) {
        for _ in 0..20 {
            match self.world.try_open(false) {
                Ok((engine, _)) => {
                    let seen = see(&engine, keys());
                    if let Some(promised) = &self.promised {
                        assert!(seen.clock.contains_all(&promised.clock), "seed {}: lost", self.seed);
                        for (key, read) in &promised.records {
                            let is_there = seen.records[key] == *read || seen.clock != promised.clock;
                            assert!(is_there, "seed {}: {key} differs", self.seed);
                            let has_none = seen.records[key].ops.is_empty();
                            assert!(read.ops.is_empty() || !has_none, "seed {}: {key} is gone", self.seed);
                        }
                    }
                    self.opened += 1;
                    self.promised = Some(seen);
                    self.engine = Some(engine);
                    return;
                }
                // The one reason is the failure that was asked for.
                Err(OpenError::Disk(_)) => self.refused += 1,
                Err(error) => panic!("seed {}: {error:?}", self.seed),
            }
            if self.random.below(2) == 0 {
                self.restart();
            } else {
                self.cut();
            }
        }
        panic!("seed {}: it never opens", self.seed);
    }
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

#[test]
fn the_leftovers_of_an_opening_go_with_the_next() {
    let (mut world, engine) = written();
    drop(engine);
    restart(&mut world, Survival::Everything);
    drop(world.open());
    let names: BTreeSet<String> = SimulatedDisk::list(&world.disk).unwrap().into_iter().collect();
    assert_eq!(names, BTreeSet::from(["FORMAT".to_owned(), "log-0000000001.seg".to_owned()]));
}
