//! The bytes of a group: a mark, and records behind it.

use crate::log::Place;

/// What a record is. The numbers are the format: never used twice, never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RecordKind {
    /// A sealed op: length of its bytes, its bytes, its proof.
    Op = 1,
    /// The store began.
    Store = 2,
    /// A boot began, and where the one before it ended.
    Boot = 3,
    /// Dots that entered the clock without an op.
    Clock = 4,
    /// Versions that were dropped, which no op explains.
    Drop = 5,
    /// Reserved: a client's idempotency key.
    IdempotencyKey = 6,
    /// A peer refused an op for good.
    DeadLetter = 7,
    /// Reserved: an op that failed verification.
    Quarantine = 8,
    /// Reserved: what this node notes on a record for itself.
    Annotation = 9,
    /// What is remembered of a peer.
    Peer = 10,
    /// The index is durable up to a position.
    Checkpoint = 11,
    /// Own ops carry this epoch from here on.
    Epoch = 12,
    /// A re-bootstrap began, with a new store id.
    RebootstrapBegun = 13,
    /// A peer has been drained in full.
    RebootstrapDrained = 14,
    /// The re-bootstrap is done.
    RebootstrapDone = 15,
    /// The boot ended in order: nothing of it follows.
    Closed = 16,
    /// What the node keeps from here on.
    ReplicaScope = 17,
    /// What a peer refused for what it is goes to it once more.
    DeadLettersRetried = 18,
    /// All that the records before it have come to, but for ops. What stands behind it in its group belongs to it.
    Base = 19,
    /// One op that a peer refused goes to it once more.
    DeadLetterRetried = 20,
    /// One op that a peer refused is given up.
    DeadLetterDiscarded = 21,
}

impl RecordKind {
    const ALL: [Self; 21] = [
        Self::Op,
        Self::Store,
        Self::Boot,
        Self::Clock,
        Self::Drop,
        Self::IdempotencyKey,
        Self::DeadLetter,
        Self::Quarantine,
        Self::Annotation,
        Self::Peer,
        Self::Checkpoint,
        Self::Epoch,
        Self::RebootstrapBegun,
        Self::RebootstrapDrained,
        Self::RebootstrapDone,
        Self::Closed,
        Self::ReplicaScope,
        Self::DeadLettersRetried,
        Self::Base,
        Self::DeadLetterRetried,
        Self::DeadLetterDiscarded,
    ];

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// Builds the bytes of one group in one buffer, which is written as it is.
#[derive(Debug)]
pub(crate) struct GroupBuilder {
    bytes: Vec<u8>,
    records: u32,
}

impl GroupBuilder {
    /// A group without records.
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; MARK_BYTES], records: 0 }
    }

    /// Empties it and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(MARK_BYTES, 0);
        self.records = 0;
    }

    /// Whether it has no record.
    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Bytes that it takes in the log.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Adds a record made of `parts`. Returns its place in a group that starts at position zero.
    ///
    /// No record reaches 4 GiB: ops are bounded by their limit, clocks are written in pieces.
    pub(crate) fn push(&mut self, kind: RecordKind, parts: &[&[u8]]) -> Place {
        let start = self.bytes.len();
        let content: usize = parts.iter().map(|part| part.len()).sum();
        let crc =
            parts.iter().fold(crc32c::crc32c(&[kind as u8]), |crc, part| crc32c::crc32c_append(crc, part));
        self.bytes.extend_from_slice(&length(content).to_le_bytes());
        self.bytes.extend_from_slice(&crc.to_le_bytes());
        self.bytes.push(kind as u8);
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.records += 1;
        Place { position: start as u64, bytes: length(self.bytes.len() - start) }
    }

    /// Adds the record of a sealed op.
    pub(crate) fn push_op(&mut self, op: &[u8], proof: &[u8]) -> Place {
        self.push(RecordKind::Op, &[&length(op.len()).to_le_bytes(), op, proof])
    }

    /// The finished bytes, for a group that starts at `start`.
    pub(crate) fn finish(&mut self, salt: u64, start: u64) -> &[u8] {
        let body = self.bytes.get(MARK_BYTES..).unwrap_or_default();
        let mark = Mark {
            salt,
            start,
            body_bytes: length(body.len()),
            records: self.records,
            body_crc: crc32c::crc32c(body),
        };
        if let Some(place) = self.bytes.get_mut(..MARK_BYTES) {
            place.copy_from_slice(&mark.to_bytes());
        }
        &self.bytes
    }
}

fn length(bytes: usize) -> u32 {
    #[expect(clippy::expect_used, reason = "groups are bounded far below 4 GiB")]
    u32::try_from(bytes).expect("a group is smaller than 4 GiB")
}

/// The head of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The directory's salt.
    pub(crate) salt: u64,
    /// Position of the mark itself.
    pub(crate) start: u64,
    /// Bytes of the records behind it.
    pub(crate) body_bytes: u32,
    /// How many records.
    pub(crate) records: u32,
    /// Checksum over them.
    pub(crate) body_crc: u32,
}

impl Mark {
    fn to_bytes(self) -> [u8; MARK_BYTES] {
        let mut out = [0; MARK_BYTES];
        let fields = self
            .salt
            .to_le_bytes()
            .into_iter()
            .chain(self.start.to_le_bytes())
            .chain(self.body_bytes.to_le_bytes())
            .chain(self.records.to_le_bytes())
            .chain(self.body_crc.to_le_bytes());
        for (place, byte) in out.iter_mut().zip(fields) {
            *place = byte;
        }
        let crc = crc32c::crc32c(out.get(..MARK_BYTES - 4).unwrap_or_default());
        if let Some(place) = out.last_chunk_mut() {
            *place = crc.to_le_bytes();
        }
        out
    }

    /// The mark that `bytes` begin with, if its checksum holds and it is of this directory.
    pub(crate) fn parse(bytes: &[u8], salt: u64) -> Option<Self> {
        let mut fields = Fields(bytes.get(..MARK_BYTES)?);
        let mark = Self {
            salt: fields.u64()?,
            start: fields.u64()?,
            body_bytes: fields.u32()?,
            records: fields.u32()?,
            body_crc: fields.u32()?,
        };
        let crc = fields.u32()?;
        (mark.salt == salt && crc == crc32c::crc32c(bytes.get(..MARK_BYTES - 4)?)).then_some(mark)
    }

    /// Position behind the group.
    pub(crate) fn end(&self) -> u64 {
        self.start + MARK_BYTES as u64 + u64::from(self.body_bytes)
    }
}

/// Little-endian numbers from the front of a slice.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    pub(crate) fn u32(&mut self) -> Option<u32> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*head))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*head))
    }
}

/// A whole group, read back.
#[derive(Debug)]
pub(crate) struct Group {
    /// Position of its mark.
    pub(crate) start: u64,
    /// Position behind it.
    pub(crate) end: u64,
    /// Records that its mark announces.
    pub(crate) count: u32,
    body: Vec<u8>,
}

/// One record of a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    /// What it is; none if this version does not know its number.
    pub(crate) kind: Option<RecordKind>,
    /// Where it stands.
    pub(crate) place: Place,
    /// Its content.
    pub(crate) content: &'a [u8],
}

impl Group {
    /// The group of this mark and these bytes behind it, if they are whole.
    pub(crate) fn new(mark: Mark, body: Vec<u8>) -> Option<Self> {
        let is_whole = body.len() == mark.body_bytes as usize && crc32c::crc32c(&body) == mark.body_crc;
        is_whole.then(|| Self { start: mark.start, end: mark.end(), count: mark.records, body })
    }

    /// The group that `bytes` are, mark and all, if they are whole.
    #[cfg(test)]
    pub(crate) fn parse(bytes: &[u8], salt: u64) -> Option<Self> {
        Self::new(Mark::parse(bytes, salt)?, bytes.get(MARK_BYTES..)?.to_vec())
    }

    /// Its bytes, mark and all, as they stand in the log of the directory with this salt.
    pub(crate) fn to_bytes(&self, salt: u64) -> Vec<u8> {
        let mark = Mark {
            salt,
            start: self.start,
            body_bytes: length(self.body.len()),
            records: self.count,
            body_crc: crc32c::crc32c(&self.body),
        };
        [&mark.to_bytes(), self.body.as_slice()].concat()
    }

    /// Its records in order. Fewer than [`Group::count`] if one of them is malformed.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let mut rest = self.body.as_slice();
        let mut position = self.start + MARK_BYTES as u64;
        std::iter::from_fn(move || {
            let (record, behind) = parse_record(rest, position)?;
            rest = behind;
            position += u64::from(record.place.bytes);
            Some(record)
        })
    }
}

/// The record that `bytes` begin with, and what stands behind it, if its checksum holds.
pub(crate) fn parse_record(bytes: &[u8], position: u64) -> Option<(Record<'_>, &[u8])> {
    let mut fields = Fields(bytes);
    let (content_bytes, crc) = (fields.u32()?, fields.u32()?);
    let (checked, rest) = fields.0.split_at_checked(1 + content_bytes as usize)?;
    let (kind, content) = checked.split_first()?;
    if crc32c::crc32c(checked) != crc {
        return None;
    }
    let total = content_bytes.checked_add(RECORD_HEADER_BYTES)?;
    let record = Record { kind: RecordKind::of(*kind), place: Place { position, bytes: total }, content };
    Some((record, rest))
}

/// The op and the proof in the content of a [`RecordKind::Op`].
pub(crate) fn op_parts(content: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = Fields(content);
    let op_bytes = fields.u32()? as usize;
    fields.0.split_at_checked(op_bytes)
}

/// Bytes of a mark.
pub(crate) const MARK_BYTES: usize = 32;
/// Length, checksum and kind of a record.
const RECORD_HEADER_BYTES: u32 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_read_back_and_any_flipped_bit_is_found() {
        let mut builder = GroupBuilder::new();
        builder.push_op(b"op bytes", b"proof");
        let clock = builder.push(RecordKind::Clock, &[b"clo", b"ck"]);
        let bytes = builder.finish(7, 1_000).to_vec();
        let whole = |bytes: &[u8]| Group::parse(bytes, 7);
        let group = whole(&bytes).unwrap();
        assert_eq!((group.start, group.end, group.count), (1_000, 1_000 + bytes.len() as u64, 2));
        assert_eq!(group.to_bytes(7), bytes);
        let records: Vec<_> = group.records().collect();
        assert_eq!(op_parts(records[0].content), Some((&b"op bytes"[..], &b"proof"[..])));
        assert_eq!(records[1].kind, Some(RecordKind::Clock));
        assert_eq!(records[1].content, b"clock");
        assert_eq!(records[1].place.position, 1_000 + clock.position);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(whole(&flipped).is_none(), "bit {bit}");
        }
        assert!(Mark::parse(&bytes, 8).is_none(), "another directory's mark");
    }

    #[test]
    fn a_cleared_builder_starts_afresh() {
        let mut builder = GroupBuilder::new();
        builder.push(RecordKind::Epoch, &[b"x"]);
        builder.clear();
        assert!(builder.is_empty());
        assert_eq!(builder.len_bytes(), MARK_BYTES as u64);
    }
}
