//! What compaction asks of the log: to be read from its beginning, and to begin later.

use std::sync::Arc;

use crate::disk::{Disk, DiskError};
use crate::log::frame::Group;
use crate::log::segment::{holding, segment_name};
use crate::log::{Corruption, Log, SegmentsError};

/// The end of a segment that is not written any more, and the beginning of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Boundary {
    /// Number of the segment behind it.
    pub(crate) number: u64,
    /// Position.
    pub(crate) position: u64,
}

impl<D: Disk> Log<D> {
    /// Position at which it begins.
    pub(crate) fn begin(&self) -> u64 {
        self.segments.load().first().map_or(self.end, |first| first.base)
    }

    /// The first boundary that is at least `bytes` behind the beginning, or the last one; none if all that there is
    /// is the segment that is written.
    pub(crate) fn boundary(&self, bytes: u64) -> Option<Boundary> {
        let segments = self.segments.load();
        let begin = segments.first()?.base;
        let mut boundaries =
            segments.iter().skip(1).map(|next| Boundary { number: next.number, position: next.base });
        let is_far_enough = |boundary: &Boundary| boundary.position - begin >= bytes;
        boundaries.clone().find(is_far_enough).or_else(|| boundaries.next_back())
    }

    /// The group at `position`.
    ///
    /// # Errors
    /// [`SegmentsError::Corrupt`] if it is not whole.
    pub(crate) fn group(&self, position: u64) -> Result<Group, SegmentsError> {
        let segments = self.segments.load();
        let (_, segment) = holding(&segments, position).ok_or(Corruption::Record { position })?;
        let damaged =
            Corruption::Group { segment: segment.number, position, offset: segment.offset(position) };
        Ok(segment.group_at(position, self.geometry.salt)?.ok_or(damaged)?)
    }

    /// Number of its first segment.
    pub(crate) fn first(&self) -> u64 {
        self.segments.load().first().map_or(1, |first| first.number)
    }

    /// Takes its first segment away. Never the last one.
    ///
    /// It must be durable by then that the log begins behind it; that its file is gone need not be.
    pub(crate) fn remove_first(&mut self) -> Result<(), DiskError> {
        let segments = self.segments.load_full();
        let Some((first, [_, ..])) = segments.split_first() else { return Ok(()) };
        self.segments.store(Arc::new(segments.iter().skip(1).cloned().collect()));
        self.disk.remove(&segment_name(first.number))
    }
}
