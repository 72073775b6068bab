//! sled as the index.
//!
//! Its own flush does not sync its file to the disk, its background flushes from many threads have hung, its values
//! beyond 128 KiB go to files of their own, and it may panic on damaged files. So: one writer, batches only, no
//! background flush, an `fdatasync` of ours behind each flush, and every call guarded.
//!
//! After a failed write or sync the kernel shows what its disk may not have, and a later sync succeeds without it. So a
//! file says that the index is not to be trusted. It needs no sync itself: if the power goes before the next start, what
//! is read then is what the disk has, and the log's checkpoint tells whether that is enough.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Batch, Entry, Index, IndexError, IndexOpener};

/// An index in a directory of its own.
#[derive(Debug)]
pub struct SledIndex {
    tree: ::sled::Db,
    path: PathBuf,
    /// Whether the directory's entries are known to be durable.
    is_directory_synced: AtomicBool,
    /// Whether a value went to a file of its own since the last checkpoint.
    has_large_value: AtomicBool,
}

/// Opens [`SledIndex`]es in one directory.
#[derive(Clone, Debug)]
pub struct SledIndexes {
    path: PathBuf,
    cache_bytes: u64,
}

impl SledIndexes {
    /// In `path`, which is made when needed, with the default cache.
    pub fn new(path: PathBuf) -> Self {
        Self { path, cache_bytes: CACHE_BYTES }
    }
}

impl IndexOpener for SledIndexes {
    type Index = SledIndex;

    fn open(&self) -> Result<SledIndex, IndexError> {
        if self.path.join(DISTRUSTED_FILE).exists() {
            return Err(IndexError::NotDurable);
        }
        let config =
            ::sled::Config::new().path(&self.path).cache_capacity(self.cache_bytes).flush_every_ms(None);
        let tree = guarded(|| config.open())?;
        Ok(SledIndex {
            tree,
            path: self.path.clone(),
            is_directory_synced: AtomicBool::new(false),
            has_large_value: AtomicBool::new(false),
        })
    }

    fn create(&self) -> Result<SledIndex, IndexError> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(IndexError::Files(error)),
            _ => self.open(),
        }
    }
}

impl Index for SledIndex {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        guarded(|| self.tree.get(key)).map(|value| value.map(|v| v.to_vec()))
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Entry>, IndexError> {
        if from >= to {
            return Ok(Vec::new());
        }
        guarded(|| {
            let entries = self.tree.range(from..to).take(limit);
            entries.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect()
        })
    }

    fn apply(&self, batch: Batch) -> Result<(), IndexError> {
        let mut out = ::sled::Batch::default();
        for (key, value) in batch.into_changes() {
            match value {
                Some(value) => {
                    if value.len() > LARGE_VALUE_BYTES {
                        self.has_large_value.store(true, Ordering::Relaxed);
                    }
                    out.insert(key, value);
                }
                None => out.remove(key),
            }
        }
        self.trusted(guarded(|| self.tree.apply_batch(out)))
    }

    fn checkpoint(&self) -> Result<(), IndexError> {
        self.trusted(self.flush())
    }
}

impl SledIndex {
    /// Lets no later start trust the index if `result` is a failure.
    fn trusted(&self, result: Result<(), IndexError>) -> Result<(), IndexError> {
        if result.is_err()
            && let Err(error) = File::create(self.path.join(DISTRUSTED_FILE))
        {
            tracing::error!(%error, "cannot mark the index as not durable: remove it before the next start");
        }
        result
    }

    fn flush(&self) -> Result<(), IndexError> {
        guarded(|| self.tree.flush())?;
        File::open(self.path.join(DB_FILE)).and_then(|file| file.sync_data()).map_err(IndexError::Files)?;
        if self.has_large_value.swap(false, Ordering::Relaxed) {
            self.sync_blobs().map_err(IndexError::Files)?;
        }
        if !self.is_directory_synced.load(Ordering::Relaxed) {
            self.sync_directory().map_err(IndexError::Files)?;
            self.is_directory_synced.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn sync_blobs(&self) -> io::Result<()> {
        let blobs = self.path.join(BLOB_DIRECTORY);
        for entry in fs::read_dir(&blobs)? {
            File::open(entry?.path())?.sync_data()?;
        }
        File::open(blobs)?.sync_all()
    }

    /// The directory, the small file with sled's settings, and the directory's own entry in its parent.
    fn sync_directory(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            File::open(entry?.path())?.sync_all()?;
        }
        File::open(&self.path)?.sync_all()?;
        match self.path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }
}

/// A panic of sled is an error like any other: the index is made again from the log at the next start.
fn guarded<T>(call: impl FnOnce() -> ::sled::Result<T>) -> Result<T, IndexError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(IndexError::Sled),
        Err(_) => Err(IndexError::Panicked),
    }
}

/// sled's default is 1 GiB, more than the whole daemon is to take.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// Somewhat under the size from which sled keeps a value in a file of its own.
const LARGE_VALUE_BYTES: usize = 64 * 1024;
const DB_FILE: &str = "db";
const BLOB_DIRECTORY: &str = "blobs";
const DISTRUSTED_FILE: &str = "not-durable";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failed_checkpoint_it_is_opened_only_when_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let indexes = SledIndexes::new(dir.path().join("index"));
        let index = indexes.open().unwrap();
        let mut batch = Batch::new();
        batch.put(b"key".to_vec(), b"value".to_vec());
        index.apply(batch).unwrap();
        index.checkpoint().unwrap();
        let db = dir.path().join("index").join(DB_FILE);
        let elsewhere = dir.path().join("db");
        fs::rename(&db, &elsewhere).unwrap();
        assert!(index.checkpoint().is_err());
        drop(index);
        fs::rename(elsewhere, db).unwrap();
        assert!(matches!(indexes.open(), Err(IndexError::NotDurable)));
        assert_eq!(indexes.create().unwrap().read(b"key").unwrap(), None);
        indexes.open().unwrap();
    }
}
