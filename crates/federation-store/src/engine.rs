//! The engine: opens a directory, executes what core decides, and answers reads.
//!
//! One step function, run on a thread of its own in production ([`crate::StoreHandle`]) and inline in a simulation
//! ([`crate::InlineStore`]). The order within a step is fixed: decide, seal, append, sync, index, publish, answer.

mod checkpoint;
mod compact;
mod open;
mod view;
mod write;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use federation_core::dot::Origin;
use federation_core::embedding::EmbeddingSpace;
use federation_core::hlc::Hlc;
use federation_core::id::{NodeId, StoreId};
use federation_core::limits::{GROUP_BYTES_MAX, GROUP_OPS_MAX};
use federation_core::port::clock::WallClock;
use federation_core::port::sealer::Sealer;
use federation_core::port::store::{
    Committed, Done, Health, OpenIds, Request, SessionId, Snapshot, StoreError,
};
use federation_core::scope::Scope;
use federation_core::time::DurationMs;

use crate::disk::Disk;
use crate::format::Format;
use crate::index::{Batch, Index as _, IndexOpener};
use crate::log::{AppendError, GroupBuilder, Log, LogReader, Spare};
use crate::metrics::Metrics;
use crate::read::Reads;
use crate::schema::keys;
use crate::schema::values::{Counts, IndexMark};
use crate::state::State;

use compact::Compaction;

pub(crate) use checkpoint::{Checkpoint, Flushed};
pub use compact::{COMPACTION_BYTES_MIN, Compacted};

/// The writer of one directory. Whoever owns it is the one writer.
pub struct Engine<D: Disk, O: IndexOpener> {
    log: Log<D>,
    shared: Arc<Shared<D, O::Index>>,
    state: State,
    format: Format,
    own_origin: Option<Origin>,
    last_hlc: Option<Hlc>,
    sealer: Arc<dyn Sealer>,
    clock: Arc<dyn WallClock>,
    embedding_space: Option<EmbeddingSpace>,
    options: Options,
    builder: GroupBuilder,
    health: Health,
    is_closed: bool,
    last_session: u64,
    has_ghosts: bool,
    /// Where the index stands, and up to where it was made durable by the last checkpoint.
    indexed_to: u64,
    checkpointed_to: u64,
    compaction: Compaction,
}

/// What the writer and the readers of one store share.
pub(crate) struct Shared<D: Disk, I> {
    pub(crate) index: I,
    pub(crate) log: LogReader<D::File>,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) sessions: Mutex<BTreeSet<SessionId>>,
    pub(crate) metrics: Arc<Metrics>,
}

/// What a store is given when it is opened.
pub struct Setup {
    /// Drawn for this start.
    pub ids: OpenIds,
    /// The node that the directory belongs to.
    pub node: NodeId,
    /// What it keeps. If it is more than the directory was last opened with, the node re-bootstraps.
    pub replica_scope: Scope,
    /// Encodes and signs own ops.
    pub sealer: Arc<dyn Sealer>,
    /// Tells the time by which ops are dated and refused.
    pub clock: Arc<dyn WallClock>,
    /// The space whose vectors this node indexes; none: it indexes none. It may be another at each start.
    pub embedding_space: Option<EmbeddingSpace>,
    /// Sizes.
    pub options: Options,
}

/// Sizes of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of a segment's file once the log has grown; the first ones are smaller. Small ones are for tests.
    pub segment_bytes: u64,
    /// Bytes of log after which the index is checkpointed.
    pub checkpoint_bytes: u64,
    /// Time after which it is, if anything was written. Only [`crate::StoreHandle`] knows time.
    pub checkpoint_interval: DurationMs,
    /// Free bytes on the disk below which writes are refused: what the index may need meanwhile.
    pub reserve_bytes: u64,
    /// Threads that read.
    pub reader_threads: usize,
    /// Batches that wait for the writer, and reads that wait for a reader; past it the answer is `Busy`.
    pub queue_requests_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            checkpoint_bytes: 64 * 1024 * 1024,
            checkpoint_interval: DurationMs(5_000),
            reserve_bytes: 32 * 1024 * 1024,
            reader_threads: 2,
            queue_requests_max: 4_096,
        }
    }
}

/// What opening found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenReport {
    /// This life of the directory.
    pub store: StoreId,
    /// Whether the directory was empty.
    pub is_new: bool,
    /// Whether the last boot ended in order.
    pub ended_in_order: bool,
    /// Log position at which the last boot ended.
    pub recovered_to: u64,
    /// Bytes of a group that a crash had left unfinished, and that were cut.
    pub torn_bytes: u64,
    /// Ops that were put into the index from the log.
    pub replayed_ops: u64,
    /// Why the index was made again from the whole log, if it was.
    pub rebuilt: Option<RebuildReason>,
}

/// Why an index was made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebuildReason {
    /// There was none.
    Missing,
    /// It could not be opened or read.
    Unreadable,
    /// It belongs to another directory.
    Foreign,
    /// It is older than a checkpoint that the log knows of: it has lost what it had made durable.
    Older,
}

/// A batch on its way to the writer.
pub struct Submission {
    /// What is asked.
    pub requests: Vec<Request>,
    /// Who is told.
    pub done: Done<Result<Committed, StoreError>>,
}

impl Submission {
    /// How much of a group it takes: ops, and bytes.
    pub fn weight(&self) -> Weight {
        write::weight(&self.requests)
    }
}

/// How much of a group something takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Requests.
    pub ops: usize,
    /// Bytes that will be about written.
    pub bytes: usize,
}

impl Weight {
    /// Whether a group that holds this much takes `more` as well. An empty group takes anything.
    #[must_use]
    pub fn takes(self, more: Self) -> bool {
        self == Self::default()
            || (self.ops + more.ops <= GROUP_OPS_MAX && self.bytes + more.bytes <= GROUP_BYTES_MAX)
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        Self { ops: self.ops + more.ops, bytes: self.bytes + more.bytes }
    }
}

/// An answer that is to be given, in the order of the submissions.
#[must_use = "a submission that is not answered hangs its caller"]
pub struct Answer {
    done: Done<Result<Committed, StoreError>>,
    result: Result<Committed, StoreError>,
}

impl Answer {
    /// Gives it.
    pub fn give(self) {
        (self.done)(self.result);
    }
}

impl<D: Disk, O: IndexOpener> Engine<D, O> {
    /// Reads, from any thread, while this engine writes.
    pub fn reads(&self) -> Reads<D, O::Index> {
        Reads::new(Arc::clone(&self.shared))
    }

    /// State as of the last group.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// What has been done since the opening.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.shared.metrics)
    }

    /// The sizes that it was opened with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Makes room for the next segment ahead of its use, from any thread.
    pub(crate) fn spare(&self) -> Spare<D> {
        self.log.spare()
    }

    /// Size of the next segment, if it is time to make it.
    pub(crate) fn wants_spare(&self) -> Option<u64> {
        self.log.wants_spare()
    }

    /// Commits the submissions as one group and returns the answers, to be given in order.
    pub fn step(&mut self, submissions: Vec<Submission>) -> Vec<Answer> {
        self.write(submissions)
    }

    /// Writes and syncs the group that was built. Returns the position at which it starts.
    fn append(&mut self) -> Result<u64, StoreError> {
        self.append_where_there_is_room()?.ok_or_else(|| self.refuse_for_now())
    }

    /// The same; none if there is no room, and then nothing was written.
    fn append_where_there_is_room(&mut self) -> Result<Option<u64>, StoreError> {
        let started = std::time::Instant::now();
        match self.log.append(&mut self.builder) {
            Ok(start) => {
                self.health = Health::Writable;
                let metrics = &self.shared.metrics;
                metrics.sync_micros.observe_time(started.elapsed());
                metrics.groups.add(1);
                metrics.log_bytes.add(self.builder.len_bytes());
                metrics.segments.set(self.shared.log.segment_count() as u64);
                Ok(Some(start))
            }
            Err(AppendError::Full) => Ok(None),
            Err(AppendError::Failed(error)) => {
                self.poison("write to the log", &error);
                Err(StoreError::InDoubt)
            }
        }
    }

    /// Brings the durable group that starts at `start` into the index: `batch`, and with it `state`. All of it or,
    /// poisoned, none.
    fn index_batch(&mut self, start: u64, mut batch: Batch, state: State) -> Result<(), StoreError> {
        batch.put(keys::mark(), self.mark(start, state.counts).encode());
        if let Err(error) = self.shared.index.apply(batch) {
            return Err(self.poison("write to the index", &error));
        }
        self.state = state;
        self.indexed_to = self.log.end();
        Ok(())
    }

    /// What the index says of itself once the last group, which starts at `last_start`, is in it.
    fn mark(&self, last_start: u64, counts: Counts) -> IndexMark {
        IndexMark { salt: self.format.salt, last_start, end: self.log.end(), counts }
    }

    /// There is no room: nothing was written, and the next group tries again.
    fn refuse_for_now(&mut self) -> StoreError {
        if self.health != Health::DiskFull {
            tracing::warn!("the disk is full: writes are refused until there is room");
            self.health = Health::DiskFull;
            self.publish();
        }
        StoreError::DiskFull
    }

    /// From here on nothing is written or acknowledged.
    fn poison<E: std::error::Error + 'static>(&mut self, doing: &'static str, error: &E) -> StoreError {
        tracing::error!(
            doing,
            error = error as &(dyn std::error::Error + 'static),
            "the store is read-only from here on"
        );
        self.health = Health::Poisoned;
        self.publish();
        StoreError::ReadOnly
    }

    fn publish(&self) {
        self.shared.snapshot.store(Arc::new(Snapshot {
            clock: self.state.clock.clone(),
            position: federation_core::id::LogPosition(self.log.end()),
            facts: Arc::clone(&self.state.memory.facts),
            health: self.health,
        }));
        let metrics = &self.shared.metrics;
        metrics.log_size_bytes.set(self.log.end() - self.log.begin());
        metrics.live_bytes.set(self.state.counts.log_bytes);
        metrics.live_versions.set(self.state.counts.versions);
        metrics.visible_records.set(self.state.counts.records);
    }

    fn has_sessions(&self) -> bool {
        !self.sessions().is_empty()
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, BTreeSet<SessionId>> {
        self.shared.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
