//! Many seeds, on as many threads as there are cores.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Finding;
use super::coverage::Coverage;
use super::world::{Options, Outcome, run};
use crate::schedule::{Drawing, FaultClass, Schedule, draw};

/// Fewest nodes of a run that counts.
const NODES_MIN: usize = 3;
/// Fewest calls of clients of a run that counts.
const CALLS_MIN: usize = 200;
/// How long a seed may take, which takes a second.
const SEED_WALL_TIME_MAX: Duration = Duration::from_mins(5);
/// Fewest faults of a run that counts.
const FAULTS_MIN: u64 = 3;

/// Which seeds to run, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The first seed.
    pub first: u64,
    /// How many.
    pub seeds: u64,
    /// Calls of each run.
    pub calls: usize,
    /// The faults that a run may have.
    pub classes: BTreeSet<FaultClass>,
    /// How each is run and judged.
    pub options: Options,
    /// Whether to go on after a seed that is not as it should be.
    pub after_failure: AfterFailure,
    /// Threads to run on.
    pub threads: usize,
}

/// What follows a seed that is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// The seeds that are under way, and no others.
    Stop,
    /// The next.
    GoOn,
}

/// What came of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// Seeds that were run.
    pub ran: u64,
    /// Of these, with enough nodes, calls and faults to count.
    pub counted: u64,
    /// What is wrong, by seed.
    pub failed: BTreeMap<u64, Vec<Finding>>,
    /// What was reached.
    pub coverage: Coverage,
    /// Faults that took effect.
    pub faults: BTreeMap<FaultClass, u64>,
}

impl Plan {
    /// All faults, one seed after the other, on every core.
    pub fn new(first: u64, seeds: u64) -> Self {
        let Drawing { calls, classes, .. } = Drawing::new(first);
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let (options, after_failure) = (Options::default(), AfterFailure::Stop);
        Self { first, seeds, calls, classes, options, after_failure, threads }
    }

    /// The schedule of one of its seeds.
    pub fn schedule(&self, seed: u64) -> Schedule {
        draw(&Drawing { seed, calls: self.calls, classes: self.classes.clone() })
    }

    /// Runs it. `each` is told of every seed as it ends, and what is wrong with it.
    pub fn run(&self, each: impl Fn(u64, &[Finding]) + Sync) -> Results {
        let next = AtomicU64::new(self.first);
        let has_failed = AtomicBool::new(false);
        let results = Mutex::new(Results::default());
        let running = Running::default();
        std::thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        let is_over =
                            has_failed.load(Ordering::Relaxed) && self.after_failure == AfterFailure::Stop;
                        if seed >= self.first + self.seeds || is_over {
                            return;
                        }
                        let begun = running.begin(seed);
                        let outcome = run_caught(&self.schedule(seed), &self.options);
                        drop(begun);
                        let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                        let findings = results.add(seed, outcome);
                        has_failed.fetch_or(!findings.is_empty(), Ordering::Relaxed);
                        each(seed, findings);
                    }
                });
            }
        });
        results.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The seeds that are under way. One that does not end would be waited for in silence: the process says which, and
/// ends.
#[derive(Clone, Default)]
struct Running {
    since: Arc<Mutex<BTreeMap<u64, Instant>>>,
}

/// A seed under way, until this is dropped.
struct Begun(Running, u64);

impl Running {
    fn begin(&self, seed: u64) -> Begun {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_empty() {
            let watched = self.clone();
            std::thread::spawn(move || watched.watch());
        }
        since.insert(seed, Instant::now());
        Begun(self.clone(), seed)
    }

    /// Looks until nothing is under way.
    fn watch(&self) {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
            let Some((seed, _)) = since.iter().min_by_key(|(_, since)| **since) else { return };
            if since.values().any(|since| since.elapsed() > SEED_WALL_TIME_MAX) {
                eprintln!("seed {seed} has not ended after {SEED_WALL_TIME_MAX:?}: the simulation hangs");
                std::process::exit(2);
            }
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.since.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// Runs a schedule; a panic is something wrong like any other.
///
/// # Errors
/// What the panic said is on the standard error already.
pub fn run_caught(schedule: &Schedule, options: &Options) -> Result<Outcome, Finding> {
    let panicked = |_| Finding { claim: "no panic".to_owned(), seen: "the message stands above".to_owned() };
    catch_unwind(AssertUnwindSafe(|| run(schedule, options))).map_err(panicked)
}

impl Results {
    /// Counts what came of a seed. Gives what is wrong with it.
    fn add(&mut self, seed: u64, outcome: Result<Outcome, Finding>) -> &[Finding] {
        self.ran += 1;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(finding) => return self.failed.entry(seed).or_insert(vec![finding]),
        };
        let faults: u64 = outcome.faults.values().sum();
        let counts = outcome.history.nodes >= NODES_MIN && outcome.calls >= CALLS_MIN && faults >= FAULTS_MIN;
        self.counted += u64::from(counts);
        self.coverage.merge(&outcome.coverage);
        for (class, count) in outcome.faults {
            *self.faults.entry(class).or_default() += count;
        }
        if outcome.findings.is_empty() {
            return &[];
        }
        self.failed.entry(seed).or_insert(outcome.findings)
    }
}
