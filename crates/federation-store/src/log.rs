//! The log: what is durable, and the only thing that is.
//!
//! Segments, preallocated and appended to by one writer. The unit of writing is the *group*: a mark and the records
//! behind it, written at once, made durable by one `fdatasync`, and only then acknowledged. Then, and not before,
//! the next group is written. So **at most one group at the end of the log has bytes that were not synced**, and
//! everything that recovery decides follows from that.
//!
//! # Positions
//!
//! A position counts the bytes of groups since the store began: marks and records, not segment headers and not the
//! unused end of a segment. A segment's header says at which position it begins, so a position alone says which byte
//! of which file it is. Positions are never reset.
//!
//! # A torn tail, or corruption
//!
//! A group is whole if its mark's checksum holds, the mark names the position at which it stands, and the checksum
//! over its records holds. Recovery reads groups in order. Where the next one is not whole, it must decide:
//!
//! - A mark with a valid checksum and a *later* start stands anywhere behind it, or a later segment begins behind it,
//!   or the index has been written past it: then the bad group was synced once, for what came later was written only
//!   after that. That is corruption: it is reported, and nothing is opened over it.
//! - Otherwise it is the last thing that was written. Its sync had not returned, nothing of it was acknowledged, and
//!   it is cut, whatever bytes of it have survived.
//!
//! The one thing that this cannot tell is the loss of the very last group after its sync with an index that is behind
//! it; a peer's memory of this node's position can (a lower position within one boot).
//!
//! Marks carry a salt of the directory, so that no record's content is taken for one. Bytes of a torn group are
//! overwritten with zeros before anything is appended, so that no later search meets them.
//!
//! # After a failed sync
//!
//! A kernel that could not write what it was to sync says so once. The bytes stay in its memory, marked as written: they
//! are read back, every later sync succeeds without them, and a power cut takes them. So a process that starts on a
//! machine that stayed up cannot know by reading, and cannot bring about by syncing, that a group is durable. It has to
//! write it again.
//!
//! Which groups? Every one but the last was synced by the process that wrote the next one behind it, or made durable by
//! the start of that process. So each start writes **the last group** again, over itself, before an index takes it in,
//! before anything is appended, and before anyone is told of it. Since a power cut in the middle of that would spoil a
//! group that may have been acknowledged long ago, its bytes go to a file of their own first (`last-group.copy`, synced,
//! named by a rename, directory synced). Where recovery finds no whole group at the end of the log and the copy is of
//! that position, it takes the copy. A copy that stays behind does no harm: the log never says anything else at its
//! position.
//!
//! With names it is the same. All names but the newest were synced before anything was written behind them; so a last
//! segment that is still empty is renamed away and back, and `FORMAT` is written again as long as there is no group.
//!
//! If any of that fails, the store does not open, and the next start does the same again.
//!
//! # Where it begins
//!
//! Compaction takes the first segment away, and only ever the first: so what a record undoes is gone before the
//! record is. `FORMAT` has the number of the segment that the log begins with. It is written, durably, before the
//! file of the one before is removed: a file that is still there at a start is removed then, after `FORMAT` was
//! written again (its name may not be durable), and one that is missing was not taken by compaction.
//!
//! # Segments
//!
//! A segment is made under a temporary name, filled with zeros, given its header, synced, renamed, and the directory
//! is synced: at each of these steps a crash leaves either a temporary file, which means nothing, or an empty
//! segment at the right position. The old segment has no un-synced bytes by then.

mod compaction;
mod copy;
mod frame;
mod reader;
mod recovery;
mod segment;
mod writer;

pub(crate) use compaction::Boundary;
pub(crate) use frame::{Group, GroupBuilder, Record, RecordKind, op_parts};
pub(crate) use reader::{LogReader, Pin, Readers};
pub(crate) use recovery::{Recovered, Scan};
pub(crate) use segment::{LogGeometry, SegmentsError, salt_of};
pub(crate) use writer::{AppendError, Log, Spare};

/// Where a record stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Position of its first byte.
    pub(crate) position: u64,
    /// Its length, header included.
    pub(crate) bytes: u32,
}

/// What is wrong with the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corruption {
    /// A group that was synced once is not whole any more.
    #[error("segment {segment}: the group at log position {position} (byte {offset} of the file) is damaged")]
    Group {
        /// Number of the segment.
        segment: u64,
        /// Position of the group.
        position: u64,
        /// The same as a byte of the segment's file.
        offset: u64,
    },
    /// A segment's header does not hold, or does not fit the segments around it.
    #[error("segment {segment}: its header is damaged")]
    Header {
        /// Number of the segment.
        segment: u64,
    },
    /// A segment is missing.
    #[error("segment {segment} is missing")]
    Missing {
        /// Its number.
        segment: u64,
    },
    /// A record passes its checksum and does not say what its kind says.
    #[error("the record at log position {position} cannot be read")]
    Record {
        /// Position of the record.
        position: u64,
    },
    /// The index has been written past the end of the log: a part of the log that was synced is gone.
    #[error("the log ends at position {log}, the index has been at {index}")]
    BehindIndex {
        /// Where the log ends.
        log: u64,
        /// Where the index has been.
        index: u64,
    },
}
