//! The one writer of the log.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use federation_core::planted::{Defect, is_planted};

use crate::disk::{Disk, DiskError, DiskFile, TEMPORARY_SUFFIX};
use crate::log::frame::GroupBuilder;
use crate::log::reader::LogReader;
use crate::log::segment::{LogGeometry, SEGMENT_HEADER_BYTES, Segment, SegmentList, begin, segment_name};

/// The log, open for appending.
#[derive(Debug)]
pub(crate) struct Log<D: Disk> {
    pub(super) disk: D,
    pub(super) geometry: LogGeometry,
    pub(super) segments: Arc<ArcSwap<SegmentList<D::File>>>,
    pub(super) end: u64,
    spare: Spare<D>,
}

/// Why a group was not appended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    /// There is no room for the next segment. Nothing was written; a later try may find room.
    #[error("no room for the next segment")]
    Full,
    /// A write or sync failed: what the disk holds of the group is unknown, and the log must not be written again.
    #[error(transparent)]
    Failed(DiskError),
}

impl<D: Disk> Log<D> {
    /// The log of these segments that ends at `end`, with no bytes behind it.
    pub(crate) fn new(disk: D, geometry: LogGeometry, segments: SegmentList<D::File>, end: u64) -> Self {
        let spare = Spare { disk: disk.clone(), reserve_bytes: geometry.reserve_bytes, made: Arc::default() };
        Self { disk, geometry, segments: Arc::new(ArcSwap::from_pointee(segments)), end, spare }
    }

    /// Position behind the last group.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The disk that it is on.
    pub(crate) fn disk(&self) -> &D {
        &self.disk
    }

    /// Reads what is in it.
    pub(crate) fn reader(&self) -> LogReader<D::File> {
        LogReader::new(Arc::clone(&self.segments))
    }

    /// Makes the next segment ahead of its use, from any thread.
    pub(crate) fn spare(&self) -> Spare<D> {
        self.spare.clone()
    }

    /// Size of the next segment, once so much of the last one is used that it is time to make it.
    pub(crate) fn wants_spare(&self) -> Option<u64> {
        let segments = self.segments.load();
        let last = segments.last()?;
        let is_half_full = self.end.saturating_sub(last.base) > last.capacity_bytes / 2;
        is_half_full.then(|| self.geometry.segment_bytes(last.number + 1))
    }

    /// Whether the disk has the room that is kept for the index. One that does not say is taken to have it: the write
    /// itself will tell.
    pub(crate) fn has_room(&self) -> bool {
        self.disk.free_bytes().map_or(true, |free| free >= self.geometry.reserve_bytes / 2)
    }

    /// Writes the group and makes it durable. Returns the position at which it starts.
    pub(crate) fn append(&mut self, group: &mut GroupBuilder) -> Result<u64, AppendError> {
        let start = self.end;
        let bytes = group.len_bytes();
        let head = self.segments.load().last().cloned();
        let head = match head {
            Some(head) if start + bytes <= head.limit() => head,
            _ => self.switch(bytes)?,
        };
        head.file
            .write_at(head.offset(start), group.finish(self.geometry.salt, start))
            .map_err(AppendError::Failed)?;
        if !is_planted(Defect::LazyFsync) {
            head.file.sync_data().map_err(AppendError::Failed)?;
        }
        self.end = start + bytes;
        Ok(start)
    }

    /// Makes a new last segment with room for a group of `bytes`.
    fn switch(&mut self, bytes: u64) -> Result<Arc<Segment<D::File>>, AppendError> {
        let list = self.segments.load_full();
        let number = list.last().map_or(1, |last| last.number + 1);
        let needed = (bytes + SEGMENT_HEADER_BYTES as u64).max(self.geometry.segment_bytes(number));
        let (file, temporary) = if let Some(spare) = self.spare.take(needed) {
            spare
        } else {
            (create(&self.disk, NEXT_FILE, needed, self.geometry.reserve_bytes)?, NEXT_FILE.to_owned())
        };
        let segment = begin(file, number, self.end, self.geometry.salt).map_err(AppendError::Failed)?;
        self.disk.rename(&temporary, &segment_name(number)).map_err(AppendError::Failed)?;
        self.disk.sync_directory().map_err(AppendError::Failed)?;
        let segment = Arc::new(segment);
        let mut longer = (*list).clone();
        longer.push(Arc::clone(&segment));
        self.segments.store(Arc::new(longer));
        Ok(segment)
    }
}

/// Room for the next segment, made ahead of its use so that the writer does not wait for 64 MiB of zeros.
///
/// Each file has a name that none had before: the next one may be begun while the writer still renames the last, and
/// under one name its zeros would go into the segment that the last has become.
#[derive(Debug)]
pub(crate) struct Spare<D: Disk> {
    disk: D,
    reserve_bytes: u64,
    made: Arc<Mutex<Made<D::File>>>,
}

/// What was made ahead.
#[derive(Debug)]
struct Made<F> {
    /// How many so far.
    count: u64,
    /// The one that waits, with its name.
    waiting: Option<(F, String)>,
}

impl<F> Default for Made<F> {
    fn default() -> Self {
        Self { count: 0, waiting: None }
    }
}

impl<D: Disk> Clone for Spare<D> {
    fn clone(&self) -> Self {
        Self { disk: self.disk.clone(), reserve_bytes: self.reserve_bytes, made: Arc::clone(&self.made) }
    }
}

impl<D: Disk> Spare<D> {
    /// Makes a file of `bytes` if none of that size waits. Called from one thread only, and never from the writer's.
    ///
    /// A failure is not reported: the writer then makes its segment itself and meets the same obstacle.
    pub(crate) fn prepare(&self, bytes: u64) {
        let (unfit, name) = {
            let mut made = self.lock();
            if made.waiting.as_ref().is_some_and(|(file, _)| is_of(file, bytes)) {
                return;
            }
            made.count += 1;
            (made.waiting.take(), format!("{SPARE_PREFIX}{}{TEMPORARY_SUFFIX}", made.count))
        };
        if let Some((file, name)) = unfit {
            drop(file);
            // What stays takes room until the next start, and nothing else.
            let _ = self.disk.remove(&name);
        }
        if let Ok(file) = create(&self.disk, &name, bytes, self.reserve_bytes) {
            self.lock().waiting = Some((file, name));
        }
    }

    /// The file that waits and its name, if it is of this size.
    fn take(&self, bytes: u64) -> Option<(D::File, String)> {
        let mut made = self.lock();
        let fits = made.waiting.as_ref().is_some_and(|(file, _)| is_of(file, bytes));
        if fits { made.waiting.take() } else { None }
    }

    fn lock(&self) -> MutexGuard<'_, Made<D::File>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_of<F: DiskFile>(file: &F, bytes: u64) -> bool {
    file.len_bytes().is_ok_and(|length| length == bytes)
}

fn create<D: Disk>(disk: &D, name: &str, bytes: u64, reserve_bytes: u64) -> Result<D::File, AppendError> {
    if disk.free_bytes().map_err(AppendError::Failed)? < bytes.saturating_add(reserve_bytes) {
        return Err(AppendError::Full);
    }
    disk.create(name, bytes).map_err(|error| match error {
        DiskError::Full { .. } => AppendError::Full,
        other @ DiskError::Io { .. } => AppendError::Failed(other),
    })
}

// Both end like every temporary file: what a crash leaves of them is removed at the next start.
const NEXT_FILE: &str = "next.tmp";
const SPARE_PREFIX: &str = "spare-";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn a_spare_made_while_the_last_is_put_to_use_is_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(dir.path()).unwrap();
        let spare = Spare { disk: disk.clone(), reserve_bytes: 0, made: Arc::default() };
        spare.prepare(64);
        let (first, first_name) = spare.take(64).unwrap();
        first.write_at(0, b"segment").unwrap();
        // The other thread's turn, before the writer renames.
        spare.prepare(64);
        let mut content = [0; 7];
        first.read_at(0, &mut content).unwrap();
        assert_eq!(&content, b"segment", "no zeros over what the writer has written");
        disk.rename(&first_name, "log-1").unwrap();
        let (_, second_name) = spare.take(64).unwrap();
        disk.rename(&second_name, "log-2").unwrap();
    }

    #[test]
    fn a_spare_of_another_size_makes_way() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(dir.path()).unwrap();
        let spare = Spare { disk: disk.clone(), reserve_bytes: 0, made: Arc::default() };
        spare.prepare(64);
        spare.prepare(128);
        assert!(spare.take(64).is_none());
        assert!(spare.take(128).is_some());
        assert_eq!(disk.list().unwrap().len(), 2, "the lock, and the file that was taken");
    }
}
