//! What the store needs of an index: an ordered map with atomic batches.
//!
//! The index holds no truth. All of it can be made again from the log, and is, whenever it is missing, older than
//! it was known to be, or cannot be opened.

mod ordered;
mod sled;

pub use self::sled::{SledIndex, SledIndexes};
pub use ordered::{OrderedIndex, OrderedIndexes, Survival};

use std::io;

/// An ordered map from bytes to bytes. Batches are atomic: for readers at once, and across a crash.
pub trait Index: Send + Sync + 'static {
    /// The value under `key`.
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError>;
    /// Up to `limit` entries from `from` on, before `to`, in order.
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Entry>, IndexError>;
    /// Applies the batch. Not durable before [`Index::checkpoint`].
    fn apply(&self, batch: Batch) -> Result<(), IndexError>;
    /// Makes all that was applied before the call durable. Called by one thread at a time, while others go on
    /// applying. After a failure it must not be opened again as long as what is read of it may be only in memory.
    fn checkpoint(&self) -> Result<(), IndexError>;
}

/// Where an index is kept.
pub trait IndexOpener: Send + 'static {
    /// What it opens.
    type Index: Index;
    /// Opens the index, or an empty one if there is none.
    ///
    /// # Errors
    /// Whatever is wrong with it: the caller then starts over with [`IndexOpener::create`].
    fn open(&self) -> Result<Self::Index, IndexError>;
    /// Throws away what is there and opens an empty index.
    fn create(&self) -> Result<Self::Index, IndexError>;
}

/// A key with its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Changes to be applied at once; of two to one key the later one counts.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    /// A batch without changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the value under `key`.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push((key, Some(value)));
    }

    /// Removes `key`.
    pub fn remove(&mut self, key: Vec<u8>) {
        self.changes.push((key, None));
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes in the order they were made; none for a removal.
    pub fn into_changes(self) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
        self.changes.into_iter()
    }
}

/// Why an index did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// sled said no.
    #[error("the index failed")]
    Sled(#[source] ::sled::Error),
    /// sled panicked, as it does on some damaged files.
    #[error("the index panicked")]
    Panicked,
    /// A sync of it failed, and the machine has stayed on since: memory shows what its files may not have.
    #[error("the index is not durable")]
    NotDurable,
    /// Its files could not be synced, opened or removed.
    #[error("the index's files failed")]
    Files(#[source] io::Error),
    /// A failure that a test asked for.
    #[error("the index failed as it was told to")]
    Injected,
}
