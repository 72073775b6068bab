//! Finds out what of the log is whole, and where it ends.

use crate::disk::{Disk, DiskError, DiskFile, TEMPORARY_SUFFIX};
use crate::log::frame::{Group, MARK_BYTES, Mark};
use crate::log::segment::{
    LogGeometry, Segment, SegmentList, SegmentsError, holding, open_all, segment_name, segment_number,
};
use crate::log::{Corruption, Log, copy};

/// The segments of a directory, not yet open for appending.
#[derive(Debug)]
pub(crate) struct Scan<D: Disk> {
    disk: D,
    segments: SegmentList<D::File>,
    salt: u64,
    /// A group that was being written again when the last start ended.
    kept: Option<Group>,
    /// Files of segments before the first: what a crash left of a removal.
    removed: Vec<String>,
}

/// Where the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// Where the last whole group starts; none if there is none behind the position that was asked for.
    pub(crate) last_start: Option<u64>,
    /// Position behind the last whole group.
    pub(crate) end: u64,
    /// Bytes behind it that are not zero, counted from `end`: what a crash left of a group.
    pub(crate) torn_bytes: u64,
}

impl<D: Disk> Scan<D> {
    /// Opens the segments from the one with number `first` on, and checks their headers. Changes nothing.
    pub(crate) fn open(disk: D, salt: u64, first: u64) -> Result<Self, SegmentsError> {
        let segments = open_all(&disk, salt, first)?;
        let limit = segments.last().map_or(0, |last| last.limit());
        let kept = copy::kept(&disk, salt, limit)?;
        let is_removed = |name: &String| segment_number(name).is_some_and(|number| number < first);
        let removed = disk.list()?.into_iter().filter(is_removed).collect();
        Ok(Self { disk, segments, salt, kept, removed })
    }

    /// The disk that they are on.
    pub(crate) fn disk(&self) -> &D {
        &self.disk
    }

    /// Position at which the log begins: later than zero once it was compacted.
    pub(crate) fn begin(&self) -> u64 {
        self.segments.first().map_or(0, |first| first.base)
    }

    /// Whether a crash left a segment that was about to be removed. Where the log begins may then not be durable, and
    /// has to be before the segment goes.
    pub(crate) fn has_removed(&self) -> bool {
        !self.removed.is_empty()
    }

    /// Position behind all segments: more than any group reaches.
    pub(crate) fn limit(&self) -> u64 {
        self.segments.last().map_or(0, |last| last.limit())
    }

    /// Reads the groups from `from` on, which is the start of a group or the end of the log, hands each to `visit`,
    /// and tells where the log ends.
    ///
    /// # Errors
    /// [`SegmentsError::Corrupt`] if a group that was synced is not whole; else what the disk or `visit` says.
    pub(crate) fn groups<E: From<SegmentsError>>(
        &self,
        from: u64,
        mut visit: impl FnMut(&Group) -> Result<(), E>,
    ) -> Result<Recovered, E> {
        let (mut position, mut last_start) = (from, None);
        let mut is_copy = false;
        loop {
            let Some((index, segment)) = holding(&self.segments, position) else {
                return Ok(Recovered { last_start, end: position, torn_bytes: 0 });
            };
            let next_base = self.segments.get(index + 1).map(|next| next.base);
            let group = segment.group_at(position, self.salt).map_err(SegmentsError::Disk)?;
            let in_place = group.filter(|group| next_base.is_none_or(|base| group.end <= base));
            let copy = || self.kept.as_ref().filter(|kept| next_base.is_none() && kept.start == position);
            match in_place.as_ref().or_else(copy) {
                // Only the last group was written again: with another one behind it, it was whole once.
                Some(_) if is_copy => return Err(damaged(segment, last_start.unwrap_or(position)).into()),
                Some(group) => {
                    visit(group)?;
                    is_copy = in_place.is_none();
                    last_start = Some(position);
                    position = group.end;
                }
                None if next_base.is_some() => return Err(damaged(segment, position).into()),
                None => {
                    let torn_bytes = self.tail(segment, position)?;
                    return Ok(Recovered { last_start, end: position, torn_bytes });
                }
            }
        }
    }

    /// Makes durable what was recovered, cuts what stands behind it, and removes leftovers. See [`crate::log`] for what
    /// of it may not be durable, and why it does not help to sync that.
    ///
    /// # Errors
    /// What the disk says. What was recovered must not be used then; the next start tries again.
    pub(crate) fn settle(&self, recovered: Recovered) -> Result<(), DiskError> {
        let names = self.disk.list()?;
        for name in names.iter().filter(|name| name.ends_with(TEMPORARY_SUFFIX)).chain(&self.removed) {
            self.disk.remove(name)?;
        }
        if let Some(last) = self.segments.last() {
            if let Some(start) = recovered.last_start.filter(|start| *start >= last.base) {
                self.write_again(last, start)?;
            }
            zero(last, recovered.end, recovered.torn_bytes)?;
            last.file.sync_data()?;
            if recovered.end <= last.base {
                let name = segment_name(last.number);
                self.disk.rename(&name, AGAIN_FILE)?;
                self.disk.rename(AGAIN_FILE, &name)?;
            }
        }
        copy::forget(&self.disk)?;
        self.disk.sync_directory()
    }

    /// Opens the log for appending, once it is settled.
    pub(crate) fn into_log(self, end: u64, geometry: LogGeometry) -> Log<D> {
        Log::new(self.disk, geometry, self.segments, end)
    }

    fn write_again(&self, segment: &Segment<D::File>, start: u64) -> Result<(), DiskError> {
        let in_place = segment.group_at(start, self.salt)?;
        let group = in_place.as_ref().or(self.kept.as_ref().filter(|kept| kept.start == start));
        let bytes = group.map(|group| group.to_bytes(self.salt)).unwrap_or_default();
        copy::keep(&self.disk, &bytes)?;
        segment.file.write_at(segment.offset(start), &bytes)
    }

    /// Decides what stands at `position` in the last segment, where no whole group does: see [`crate::log`]. Tells how
    /// many bytes a crash has left there.
    fn tail(&self, segment: &Segment<D::File>, position: u64) -> Result<u64, SegmentsError> {
        let mut at = position;
        let mut torn_bytes = 0;
        // The bytes before a piece that a mark could begin in.
        let mut carried: Vec<u8> = Vec::new();
        while at < segment.limit() {
            let take = (segment.limit() - at).min(PIECE_BYTES as u64);
            let mut piece = vec![0; usize::try_from(take).unwrap_or_default()];
            segment.file.read_at(segment.offset(at), &mut piece)?;
            at += take;
            if ZEROS.get(..piece.len()).is_some_and(|zeros| zeros == piece) {
                if carried.is_empty() {
                    continue;
                }
                piece.truncate(MARK_BYTES);
            } else {
                let behind = piece.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
                torn_bytes = at - take + behind - position;
            }
            carried.extend_from_slice(&piece);
            let is_later = |mark: Mark| mark.start > position;
            if carried.windows(MARK_BYTES).any(|window| self.mark(window).is_some_and(is_later)) {
                return Err(damaged(segment, position));
            }
            let done = carried.len().saturating_sub(MARK_BYTES - 1);
            carried.drain(..done);
            if carried.iter().all(|byte| *byte == 0) {
                carried.clear();
            }
        }
        Ok(torn_bytes)
    }

    fn mark(&self, window: &[u8]) -> Option<Mark> {
        window.starts_with(&self.salt.to_le_bytes()).then(|| Mark::parse(window, self.salt)).flatten()
    }
}

/// Writes zeros over what stands from `position` on.
fn zero<F: DiskFile>(segment: &Segment<F>, position: u64, bytes: u64) -> Result<(), DiskError> {
    let mut offset = segment.offset(position.min(segment.limit()));
    let mut left = bytes;
    while left > 0 {
        let piece = left.min(PIECE_BYTES as u64);
        let zeros = ZEROS.get(..usize::try_from(piece).unwrap_or_default()).unwrap_or_default();
        segment.file.write_at(offset, zeros)?;
        offset += piece;
        left -= piece;
    }
    Ok(())
}

fn damaged<F: DiskFile>(segment: &Segment<F>, position: u64) -> SegmentsError {
    let offset = segment.offset(position);
    Corruption::Group { segment: segment.number, position, offset }.into()
}

/// Read at once when looking for the end of a tail. A preallocated segment is mostly zeros, and comparing is quick.
const PIECE_BYTES: usize = 64 * 1024;
static ZEROS: [u8; PIECE_BYTES] = [0; PIECE_BYTES];
/// What an empty segment is called between its name and the same name: if it stays so, it is no loss.
const AGAIN_FILE: &str = "again.tmp";
