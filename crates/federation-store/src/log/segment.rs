//! One file of the log.

use std::sync::Arc;

use crate::disk::{Disk, DiskError, DiskFile};
use crate::log::Corruption;
use crate::log::frame::{Fields, Group, MARK_BYTES, Mark};

/// A file of the log: a header, then groups, then zeros.
#[derive(Debug)]
pub(crate) struct Segment<F> {
    /// From 1 on, without gaps behind the first that is left.
    pub(crate) number: u64,
    /// Position of its first byte behind the header.
    pub(crate) base: u64,
    /// Bytes behind the header.
    pub(crate) capacity_bytes: u64,
    /// The file.
    pub(crate) file: F,
}

impl<F: DiskFile> Segment<F> {
    /// Byte of the file at which `position` stands.
    pub(crate) fn offset(&self, position: u64) -> u64 {
        SEGMENT_HEADER_BYTES as u64 + (position - self.base)
    }

    /// Position behind its last byte.
    pub(crate) fn limit(&self) -> u64 {
        self.base + self.capacity_bytes
    }

    /// The whole group at `position`, if there is one.
    pub(crate) fn group_at(&self, position: u64, salt: u64) -> Result<Option<Group>, DiskError> {
        if position + MARK_BYTES as u64 > self.limit() {
            return Ok(None);
        }
        let mut bytes = [0; MARK_BYTES];
        self.file.read_at(self.offset(position), &mut bytes)?;
        let mark =
            Mark::parse(&bytes, salt).filter(|mark| mark.start == position && mark.end() <= self.limit());
        let Some(mark) = mark else { return Ok(None) };
        let mut body = vec![0; mark.body_bytes as usize];
        self.file.read_at(self.offset(position + MARK_BYTES as u64), &mut body)?;
        Ok(Group::new(mark, body))
    }
}

/// How large segments are, and what tells this directory's marks from any other bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogGeometry {
    /// Bytes of a segment's file, at most. A group that does not fit gets a larger one of its own.
    pub(crate) segment_bytes_max: u64,
    /// Of this directory.
    pub(crate) salt: u64,
    /// Free bytes below which no segment is made: what the index may need until it is checkpointed.
    pub(crate) reserve_bytes: u64,
}

impl LogGeometry {
    /// Bytes of the file of segment `number`: the first ones are smaller, so that a new store is made quickly and
    /// a small one stays small.
    pub(crate) fn segment_bytes(&self, number: u64) -> u64 {
        let growth = u32::try_from(number.saturating_sub(1).min(8)).unwrap_or(8);
        FIRST_SEGMENT_BYTES.saturating_mul(4_u64.pow(growth)).min(self.segment_bytes_max)
    }
}

/// The segments of a log by their number, the newest last.
pub(crate) type SegmentList<F> = Vec<Arc<Segment<F>>>;

/// The segment that holds `position`: of several that begin at the same one the last, the others are empty.
pub(crate) fn holding<F>(segments: &SegmentList<F>, position: u64) -> Option<(usize, &Arc<Segment<F>>)> {
    let index = segments.partition_point(|s| s.base <= position).checked_sub(1)?;
    segments.get(index).map(|segment| (index, segment))
}

/// The salt of a directory that began with these random numbers.
pub(crate) fn salt_of(store_random: u64, boot: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"federation-store/v1/salt\0");
    hasher.update(&store_random.to_le_bytes()).update(&boot.to_le_bytes());
    hasher.finalize().as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The name of a segment's file.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{SEGMENT_PREFIX}{number:010}{SEGMENT_SUFFIX}")
}

/// The number of the segment whose file has this name.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    name.strip_prefix(SEGMENT_PREFIX)?.strip_suffix(SEGMENT_SUFFIX)?.parse().ok()
}

/// Writes the header of an empty segment into `file`, which is a file of zeros, and syncs it.
pub(crate) fn begin<F: DiskFile>(
    file: F,
    number: u64,
    base: u64,
    salt: u64,
) -> Result<Segment<F>, DiskError> {
    let capacity_bytes = file.len_bytes()?.saturating_sub(SEGMENT_HEADER_BYTES as u64);
    let mut header = Vec::with_capacity(SEGMENT_HEADER_BYTES);
    header.extend_from_slice(SEGMENT_MAGIC);
    for field in [salt, number, base, capacity_bytes] {
        header.extend_from_slice(&field.to_le_bytes());
    }
    header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
    header.resize(SEGMENT_HEADER_BYTES, 0);
    file.write_at(0, &header)?;
    file.sync_data()?;
    Ok(Segment { number, base, capacity_bytes, file })
}

/// Why the segments of a directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SegmentsError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Corrupt(#[from] Corruption),
}

/// All segments of a directory from the one with number `first` on, checked against each other.
pub(crate) fn open_all<D: Disk>(
    disk: &D,
    salt: u64,
    first: u64,
) -> Result<SegmentList<D::File>, SegmentsError> {
    let names = disk.list()?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.retain(|number| *number >= first);
    numbers.sort_unstable();
    if numbers.is_empty() && first > 1 {
        return Err(Corruption::Missing { segment: first }.into());
    }
    let mut segments: SegmentList<D::File> = Vec::with_capacity(numbers.len());
    for (number, expected) in numbers.into_iter().zip(first..) {
        if number != expected {
            return Err(Corruption::Missing { segment: expected }.into());
        }
        let file = disk.open(&segment_name(number))?;
        let segment = read_header(file, salt, number)?;
        let follows =
            segments.last().is_none_or(|last| last.base <= segment.base && segment.base <= last.limit());
        let begins = number > 1 || segment.base == 0;
        if !follows || !begins {
            return Err(Corruption::Header { segment: number }.into());
        }
        segments.push(Arc::new(segment));
    }
    Ok(segments)
}

fn read_header<F: DiskFile>(file: F, salt: u64, number: u64) -> Result<Segment<F>, SegmentsError> {
    let damaged = Corruption::Header { segment: number };
    let length = file.len_bytes()?;
    if length < SEGMENT_HEADER_BYTES as u64 {
        return Err(damaged.into());
    }
    let mut header = [0; SEGMENT_HEADER_BYTES];
    file.read_at(0, &mut header)?;
    let parsed = parse_header(&header).filter(|(found_salt, found_number, _, capacity)| {
        *found_salt == salt && *found_number == number && capacity + SEGMENT_HEADER_BYTES as u64 == length
    });
    let Some((_, _, base, capacity_bytes)) = parsed else { return Err(damaged.into()) };
    Ok(Segment { number, base, capacity_bytes, file })
}

fn parse_header(header: &[u8]) -> Option<(u64, u64, u64, u64)> {
    let (checked, rest) = header.split_at_checked(SEGMENT_MAGIC.len() + 4 * 8)?;
    let crc = Fields(rest).u32()?;
    let mut fields = Fields(checked.strip_prefix(SEGMENT_MAGIC)?);
    let (salt, number, base, capacity) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
    let is_sane = base < u64::MAX / 4 && capacity < u64::MAX / 4;
    (crc == crc32c::crc32c(checked) && is_sane).then_some((salt, number, base, capacity))
}

/// 4 MiB, then 16, then 64.
const FIRST_SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes of a segment's header.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 64;
const SEGMENT_MAGIC: &[u8] = b"FEDLOG01";
const SEGMENT_PREFIX: &str = "log-";
const SEGMENT_SUFFIX: &str = ".seg";
