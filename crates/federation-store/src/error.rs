//! Why a store could not be opened.

use federation_core::id::NodeId;

use crate::disk::{DiskError, LockError};
use crate::index::IndexError;
use crate::log::Corruption;
use crate::log::SegmentsError;
use crate::replay::ReplayError;
use crate::schema::SchemaError;
use crate::state::LookupError;

/// Why a store could not be opened. Nothing was changed unless the text says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A new mesh was asked for, and the directory holds a store.
    #[error("a new mesh begins with an empty data directory, this one holds a store")]
    NotEmpty,
    /// The directory belongs to another node.
    #[error("the data directory belongs to node {found}, this is node {given}")]
    OtherNode {
        /// Whose it is.
        found: NodeId,
        /// Who opens it.
        given: NodeId,
    },
    /// The directory is of a newer version of this software.
    #[error("the data directory has format version {found}, this version reads up to {supported}")]
    NewerFormat {
        /// Its format version.
        found: u32,
        /// The newest that is known here.
        supported: u32,
    },
    /// The file with the format version is missing or says nothing, and there are segments.
    #[error("the data directory has a log and no readable file FORMAT")]
    FormatUnreadable,
    /// The log is damaged. Restore the directory from a backup, or start with an empty one: the peers have the rest.
    #[error("the log is damaged")]
    Corrupt(#[from] Corruption),
    /// The directory is in use, or cannot be.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The disk failed, or is full.
    #[error("the data directory cannot be used")]
    Disk(#[from] DiskError),
    /// The index failed, also after it was made anew.
    #[error("the index cannot be used")]
    Index(#[from] IndexError),
    /// The index holds something that it cannot hold, although it was just made from the log.
    #[error("the index cannot be read")]
    Schema(#[from] SchemaError),
    /// No thread could be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

impl From<SegmentsError> for OpenError {
    fn from(error: SegmentsError) -> Self {
        match error {
            SegmentsError::Disk(error) => Self::Disk(error),
            SegmentsError::Corrupt(error) => Self::Corrupt(error),
        }
    }
}

impl From<LookupError> for OpenError {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Index(error) => Self::Index(error),
            LookupError::Schema(error) => Self::Schema(error),
        }
    }
}

impl From<ReplayError> for OpenError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Corrupt(error) => Self::Corrupt(error),
            ReplayError::Lookup(error) => error.into(),
        }
    }
}
