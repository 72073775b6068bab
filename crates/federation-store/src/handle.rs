//! The store as a daemon runs it: one thread that writes, a few that read, bounded queues before both.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use federation_core::dot::Dot;
use federation_core::dot_set::DotSet;
use federation_core::id::{Kind, LogPosition, RecordId, RecordKey};
use federation_core::port::store::{
    Committed, Done, ListPage, ListQuery, RecordRead, ReplicaStore, Request, SessionPage, SessionQuery,
    Snapshot, StateHash, StoreError,
};
use federation_core::scope::Scope;

use crate::disk::{Disk, RealDisk};
use crate::engine::{
    COMPACTION_BYTES_MIN, Checkpoint, Compacted, Engine, Flushed, OpenReport, Setup, Submission,
};
use crate::error::OpenError;
use crate::index::{Index, IndexOpener, SledIndexes};
use crate::log::Spare;
use crate::metrics::Metrics;
use crate::read::Reads;

/// Told once, from the store's own thread, when a thread of it panicked: the process is to end.
pub type Failed = Box<dyn FnOnce(&'static str) + Send>;

/// A store with its threads. [`StoreHandle::close`] ends them in order; dropping it does the same and tells nobody
/// how it went.
pub struct StoreHandle<D: Disk, O: IndexOpener> {
    reads: Reads<D, O::Index>,
    failed: Arc<Failure>,
    to_writer: Option<SyncSender<Submission>>,
    to_readers: Option<SyncSender<Job>>,
    writer: Option<JoinHandle<Result<(), StoreError>>>,
    others: Vec<JoinHandle<()>>,
}

type Job = Box<dyn FnOnce() + Send>;

/// Whether a thread has panicked, and who is to know.
struct Failure {
    has_failed: AtomicBool,
    observer: Mutex<Option<Failed>>,
}

impl<D: Disk, O: IndexOpener> StoreHandle<D, O>
where
    Engine<D, O>: Send,
{
    /// Starts the threads over an open engine. `failed` is told if one of them panics.
    ///
    /// # Errors
    /// [`OpenError::Thread`].
    pub fn spawn(engine: Engine<D, O>, failed: Failed) -> Result<Self, OpenError> {
        let options = *engine.options();
        let failure =
            Arc::new(Failure { has_failed: AtomicBool::new(false), observer: Mutex::new(Some(failed)) });
        let (to_writer, submissions) = sync_channel(options.queue_requests_max);
        let (to_readers, jobs) = sync_channel::<Job>(options.queue_requests_max);
        let (to_spare, spare_wanted) = sync_channel(1);
        let (to_flush, flush_wanted) = sync_channel::<Checkpoint<D, O::Index>>(1);
        let (to_writer_flushed, flushed) = sync_channel(1);
        let reads = engine.reads();
        let spare = engine.spare();
        let mut handle = Self {
            reads,
            failed: Arc::clone(&failure),
            to_writer: Some(to_writer),
            to_readers: Some(to_readers),
            writer: None,
            others: Vec::new(),
        };
        handle.others.push(start("store-spare", move || prepare_spares(&spare, &spare_wanted))?);
        handle.others.push(start("store-flush", move || {
            while let Ok(checkpoint) = flush_wanted.recv() {
                // The writer is gone: then nobody is to say what was flushed.
                let _ = to_writer_flushed.send(checkpoint.flush());
            }
        })?);
        let jobs = Arc::new(Mutex::new(jobs));
        let poisoned = engine.reads();
        for _ in 0..options.reader_threads.max(1) {
            let (jobs, failure) = (Arc::clone(&jobs), Arc::clone(&failure));
            handle.others.push(start("store-read", move || run_jobs(&jobs, &failure))?);
        }
        let writer = move || {
            let helpers = Helpers { to_spare, to_flush, flushed, begun: Instant::now(), is_flushing: false };
            let run = AssertUnwindSafe(|| write(engine, &submissions, helpers));
            catch_unwind(run).unwrap_or_else(|_| {
                poisoned.poison();
                failure.tell("the store's writer");
                Err(StoreError::ReadOnly)
            })
        };
        handle.writer = Some(start("store-write", writer)?);
        Ok(handle)
    }

    /// What the store has done since it was opened.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.reads.metrics()
    }

    /// Answers what is queued, ends the boot in order as [`Engine::close`] does, and ends the threads.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`] if the store was poisoned, [`StoreError::DiskFull`] if there was no room for the last
    /// record: what was acknowledged is in the log all the same, but the boot has not ended in order.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.end()
    }

    fn read<T: Send + 'static>(
        &self,
        done: Done<Result<T, StoreError>>,
        read: impl FnOnce(&Reads<D, O::Index>) -> Result<T, StoreError> + Send + 'static,
    ) {
        let Some(to_readers) = &self.to_readers else { return done(Err(StoreError::Closed)) };
        let reads = self.reads.clone();
        let (owed, done) = Owed::new(done);
        let job: Job = Box::new(move || done(read(&reads)));
        if let Err(refused) = to_readers.try_send(job) {
            owed.give(Err(match refused {
                TrySendError::Full(_) => StoreError::Busy,
                TrySendError::Disconnected(_) => StoreError::Closed,
            }));
        }
    }
}

impl StoreHandle<RealDisk, SledIndexes> {
    /// Opens the store in `directory`, which is made when needed: the log there, sled in [`INDEX_DIRECTORY`].
    ///
    /// `progress` is told bytes of log done and to do while the index is brought up to the log.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        directory: &Path,
        setup: Setup,
        progress: &mut dyn FnMut(u64, u64),
        failed: Failed,
    ) -> Result<(Self, OpenReport), OpenError> {
        let disk = RealDisk::open(directory)?;
        let indexes = SledIndexes::new(directory.join(INDEX_DIRECTORY));
        let (engine, report) = Engine::open(disk, &indexes, setup, progress)?;
        Ok((Self::spawn(engine, failed)?, report))
    }
}

impl<D: Disk, O: IndexOpener> StoreHandle<D, O> {
    fn end(&mut self) -> Result<(), StoreError> {
        self.to_writer = None;
        self.to_readers = None;
        // The last one to hold the handle may be a callback, on a thread of the store: that one ends by itself.
        if self.writer.as_ref().is_some_and(is_this_one) {
            return Ok(());
        }
        let result = match self.writer.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            None => Ok(()),
            Some(Err(_)) => Err(StoreError::ReadOnly),
        };
        for thread in self.others.drain(..).filter(|thread| !is_this_one(thread)) {
            if thread.join().is_err() {
                self.failed.tell("a thread of the store");
            }
        }
        result
    }
}

impl<D: Disk, O: IndexOpener> Drop for StoreHandle<D, O> {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(%error, "the store was not closed in order");
        }
    }
}

impl Failure {
    fn tell(&self, who: &'static str) {
        self.has_failed.store(true, Ordering::Release);
        let observer = self.observer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(observer) = observer {
            observer(who);
        }
    }
}

fn is_this_one<T>(thread: &JoinHandle<T>) -> bool {
    thread.thread().id() == std::thread::current().id()
}

fn start<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, OpenError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(OpenError::Thread)
}

/// An answer that somebody waits for. If what was to give it is dropped, by a panic or at the end, it is
/// [`StoreError::InDoubt`]: whether anything was written is not known.
struct Owed<T: Send + 'static> {
    done: Arc<Mutex<Option<Callback<T>>>>,
}

impl<T: Send + 'static> Owed<T> {
    /// The debt, and the callback that settles it when it is called or dropped.
    fn new(done: Done<Result<T, StoreError>>) -> (Self, Done<Result<T, StoreError>>) {
        let owed = Self { done: Arc::new(Mutex::new(Some(done))) };
        let settles = Settles(Self { done: Arc::clone(&owed.done) });
        (owed, Box::new(move |answer| settles.0.give(answer)))
    }

    fn give(&self, answer: Result<T, StoreError>) {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(done) = done {
            done(answer);
        }
    }

    /// Nobody waits: the caller is told in another way.
    fn forgive(&self) {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

type Callback<T> = Done<Result<T, StoreError>>;

struct Settles<T: Send + 'static>(Owed<T>);

impl<T: Send + 'static> Drop for Settles<T> {
    fn drop(&mut self) {
        self.0.give(Err(StoreError::InDoubt));
    }
}

/// The writer's helpers: one makes segments ahead of their use, one flushes the index. Neither holds a group up.
struct Helpers<D: Disk, I> {
    to_spare: SyncSender<u64>,
    to_flush: SyncSender<Checkpoint<D, I>>,
    flushed: Receiver<Flushed>,
    /// When the last checkpoint was begun, and whether it is under way.
    begun: Instant,
    is_flushing: bool,
}

impl<D: Disk, I: Index> Helpers<D, I> {
    /// Says in the log what was flushed meanwhile, and begins a checkpoint when it is time.
    fn tend<O: IndexOpener<Index = I>>(&mut self, engine: &mut Engine<D, O>) {
        if let Some(bytes) = engine.wants_spare() {
            // Full means that it is being made; one that is there already is not made again.
            let _ = self.to_spare.try_send(bytes);
        }
        if let Ok(flushed) = self.flushed.try_recv() {
            self.is_flushing = false;
            // What goes wrong is in the snapshot's health, and in the log.
            let _ = engine.end_checkpoint(flushed);
        }
        let (since, interval) = (self.begun.elapsed(), engine.options().checkpoint_interval.to_std());
        let is_time = since >= interval || (since >= TEND_INTERVAL && engine.wants_checkpoint());
        if !self.is_flushing && is_time {
            self.begun = Instant::now();
            if let Ok(Some(checkpoint)) = engine.begin_checkpoint() {
                self.is_flushing = self.to_flush.try_send(checkpoint).is_ok();
            }
        }
    }

    /// Waits for the checkpoint under way: two at once are not allowed.
    fn settle(&mut self) {
        if std::mem::take(&mut self.is_flushing) {
            // Not worth a record: the one at the close claims more.
            let _ = self.flushed.recv();
        }
    }
}

/// The writer's loop: takes what is there into one group, commits it, answers; checkpoints when it is time, and
/// compacts between the groups.
fn write<D: Disk, O: IndexOpener>(
    mut engine: Engine<D, O>,
    submissions: &Receiver<Submission>,
    mut helpers: Helpers<D, O::Index>,
) -> Result<(), StoreError> {
    let mut carried: Option<Submission> = None;
    let mut last_ops = 0;
    let mut pace = Pace::default();
    loop {
        helpers.tend(&mut engine);
        let first = match carried.take() {
            Some(first) => Ok(first),
            None => pace.await_next(&mut engine, submissions),
        };
        match first {
            Ok(first) => {
                let (group, ops, rest) = gather(first, submissions, last_ops);
                carried = rest;
                last_ops = ops;
                let before = engine.snapshot().position;
                for answer in engine.step(group) {
                    answer.give();
                }
                pace.pay(&mut engine, before);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                helpers.settle();
                return engine.close();
            }
        }
    }
}

/// How often an idle writer looks after its helpers.
const TEND_INTERVAL: Duration = Duration::from_millis(250);

/// How much compaction is done between the groups. Where nobody waits, all that there is, in small steps; under load so
/// much as what was written asks for, after its answers were given.
#[derive(Default)]
struct Pace {
    /// Bytes of log that are to be looked through.
    owed_bytes: u64,
}

impl Pace {
    /// The next submission. Compacts as long as there is none.
    fn await_next<D: Disk, O: IndexOpener>(
        &mut self,
        engine: &mut Engine<D, O>,
        submissions: &Receiver<Submission>,
    ) -> Result<Submission, RecvTimeoutError> {
        match submissions.try_recv() {
            Ok(first) => return Ok(first),
            Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
            Err(TryRecvError::Empty) => {}
        }
        self.owed_bytes = 0;
        // What goes wrong is in the snapshot's health, and in the log.
        match engine.compact(COMPACTION_BYTES_MIN) {
            Ok(Compacted::More) => Err(RecvTimeoutError::Timeout),
            Ok(Compacted::Done | Compacted::Waits) | Err(_) => submissions.recv_timeout(TEND_INTERVAL),
        }
    }

    /// Makes one step for what was written since the log was at `before`, if it has come to a step's worth.
    fn pay<D: Disk, O: IndexOpener>(&mut self, engine: &mut Engine<D, O>, before: LogPosition) {
        let written = engine.snapshot().position.0.saturating_sub(before.0);
        self.owed_bytes = self.owed_bytes.saturating_add(written.saturating_mul(BYTES_PER_BYTE_WRITTEN));
        if self.owed_bytes >= COMPACTION_BYTES_MIN {
            let _ = engine.compact(self.owed_bytes);
            self.owed_bytes = 0;
        }
    }
}

/// Bytes of the old log that are looked through for each one that is written. With two, compaction would keep step where
/// half of the log is live and old, the worst that it meets; with one more it gains on it.
const BYTES_PER_BYTE_WRITTEN: u64 = 3;

/// A group: `first` and what waits behind it, up to the limits of a group; how many requests it has; and the
/// submission that was too much.
///
/// Under load a group that is smaller than the last one waits a moment for the rest of it: the answers of the last
/// group are on their way to those who will ask again. One caller alone never waits.
fn gather(
    first: Submission,
    submissions: &Receiver<Submission>,
    last_ops: usize,
) -> (Vec<Submission>, usize, Option<Submission>) {
    let mut weight = first.weight();
    let mut group = vec![first];
    let until = Instant::now() + GATHER_WAIT;
    loop {
        let next = match submissions.try_recv() {
            Err(TryRecvError::Empty) if last_ops >= GATHER_OPS_MIN && weight.ops < last_ops => {
                submissions.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
            }
            next => next.ok(),
        };
        let Some(next) = next else { return (group, weight.ops, None) };
        let more = next.weight();
        if !weight.takes(more) {
            return (group, weight.ops, Some(next));
        }
        weight = weight.plus(more);
        group.push(next);
    }
}

/// How long a group waits for as many requests as the last one had: about what one sync takes.
const GATHER_WAIT: Duration = Duration::from_micros(800);
/// Requests of the last group from which on there are callers to wait for.
const GATHER_OPS_MIN: usize = 4;

fn prepare_spares<D: Disk>(spare: &Spare<D>, wanted: &Receiver<u64>) {
    while let Ok(bytes) = wanted.recv() {
        spare.prepare(bytes);
    }
}

fn run_jobs(jobs: &Mutex<Receiver<Job>>, failure: &Failure) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            failure.tell("a reader of the store");
        }
    }
}

impl<D: Disk, O: IndexOpener> ReplicaStore for StoreHandle<D, O>
where
    Engine<D, O>: Send,
    Self: Send + Sync + 'static,
{
    fn submit(
        &self,
        batch: Vec<Request>,
        done: Done<Result<Committed, StoreError>>,
    ) -> Result<(), StoreError> {
        let to_writer = self.to_writer.as_ref().ok_or(StoreError::Closed)?;
        if self.failed.has_failed.load(Ordering::Acquire) {
            return Err(StoreError::ReadOnly);
        }
        let (owed, done) = Owed::new(done);
        to_writer.try_send(Submission { requests: batch, done }).map_err(|error| {
            owed.forgive();
            match error {
                TrySendError::Full(_) => StoreError::Busy,
                TrySendError::Disconnected(_) => StoreError::ReadOnly,
            }
        })
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.reads.snapshot()
    }

    fn read(&self, key: RecordKey, done: Done<Result<RecordRead, StoreError>>) {
        Self::read(self, done, move |reads| reads.record(&key));
    }

    fn keys_of(&self, kind: Kind, id: RecordId, done: Done<Result<Vec<RecordKey>, StoreError>>) {
        Self::read(self, done, move |reads| reads.keys_of(&kind, &id));
    }

    fn keys_of_dots(&self, dots: Vec<Dot>, done: Done<Result<Vec<Option<RecordKey>>, StoreError>>) {
        Self::read(self, done, move |reads| reads.keys_of_dots(&dots));
    }

    fn list(&self, query: ListQuery, done: Done<Result<ListPage, StoreError>>) {
        Self::read(self, done, move |reads| reads.list(&query));
    }

    fn session_page(&self, query: SessionQuery, done: Done<Result<SessionPage, StoreError>>) {
        Self::read(self, done, move |reads| reads.session_page(&query));
    }

    fn uncovered(&self, dots: DotSet, done: Done<Result<DotSet, StoreError>>) {
        self.read(done, move |reads| reads.uncovered(&dots));
    }

    fn state_hash(&self, scope: Scope, done: Done<Result<StateHash, StoreError>>) {
        Self::read(self, done, move |reads| reads.state_hash(&scope));
    }
}

/// The directory of the index within a data directory.
pub const INDEX_DIRECTORY: &str = "index";
