//! Finds out what of the log is whole, and where it ends.

use crate::disk::{Disk, DiskError, DiskFile, TEMPORARY_SUFFIX};
use crate::log::frame::{Group, MARK_BYTES, Mark};
use crate::log::segment::{LogGeometry, Segment, SegmentList, SegmentsError, holding, open_all};
use crate::log::{Corruption, Log};

/// The segments of a directory, not yet open for appending.
#[derive(Debug)]
pub(crate) struct Scan<D: Disk> {
    disk: D,
    segments: SegmentList<D::File>,
    salt: u64,
}

/// Where the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// Position behind the last whole group.
    pub(crate) end: u64,
    /// Bytes behind it that are not zero, counted from `end`: what a crash left of a group.
    pub(crate) torn_bytes: u64,
}

impl<D: Disk> Scan<D> {
    /// Opens the segments and checks their headers.
    pub(crate) fn open(disk: D, salt: u64) -> Result<Self, SegmentsError> {
        let segments = open_all(&disk, salt)?;
        Ok(Self { disk, segments, salt })
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
        let mut position = from;
        loop {
            let Some((index, segment)) = holding(&self.segments, position) else {
                return Ok(Recovered { end: position, torn_bytes: 0 });
            };
            let next_base = self.segments.get(index + 1).map(|next| next.base);
            let group = self.group_at(segment, position).map_err(SegmentsError::Disk)?;
            match group.filter(|group| next_base.is_none_or(|base| group.end <= base)) {
                Some(group) => {
                    visit(&group)?;
                    position = group.end;
                }
                None if next_base.is_some() => return Err(damaged(segment, position).into()),
                None => return Ok(self.tail(segment, position)?),
            }
        }
    }

    /// Cuts what a crash left behind the end, makes sure that all before it is durable (it may have been read from
    /// memory of the operating system that no disk has), removes leftovers, and opens the log for appending.
    pub(crate) fn into_log(self, recovered: Recovered, geometry: LogGeometry) -> Result<Log<D>, DiskError> {
        for name in self.disk.list()? {
            if name.ends_with(TEMPORARY_SUFFIX) {
                self.disk.remove(&name)?;
            }
        }
        self.disk.sync_directory()?;
        if let Some(last) = self.segments.last() {
            let mut offset = last.offset(recovered.end.min(last.limit()));
            let mut left = recovered.torn_bytes;
            while left > 0 {
                let piece = left.min(PIECE_BYTES as u64);
                let zeros = ZEROS.get(..usize::try_from(piece).unwrap_or_default()).unwrap_or_default();
                last.file.write_at(offset, zeros)?;
                offset += piece;
                left -= piece;
            }
            last.file.sync_data()?;
        }
        Ok(Log::new(self.disk, geometry, self.segments, recovered.end))
    }

    /// The whole group at `position`, if there is one.
    fn group_at(&self, segment: &Segment<D::File>, position: u64) -> Result<Option<Group>, DiskError> {
        if position + MARK_BYTES as u64 > segment.limit() {
            return Ok(None);
        }
        let mut bytes = [0; MARK_BYTES];
        segment.file.read_at(segment.offset(position), &mut bytes)?;
        let mark = Mark::parse(&bytes, self.salt)
            .filter(|mark| mark.start == position && mark.end() <= segment.limit());
        let Some(mark) = mark else { return Ok(None) };
        let mut body = vec![0; mark.body_bytes as usize];
        segment.file.read_at(segment.offset(position + MARK_BYTES as u64), &mut body)?;
        Ok(Group::new(mark, body))
    }

    /// Decides what stands at `position` in the last segment, where no whole group does: see [`crate::log`].
    fn tail(&self, segment: &Segment<D::File>, position: u64) -> Result<Recovered, SegmentsError> {
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
        Ok(Recovered { end: position, torn_bytes })
    }

    fn mark(&self, window: &[u8]) -> Option<Mark> {
        window.starts_with(&self.salt.to_le_bytes()).then(|| Mark::parse(window, self.salt)).flatten()
    }
}

fn damaged<F: DiskFile>(segment: &Segment<F>, position: u64) -> SegmentsError {
    let offset = segment.offset(position);
    Corruption::Group { segment: segment.number, position, offset }.into()
}

/// Read at once when looking for the end of a tail. A preallocated segment is mostly zeros, and comparing is quick.
const PIECE_BYTES: usize = 64 * 1024;
static ZEROS: [u8; PIECE_BYTES] = [0; PIECE_BYTES];
