//! Checkpoints of the index, and the end of a boot.

use std::sync::Arc;

use federation_core::port::store::{Health, StoreError};

use super::{Engine, Shared};
use crate::disk::Disk;
use crate::index::{Index, IndexError, IndexOpener};
use crate::log::RecordKind;
use crate::schema::facts::LogFact;
use crate::schema::values::encode_checkpoint;

/// A checkpoint under way: what is in the index is to be made durable, on any thread but one at a time.
pub(crate) struct Checkpoint<D: Disk, I> {
    shared: Arc<Shared<D, I>>,
    indexed_to: u64,
}

/// What a flush of the index came to.
pub(crate) struct Flushed {
    indexed_to: u64,
    result: Result<(), IndexError>,
}

impl<D: Disk, I: Index> Checkpoint<D, I> {
    /// Flushes the index.
    pub(crate) fn flush(&self) -> Flushed {
        Flushed { indexed_to: self.indexed_to, result: self.shared.index.checkpoint() }
    }
}

impl<D: Disk, O: IndexOpener> Engine<D, O> {
    /// Whether so much was written since the last checkpoint that it is time for one, or compaction waits for it.
    pub fn wants_checkpoint(&self) -> bool {
        self.health == Health::Writable
            && !self.is_closed
            && (self.indexed_to.saturating_sub(self.checkpointed_to) >= self.options.checkpoint_bytes
                || self.compaction.wants_checkpoint(self.checkpointed_to))
    }

    /// Makes the index durable up to here and says so in the log. Does nothing if nothing was written since the last.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`] if the store is or thereby gets poisoned, [`StoreError::DiskFull`] if only the
    /// record in the log found no room, [`StoreError::Closed`] behind [`Engine::close`].
    pub fn checkpoint(&mut self) -> Result<(), StoreError> {
        match self.begin_checkpoint()? {
            Some(checkpoint) => {
                let flushed = checkpoint.flush();
                self.end_checkpoint(flushed)
            }
            None => Ok(()),
        }
    }

    /// A checkpoint of what is in the index now; none if that is durable already. The index goes on taking batches
    /// while the checkpoint is flushed: it then holds more than is claimed, never less.
    pub(crate) fn begin_checkpoint(&self) -> Result<Option<Checkpoint<D, O::Index>>, StoreError> {
        if self.is_closed {
            return Err(StoreError::Closed);
        }
        if self.health == Health::Poisoned {
            return Err(StoreError::ReadOnly);
        }
        let is_due = self.indexed_to != self.checkpointed_to;
        Ok(is_due.then(|| Checkpoint { shared: Arc::clone(&self.shared), indexed_to: self.indexed_to }))
    }

    /// Says in the log what a flush has made durable.
    pub(crate) fn end_checkpoint(&mut self, flushed: Flushed) -> Result<(), StoreError> {
        if self.is_closed {
            return Err(StoreError::Closed);
        }
        self.conclude(Some(flushed), None)
    }

    /// Ends the boot in order: makes the index durable, and says in the log, last of all, that nothing of this boot
    /// follows. From here on nothing is written, and every submission is answered [`StoreError::Closed`].
    ///
    /// Without it the next start takes the boot for one that was cut off, and begins a new epoch of own ops.
    ///
    /// # Errors
    /// As [`Engine::checkpoint`]: the boot then has not ended in order. [`StoreError::Closed`] the second time.
    pub fn close(&mut self) -> Result<(), StoreError> {
        let checkpoint = self.begin_checkpoint();
        self.is_closed = true;
        let flushed = checkpoint?.map(|checkpoint| checkpoint.flush());
        self.conclude(flushed, Some(&LogFact::Closed))
    }

    /// Writes what a flush has made durable and what else there is to say, as one group.
    fn conclude(&mut self, flushed: Option<Flushed>, fact: Option<&LogFact>) -> Result<(), StoreError> {
        self.builder.clear();
        let mut checkpointed_to = None;
        if let Some(Flushed { indexed_to, result }) = flushed {
            result.map_err(|error| self.poison("checkpoint of the index", &error))?;
            if self.health == Health::Poisoned {
                return Err(StoreError::ReadOnly);
            }
            self.builder.push(RecordKind::Checkpoint, &[&encode_checkpoint(indexed_to)]);
            checkpointed_to = Some(indexed_to);
        }
        if let Some(fact) = fact {
            let (kind, content) = fact.encode();
            self.builder.push(kind, &[&content]);
        }
        self.append()?;
        if let Some(indexed_to) = checkpointed_to {
            self.checkpointed_to = indexed_to;
            self.shared.metrics.checkpoints.add(1);
        }
        self.publish();
        Ok(())
    }
}
