//! Values of the index, and the records of the log that are about versions and dots.

use federation_core::dot::Dot;
use federation_core::dot_set::DotSet;
use federation_core::hlc::Hlc;
use federation_core::id::{LogPosition, OpHash, RecordKey};
use federation_core::record::{Record, Version, VersionState};
use federation_core::vector_clock::VectorClock;
use federation_wire::codec;
use federation_wire::v1::types::Wire;

use super::SchemaError;
use crate::log::Place;

/// The live versions of one record in order of their dots, each with the place of its op.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    versions: Vec<(Version, Place)>,
}

impl Stored {
    /// The versions of `record`, with their places.
    ///
    /// # Errors
    /// The dot that `place` does not know.
    pub(crate) fn new(record: &Record, place: impl Fn(&Dot) -> Option<Place>) -> Result<Self, Dot> {
        let with_place =
            |v: &Version| place(&v.dot).map(|place| (v.clone(), place)).ok_or_else(|| v.dot.clone());
        Ok(Self { versions: record.versions().iter().map(with_place).collect::<Result<_, _>>()? })
    }

    /// As core sees it.
    pub(crate) fn record(&self) -> Record {
        self.versions.iter().map(|(version, _)| version.clone()).collect()
    }

    /// Versions and places.
    pub(crate) fn versions(&self) -> &[(Version, Place)] {
        &self.versions
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    /// Bytes that their ops take in the log.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.versions.iter().map(|(_, place)| u64::from(place.bytes)).sum()
    }

    /// The same, with the op of `dot` at another place.
    #[must_use]
    pub(crate) fn moved(mut self, dot: &Dot, to: Place) -> Self {
        for (_, place) in self.versions.iter_mut().filter(|(version, _)| version.dot == *dot) {
            *place = to;
        }
        self
    }

    /// The version under `dot`.
    pub(crate) fn version(&self, dot: &Dot) -> Option<&(Version, Place)> {
        self.versions.iter().find(|(version, _)| version.dot == *dot)
    }

    /// Whether a reader sees something.
    pub(crate) fn is_visible(&self) -> bool {
        self.versions.iter().any(|(version, _)| !version.is_tombstone())
    }

    /// Its bytes in the index.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let rows: Vec<_> = self
            .versions
            .iter()
            .map(|(v, place)| {
                let state = match v.state {
                    VersionState::Present => 0_u8,
                    VersionState::Archived => 1,
                    VersionState::Tombstone => 2,
                };
                let place = (place.position, place.bytes);
                (Wire(&v.dot), Wire(v.hash), Wire(v.hlc), Wire(&v.context), state, place)
            })
            .collect();
        codec::encode(&rows)
    }

    /// Reads what [`Stored::encode`] wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, SchemaError> {
        type Row = (Wire<Dot>, Wire<OpHash>, Wire<Hlc>, Wire<VectorClock>, u8, (u64, u32));
        const WHAT: &str = "a record of the index";
        let rows: Vec<Row> = decode(WHAT, bytes)?;
        let mut versions = Vec::with_capacity(rows.len());
        for (Wire(dot), Wire(hash), Wire(hlc), Wire(context), state, (position, bytes)) in rows {
            let state = match state {
                0 => VersionState::Present,
                1 => VersionState::Archived,
                2 => VersionState::Tombstone,
                _ => return Err(SchemaError::Key { what: WHAT }),
            };
            versions.push((Version { dot, hash, hlc, context, state }, Place { position, bytes }));
        }
        Ok(Self { versions })
    }
}

/// Where the index stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexMark {
    /// The directory that it is of.
    pub(crate) salt: u64,
    /// Position of the last group that is in it.
    pub(crate) last_start: u64,
    /// Position behind that group: all before it is in the index.
    pub(crate) end: u64,
    /// How much is live.
    pub(crate) counts: Counts,
}

/// How much is live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Live versions.
    pub(crate) versions: u64,
    /// Visible records.
    pub(crate) records: u64,
    /// Bytes that the ops of live versions take in the log.
    pub(crate) log_bytes: u64,
}

impl IndexMark {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let counts = (self.counts.versions, self.counts.records, self.counts.log_bytes);
        codec::encode(&(self.salt, self.last_start, self.end, counts))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, SchemaError> {
        let (salt, last_start, end, (versions, records, log_bytes)) = decode("the mark of the index", bytes)?;
        Ok(Self { salt, last_start, end, counts: Counts { versions, records, log_bytes } })
    }
}

/// The record that a live dot or a ghost belongs to.
pub(crate) fn encode_key(key: &RecordKey) -> Vec<u8> {
    codec::encode(&Wire(key))
}

/// Reads what [`encode_key`] wrote.
pub(crate) fn decode_key(bytes: &[u8]) -> Result<RecordKey, SchemaError> {
    decode("the record of a dot", bytes).map(|Wire(key)| key)
}

/// The end of a range of the clock.
pub(crate) fn encode_last(last: u64) -> Vec<u8> {
    codec::encode(&last)
}

/// Reads what [`encode_last`] wrote.
pub(crate) fn decode_last(bytes: &[u8]) -> Result<u64, SchemaError> {
    decode("the end of a range", bytes)
}

/// The records of the log that say `dots`: several if there are many ranges, so that each stays small.
pub(crate) fn encode_clock(dots: &DotSet) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let (mut piece, mut ranges) = (DotSet::new(), 0);
    for (origin, seqs) in dots.iter() {
        for range in seqs.ranges() {
            piece.insert_range(origin, *range);
            ranges += 1;
            if ranges == CLOCK_RECORD_RANGES_MAX {
                pieces.push(codec::encode(&Wire(&piece)));
                (piece, ranges) = (DotSet::new(), 0);
            }
        }
    }
    if ranges > 0 {
        pieces.push(codec::encode(&Wire(&piece)));
    }
    pieces
}

/// Reads one of what [`encode_clock`] wrote.
pub(crate) fn decode_clock(bytes: &[u8]) -> Result<DotSet, SchemaError> {
    decode("dots in the log", bytes).map(|Wire(dots)| dots)
}

/// The record of the log that says which versions were dropped.
pub(crate) fn encode_drop(key: &RecordKey, dots: &Vec<Dot>) -> Vec<u8> {
    codec::encode(&(Wire(key), Wire(dots)))
}

/// Reads what [`encode_drop`] wrote.
pub(crate) fn decode_drop(bytes: &[u8]) -> Result<(RecordKey, Vec<Dot>), SchemaError> {
    let (Wire(key), Wire(dots)) = decode("dropped versions in the log", bytes)?;
    Ok((key, dots))
}

/// The record of the log that says up to where the index is durable.
pub(crate) fn encode_checkpoint(position: u64) -> Vec<u8> {
    codec::encode(&Wire(LogPosition(position)))
}

/// Reads what [`encode_checkpoint`] wrote.
pub(crate) fn decode_checkpoint(bytes: &[u8]) -> Result<u64, SchemaError> {
    decode("a checkpoint in the log", bytes).map(|Wire(LogPosition(position))| position)
}

pub(super) fn decode<'de, T: serde::Deserialize<'de>>(
    what: &'static str,
    bytes: &'de [u8],
) -> Result<T, SchemaError> {
    codec::decode(bytes, bytes.len()).map_err(|source| SchemaError::Value { what, source })
}

/// Ranges in one clock record: at most 96 bytes each, so under half a megabyte.
const CLOCK_RECORD_RANGES_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use federation_core::dot::Origin;
    use federation_core::id::{BootId, NodeId};
    use federation_core::seq_ranges::SeqRange;

    use super::*;

    #[test]
    fn a_large_clock_is_written_in_pieces() {
        let origin = Origin { node: NodeId::new("n").unwrap(), epoch: BootId(1) };
        let mut dots = DotSet::new();
        for i in 0..10_000_u64 {
            dots.insert_range(&origin, SeqRange { first: 3 * i + 1, last: 3 * i + 2 });
        }
        let pieces = encode_clock(&dots);
        assert_eq!(pieces.len(), 3);
        let mut back = DotSet::new();
        for piece in &pieces {
            back.join(&decode_clock(piece).unwrap());
        }
        assert_eq!(back, dots);
        assert!(encode_clock(&DotSet::new()).is_empty());
    }
}
