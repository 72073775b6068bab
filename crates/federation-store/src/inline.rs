//! The store as a simulation runs it: no threads, every answer from the caller's own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use federation_core::dot::Dot;
use federation_core::dot_set::DotSet;
use federation_core::id::{Kind, RecordId, RecordKey};
use federation_core::port::store::{
    Committed, Done, ListPage, ListQuery, RecordRead, ReplicaStore, Request, SessionPage, SessionQuery,
    Snapshot, StateHash, StoreError,
};
use federation_core::scope::Scope;

use crate::disk::Disk;
use crate::engine::{COMPACTION_BYTES_MIN, Compacted, Engine, Submission};
use crate::index::IndexOpener;
use crate::metrics::Metrics;
use crate::read::Reads;

/// The same engine as [`crate::StoreHandle`] has, run on the calling thread. Clones share it.
///
/// A callback may submit again: that batch goes into the next group, not into the one that is being answered.
pub struct InlineStore<D: Disk, O: IndexOpener> {
    inner: Arc<Inner<D, O>>,
}

struct Inner<D: Disk, O: IndexOpener> {
    engine: Mutex<Engine<D, O>>,
    reads: Reads<D, O::Index>,
    queue: Mutex<Queue>,
    stepping: Stepping,
}

/// Who commits what was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepping {
    /// Each call of `submit`, before it returns.
    AtOnce,
    /// The simulation, when it calls [`InlineStore::step`]: until then batches gather, as behind a slow disk.
    Manual,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Submission>,
    is_stepping: bool,
}

impl<D: Disk, O: IndexOpener> Clone for InlineStore<D, O> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<D: Disk, O: IndexOpener> InlineStore<D, O> {
    /// Over an open engine.
    pub fn new(engine: Engine<D, O>, stepping: Stepping) -> Self {
        let reads = engine.reads();
        let inner = Inner { engine: Mutex::new(engine), reads, queue: Mutex::default(), stepping };
        Self { inner: Arc::new(inner) }
    }

    /// Batches that wait for a step.
    pub fn waiting(&self) -> usize {
        self.queue().waiting.len()
    }

    /// Commits one group of what waits and gives its answers. False if nothing waited, or a step is under way.
    pub fn step(&self) -> bool {
        let mut group = Vec::new();
        {
            let mut queue = self.queue();
            if queue.is_stepping || queue.waiting.is_empty() {
                return false;
            }
            queue.is_stepping = true;
            let mut weight = crate::engine::Weight::default();
            while let Some(next) = queue.waiting.front().map(Submission::weight) {
                if !weight.takes(next) {
                    break;
                }
                weight = weight.plus(next);
                group.extend(queue.waiting.pop_front());
            }
        }
        let answers = {
            let mut engine = self.engine();
            let answers = engine.step(group);
            if engine.wants_checkpoint() {
                // A failure has poisoned the store, and what was answered before it is durable all the same.
                let _ = engine.checkpoint();
            }
            answers
        };
        self.queue().is_stepping = false;
        for answer in answers {
            answer.give();
        }
        true
    }

    /// Checkpoints the index.
    ///
    /// # Errors
    /// As [`Engine::checkpoint`].
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        self.engine().checkpoint()
    }

    /// Makes one step of compaction, and before it the checkpoint that it waits for.
    ///
    /// # Errors
    /// As [`Engine::compact`] and [`Engine::checkpoint`].
    pub fn compact(&self) -> Result<Compacted, StoreError> {
        let mut engine = self.engine();
        if engine.wants_checkpoint() {
            engine.checkpoint()?;
        }
        engine.compact(COMPACTION_BYTES_MIN)
    }

    /// Commits what waits, gives its answers, and ends the boot in order as [`Engine::close`] does. Dropping the store
    /// does not: that is a crash.
    ///
    /// # Errors
    /// As [`Engine::close`].
    pub fn close(&self) -> Result<(), StoreError> {
        while self.step() {}
        self.engine().close()
    }

    /// What the store has done since it was opened.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.inner.reads.metrics()
    }

    /// The reads, without callbacks.
    pub fn reads(&self) -> &Reads<D, O::Index> {
        &self.inner.reads
    }

    fn engine(&self) -> MutexGuard<'_, Engine<D, O>> {
        self.inner.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.inner.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Disk, O: IndexOpener> ReplicaStore for InlineStore<D, O>
where
    Self: Send + Sync + 'static,
{
    fn submit(
        &self,
        batch: Vec<Request>,
        done: Done<Result<Committed, StoreError>>,
    ) -> Result<(), StoreError> {
        {
            let mut queue = self.queue();
            if queue.waiting.len() >= QUEUE_BATCHES_MAX {
                return Err(StoreError::Busy);
            }
            queue.waiting.push_back(Submission { requests: batch, done });
        }
        if self.inner.stepping == Stepping::AtOnce {
            while self.step() {}
        }
        Ok(())
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.reads.snapshot()
    }

    fn read(&self, key: RecordKey, done: Done<Result<RecordRead, StoreError>>) {
        done(self.inner.reads.record(&key));
    }

    fn keys_of(&self, kind: Kind, id: RecordId, done: Done<Result<Vec<RecordKey>, StoreError>>) {
        done(self.inner.reads.keys_of(&kind, &id));
    }

    fn keys_of_dots(&self, dots: Vec<Dot>, done: Done<Result<Vec<Option<RecordKey>>, StoreError>>) {
        done(self.inner.reads.keys_of_dots(&dots));
    }

    fn list(&self, query: ListQuery, done: Done<Result<ListPage, StoreError>>) {
        done(self.inner.reads.list(&query));
    }

    fn session_page(&self, query: SessionQuery, done: Done<Result<SessionPage, StoreError>>) {
        done(self.inner.reads.session_page(&query));
    }

    fn uncovered(&self, dots: DotSet, done: Done<Result<DotSet, StoreError>>) {
        done(self.inner.reads.uncovered(&dots));
    }

    fn state_hash(&self, scope: Scope, done: Done<Result<StateHash, StoreError>>) {
        done(self.inner.reads.state_hash(&scope));
    }
}

/// As deep as the queue of the threads.
const QUEUE_BATCHES_MAX: usize = 4_096;
