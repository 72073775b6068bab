//! The file system.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Disk, DiskAction, DiskError, DiskFile};

/// A directory of the file system, locked against every other process for as long as a clone of this lives.
#[derive(Clone, Debug)]
pub struct RealDisk {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// Open for `fsync` of the directory itself.
    directory: File,
    /// Its lock goes with the last clone, or with the process.
    _lock: File,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process, or another store of this one, has it open.
    #[error("data directory {path} is in use by another process")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It cannot be made, opened or written to.
    #[error("data directory {path} cannot be used: {doing}")]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl RealDisk {
    /// Makes the directory if there is none, and locks it.
    ///
    /// # Errors
    /// See [`LockError`]; an unwritable directory is found here, not at the first write.
    pub fn open(path: &Path) -> Result<Self, LockError> {
        if !path.is_dir() {
            std::fs::create_dir_all(path).map_err(unusable(path, "making it"))?;
            if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                File::open(parent)
                    .and_then(|d| d.sync_all())
                    .map_err(unusable(path, "syncing its parent"))?;
            }
        }
        Self::open_existing(path)
    }

    /// Locks a directory that is there.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn open_existing(path: &Path) -> Result<Self, LockError> {
        let directory = File::open(path).map_err(unusable(path, "opening it"))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK_FILE))
            .map_err(unusable(path, "writing its lock file"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(unusable(path, "locking it")(source)),
        }
        Ok(Self { inner: Arc::new(Inner { path: path.to_owned(), directory, _lock: lock }) })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    fn at(&self, name: &str) -> PathBuf {
        self.inner.path.join(name)
    }
}

fn unusable(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> LockError {
    move |source| LockError::Unusable { path: path.to_owned(), doing, source }
}

impl Disk for RealDisk {
    type File = RealFile;

    fn list(&self) -> Result<Vec<String>, DiskError> {
        let entries =
            std::fs::read_dir(&self.inner.path).map_err(|e| DiskError::of(DiskAction::List, ".", e))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| DiskError::of(DiskAction::List, ".", e))?;
            let is_file = entry.file_type().is_ok_and(|t| t.is_file());
            if let (true, Some(name)) = (is_file, entry.file_name().to_str()) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn create(&self, name: &str, bytes: u64) -> Result<RealFile, DiskError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(self.at(name))
            .map_err(|e| DiskError::of(DiskAction::Create, name, e))?;
        if let Err(source) = write_zeros(&file, bytes).and_then(|()| file.sync_all()) {
            drop(file);
            // Half a file takes the room that is already short. If it cannot go either, the next try replaces it.
            let _ = std::fs::remove_file(self.at(name));
            return Err(DiskError::of(DiskAction::Create, name, source));
        }
        Ok(RealFile { file, name: name.to_owned() })
    }

    fn open(&self, name: &str) -> Result<RealFile, DiskError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.at(name))
            .map_err(|e| DiskError::of(DiskAction::Open, name, e))?;
        Ok(RealFile { file, name: name.to_owned() })
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        std::fs::rename(self.at(from), self.at(to)).map_err(|e| DiskError::of(DiskAction::Rename, from, e))
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        std::fs::remove_file(self.at(name)).map_err(|e| DiskError::of(DiskAction::Remove, name, e))
    }

    fn sync_directory(&self) -> Result<(), DiskError> {
        self.inner.directory.sync_all().map_err(|e| DiskError::of(DiskAction::SyncDirectory, ".", e))
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        let room = rustix::fs::fstatvfs(&self.inner.directory)
            .map_err(|e| DiskError::of(DiskAction::List, ".", e.into()))?;
        Ok(room.f_bavail.saturating_mul(room.f_frsize))
    }
}

/// An open file of the file system.
#[derive(Debug)]
pub struct RealFile {
    file: File,
    name: String,
}

impl DiskFile for RealFile {
    fn len_bytes(&self) -> Result<u64, DiskError> {
        self.file.metadata().map(|m| m.len()).map_err(|e| DiskError::of(DiskAction::Read, &self.name, e))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.file.read_exact_at(buffer, offset).map_err(|e| DiskError::of(DiskAction::Read, &self.name, e))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.file.write_all_at(bytes, offset).map_err(|e| DiskError::of(DiskAction::Write, &self.name, e))
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(|e| DiskError::of(DiskAction::Sync, &self.name, e))
    }
}

/// Writes, rather than allocates: inside blocks that were written before, a later `fdatasync` has no change of
/// the file's extents to put into the file system's journal.
fn write_zeros(file: &File, bytes: u64) -> io::Result<()> {
    let chunk = vec![0_u8; ZERO_CHUNK_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let left = usize::try_from(bytes - offset).unwrap_or(usize::MAX).min(ZERO_CHUNK_BYTES);
        file.write_all_at(chunk.get(..left).unwrap_or_default(), offset)?;
        offset += left as u64;
    }
    Ok(())
}

const LOCK_FILE: &str = "LOCK";
/// Large enough that the number of calls does not matter.
const ZERO_CHUNK_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_open_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = RealDisk::open(dir.path()).unwrap();
        assert!(matches!(RealDisk::open(dir.path()), Err(LockError::InUse { .. })));
        let clone = first.clone();
        drop(first);
        assert!(matches!(RealDisk::open(dir.path()), Err(LockError::InUse { .. })));
        drop(clone);
        assert!(RealDisk::open(dir.path()).is_ok());
    }

    #[test]
    fn what_was_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(&dir.path().join("a/b")).unwrap();
        let file = disk.create("x", 3_000_000).unwrap();
        assert_eq!(file.len_bytes().unwrap(), 3_000_000);
        file.write_at(2_999_990, b"0123456789").unwrap();
        file.sync_data().unwrap();
        disk.rename("x", "y").unwrap();
        disk.sync_directory().unwrap();
        let mut back = [1; 12];
        disk.open("y").unwrap().read_at(2_999_988, &mut back).unwrap();
        assert_eq!(&back, b"\0\x000123456789");
        assert!(disk.open("y").unwrap().read_at(2_999_989, &mut back).is_err(), "past the end");
        disk.write_small("z", b"one line").unwrap();
        disk.write_small("z", b"another").unwrap();
        assert_eq!(disk.read_small("z").unwrap().unwrap(), b"another");
        assert_eq!(disk.read_small("absent").unwrap(), None);
        assert_eq!(disk.list().unwrap(), vec!["LOCK", "y", "z"]);
        assert!(disk.free_bytes().unwrap() > 0);
    }

    #[test]
    fn a_path_that_is_a_file_is_said_to_be_unusable() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(RealDisk::open(file.path()), Err(LockError::Unusable { .. })));
    }
}
