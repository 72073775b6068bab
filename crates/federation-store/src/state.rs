//! The replica's state as the writer holds it between two groups, and how a change of it becomes one batch.

use std::collections::BTreeMap;

use federation_core::dot::Dot;
use federation_core::dot_set::DotSet;
use federation_core::id::RecordKey;
use federation_core::node_clock::NodeClock;
use federation_core::seq_ranges::{SeqRange, SeqRanges};

use crate::index::{Batch, Index, IndexError};
use crate::schema::facts::Memory;
use crate::schema::values::{Counts, IndexMark, Stored};
use crate::schema::{SchemaError, keys, values};

/// What is not looked up in the index: the clock, the facts, the counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) clock: NodeClock,
    pub(crate) memory: Memory,
    pub(crate) counts: Counts,
}

/// Why the index could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

impl State {
    /// The state that the index holds.
    pub(crate) fn load<I: Index>(index: &I, mark: IndexMark) -> Result<Self, LookupError> {
        let mut state = Self { counts: mark.counts, ..Self::default() };
        each(index, &[keys::CLOCK], |key, value| {
            let (origin, first) = keys::read_seq(key)?;
            let last = values::decode_last(value)?;
            let range =
                SeqRange::new(first, last).ok_or(SchemaError::Key { what: "a range of the clock" })?;
            state.clock.insert_range(&origin, range);
            Ok(())
        })?;
        each(index, &[keys::FACT], |key, value| state.memory.read(key, value))?;
        Ok(state)
    }
}

/// What a replica has that knows only of what is live in it. A clock may name ops that are not here: of records that
/// the node does not keep. Once it keeps them, it must be sent them.
pub(crate) fn live_clock<I: Index>(index: &I) -> Result<NodeClock, LookupError> {
    let mut clock = NodeClock::new();
    each(index, &[keys::LIVE], |key, _| {
        clock.insert(&keys::read_dot(key)?);
        Ok(())
    })?;
    Ok(clock)
}

/// Takes the rows of a clock out of the index.
pub(crate) fn remove_clock(batch: &mut Batch, clock: &NodeClock) {
    for (origin, seqs) in clock.iter() {
        for range in seqs.ranges() {
            batch.remove(keys::clock_range(origin, range.first));
        }
    }
}

/// Hands each entry whose key begins with `prefix` to `visit`, in order.
pub(crate) fn each<I: Index>(
    index: &I,
    prefix: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), SchemaError>,
) -> Result<(), LookupError> {
    let (mut from, to) = (prefix.to_vec(), keys::behind(prefix));
    loop {
        let entries = index.scan(&from, &to, SCAN_ENTRIES)?;
        for (key, value) in &entries {
            visit(key, value)?;
        }
        match entries.last() {
            Some((key, _)) if entries.len() == SCAN_ENTRIES => from = keys::after(key),
            _ => return Ok(()),
        }
    }
}

/// What the index says of one record.
pub(crate) fn stored<I: Index>(index: &I, key: &RecordKey) -> Result<Stored, LookupError> {
    Ok(index.read(&keys::record(key))?.map(|bytes| Stored::decode(&bytes)).transpose()?.unwrap_or_default())
}

/// The record of a live dot.
pub(crate) fn key_of<I: Index>(index: &I, dot: &Dot) -> Result<Option<RecordKey>, LookupError> {
    let value = index.read(&keys::dot(keys::LIVE, dot))?;
    Ok(value.map(|bytes| values::decode_key(&bytes)).transpose()?)
}

/// Records as they were and as they are to be.
#[derive(Debug, Default)]
pub(crate) struct Transition {
    /// Before, for each key of `after`.
    pub(crate) before: BTreeMap<RecordKey, Stored>,
    /// After.
    pub(crate) after: BTreeMap<RecordKey, Stored>,
}

impl Transition {
    /// Writes what differs and counts it. Superseded dots become ghosts if `ghosts` says so. Returns the dots that
    /// were live before and are not after.
    pub(crate) fn write(&self, batch: &mut Batch, counts: &mut Counts, ghosts: Ghosts) -> Vec<Dot> {
        let none = Stored::default();
        let mut gone = Vec::new();
        for (key, after) in &self.after {
            let before = self.before.get(key).unwrap_or(&none);
            let encoded_key = values::encode_key(key);
            for (version, _) in before.versions().iter().filter(|(v, _)| after.version(&v.dot).is_none()) {
                batch.remove(keys::dot(keys::LIVE, &version.dot));
                if ghosts == Ghosts::Kept {
                    batch.put(keys::dot(keys::GHOST, &version.dot), encoded_key.clone());
                }
                gone.push(version.dot.clone());
            }
            for (version, _) in after.versions().iter().filter(|(v, _)| before.version(&v.dot).is_none()) {
                batch.put(keys::dot(keys::LIVE, &version.dot), encoded_key.clone());
            }
            write_record(batch, key, before, after);
            counts.versions = (counts.versions + after.versions().len() as u64)
                .saturating_sub(before.versions().len() as u64);
            counts.log_bytes = (counts.log_bytes + after.log_bytes()).saturating_sub(before.log_bytes());
            counts.records = (counts.records + u64::from(after.is_visible()))
                .saturating_sub(u64::from(before.is_visible()));
        }
        gone
    }
}

/// Whether superseded dots are kept for a running session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ghosts {
    /// They are.
    Kept,
    /// No session runs.
    NotNeeded,
}

fn write_record(batch: &mut Batch, key: &RecordKey, before: &Stored, after: &Stored) {
    if after.is_empty() {
        batch.remove(keys::record(key));
        batch.remove(keys::by_id(key));
    } else {
        batch.put(keys::record(key), after.encode());
        if before.is_empty() {
            batch.put(keys::by_id(key), Vec::new());
        }
    }
}

/// Writes the ranges of the clock that differ once `gained` has entered it.
pub(crate) fn write_clock(batch: &mut Batch, before: &NodeClock, after: &NodeClock, gained: &DotSet) {
    let none = SeqRanges::new();
    for (origin, gained) in gained.iter() {
        let old = before.seqs(origin).unwrap_or(&none).ranges();
        let new = after.seqs(origin).unwrap_or(&none).ranges();
        let mut written_to = 0;
        for range in gained.ranges() {
            let at = new.partition_point(|r| r.last < range.first);
            let Some(grown) = new.get(at).filter(|grown| grown.last > written_to) else { continue };
            let from = old.partition_point(|r| r.first < grown.first);
            let to = old.partition_point(|r| r.first <= grown.last);
            let replaced = old.get(from..to).unwrap_or_default();
            for swallowed in replaced.iter().filter(|r| r.first != grown.first) {
                batch.remove(keys::clock_range(origin, swallowed.first));
            }
            if replaced.first() != Some(grown) {
                batch.put(keys::clock_range(origin, grown.first), values::encode_last(grown.last));
            }
            written_to = grown.last;
        }
    }
}

/// Entries of one scan: enough that its cost does not count, few enough that memory does not either.
const SCAN_ENTRIES: usize = 512;

#[cfg(test)]
mod tests {
    use federation_core::dot::Origin;
    use federation_core::id::{BootId, NodeId};
    use proptest::prelude::*;

    use super::*;
    use crate::index::{IndexOpener, OrderedIndexes};

    proptest! {
        #[test]
        fn the_clock_in_the_index_follows_range_by_range(
            steps in proptest::collection::vec(proptest::collection::vec((1_u64..60, 0_u64..6), 1..8), 1..12)
        ) {
            let index = OrderedIndexes::new().open().unwrap();
            let origin = Origin { node: NodeId::new("n").unwrap(), epoch: BootId(1) };
            let mut clock = NodeClock::new();
            for step in steps {
                let mut gained = DotSet::new();
                for (first, more) in step {
                    gained.insert_range(&origin, SeqRange { first, last: first + more });
                }
                let mut after = clock.clone();
                after.join(&gained);
                let mut batch = Batch::new();
                write_clock(&mut batch, &clock, &after, &gained);
                index.apply(batch).unwrap();
                clock = after;
                let mark = IndexMark { salt: 0, last_start: 0, end: 0, counts: Counts::default() };
                prop_assert_eq!(&State::load(&index, mark).unwrap().clock, &clock);
                let rows = index.scan(&[keys::CLOCK], &[keys::CLOCK + 1], 1000).unwrap();
                prop_assert_eq!(rows.len(), clock.range_count());
            }
        }
    }
}
