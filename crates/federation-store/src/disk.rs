//! What the log needs of a disk: a flat directory of files, with the difference between written and synced kept
//! apart. [`RealDisk`] is the file system, [`SimulatedDisk`] one that crashes, tears, fills up and fails on command.

mod real;
mod simulated;

pub use real::{LockError, RealDisk};
pub use simulated::{Loss, SimulatedDisk, SimulatedFile};

use std::io;

/// One directory of files. Every call blocks until it is done; clones name the same directory.
///
/// A file that was created, renamed or removed is only sure to be so after [`Disk::sync_directory`].
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;

    /// Names of all files, in order.
    fn list(&self) -> Result<Vec<String>, DiskError>;
    /// Makes a file of `bytes` zeros, written and synced, so that later writes inside it need no new room.
    /// Replaces a file of that name.
    ///
    /// # Errors
    /// [`DiskError::Full`] if there is no room; then no file of that name is left.
    fn create(&self, name: &str, bytes: u64) -> Result<Self::File, DiskError>;
    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> Result<Self::File, DiskError>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;
    /// Removes a file.
    fn remove(&self, name: &str) -> Result<(), DiskError>;
    /// Makes creations, renames and removals durable.
    fn sync_directory(&self) -> Result<(), DiskError>;
    /// Bytes that may still be written to new files.
    fn free_bytes(&self) -> Result<u64, DiskError>;

    /// Writes a small file so that after a crash it has either its old content or this one, durably on return.
    fn write_small(&self, name: &str, content: &[u8]) -> Result<(), DiskError> {
        let temporary = format!("{name}{TEMPORARY_SUFFIX}");
        let file = self.create(&temporary, content.len() as u64)?;
        file.write_at(0, content)?;
        file.sync_data()?;
        self.rename(&temporary, name)?;
        self.sync_directory()
    }

    /// The content of a small file, or none if there is no such file.
    fn read_small(&self, name: &str) -> Result<Option<Vec<u8>>, DiskError> {
        if !self.list()?.iter().any(|n| n == name) {
            return Ok(None);
        }
        let file = self.open(name)?;
        let bytes = file.len_bytes()?.min(SMALL_FILE_BYTES_MAX);
        let mut content = vec![0; usize::try_from(bytes).unwrap_or_default()];
        file.read_at(0, &mut content)?;
        Ok(Some(content))
    }
}

/// An open file.
pub trait DiskFile: Send + Sync + 'static {
    /// Its length.
    fn len_bytes(&self) -> Result<u64, DiskError>;
    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// Also if the file ends before the buffer is full.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError>;
    /// Writes all of `bytes` at `offset`. Durable only after [`DiskFile::sync_data`].
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;
    /// Makes all that was written to this file durable (`fdatasync`). If this fails, what was written may be
    /// lost although a second call would succeed: never call it again.
    fn sync_data(&self) -> Result<(), DiskError>;
}

/// What a disk was asked to do when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskAction {
    /// List the directory, or ask for its free room.
    List,
    /// Create a file.
    Create,
    /// Open a file.
    Open,
    /// Read from a file.
    Read,
    /// Write to a file.
    Write,
    /// Sync a file.
    Sync,
    /// Sync the directory.
    SyncDirectory,
    /// Rename a file.
    Rename,
    /// Remove a file.
    Remove,
}

/// Why a disk did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// There is no room.
    #[error("no room on the disk for {name}")]
    Full {
        /// The file.
        name: String,
    },
    /// The operating system said no.
    #[error("cannot {action} {name}")]
    Io {
        /// What was tried.
        action: DiskAction,
        /// On which file.
        name: String,
        /// What it said.
        source: io::Error,
    },
}

impl DiskError {
    /// The error of `action` on `name`, with "no space left" told apart.
    fn of(action: DiskAction, name: &str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { name: name.to_owned() },
            _ => Self::Io { action, name: name.to_owned(), source },
        }
    }
}

impl std::fmt::Display for DiskAction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::List => "list",
            Self::Create => "create",
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::SyncDirectory => "sync the directory of",
            Self::Rename => "rename",
            Self::Remove => "remove",
        })
    }
}

/// Files with this ending are left over from a crash and mean nothing.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

/// More of a small file than this is never read: such files hold a line or two.
const SMALL_FILE_BYTES_MAX: u64 = 4_096;
