//! Compaction: what is live in the oldest segments is copied to the head of the log, and they go.
//!
//! Always a beginning of the log goes, never a segment from its middle. So the order of what is left is that in which
//! it came, and what undid an op is never gone before the op is: a record that says that versions were dropped, or an
//! op that replaced another, stands behind what it undid, and need not be copied for it.
//!
//! A round takes as many segments as the log is too long by, at least one. It has three parts:
//!
//! 1. The groups are read in order, and each op that the index has at just this place is written again, in groups of
//!    this writer like any others, and has its new place in the index.
//! 2. A *base* is written: what is remembered and the whole clock. Up to here a replay of what stands behind the round
//!    has come to the same live versions, and by the base it has come to the same state; from here on it goes as ever.
//! 3. Once a checkpoint has made the index durable that far, and no read goes on that may know an old place, it is
//!    written down that the log begins behind the first segment, and its file is removed; then the next.
//!
//! A crash before that leaves the segments, and copies that replay as what they are; one after it a file that the next
//! start removes. An index that is older than the checkpoint is made again, from what is left.

use std::collections::BTreeMap;

use federation_core::dot::Dot;
use federation_core::id::RecordKey;
use federation_core::limits::GROUP_BYTES_MAX;
use federation_core::planted::{Defect, is_planted};
use federation_core::port::store::{Health, StoreError};
use federation_wire::v1::op::decode_op;

use super::Engine;
use crate::disk::{Disk, DiskError};
use crate::index::{Batch, IndexOpener};
use crate::log::{Boundary, Corruption, Place, Readers, RecordKind, SegmentsError, op_parts};
use crate::schema::values::{Stored, encode_clock};
use crate::state::{Ghosts, LookupError, Transition, stored};

/// What a step of compaction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compacted {
    /// There is nothing to do until more was written.
    Done,
    /// There is more to do.
    More,
    /// It goes on after a checkpoint, when a read is over, or when there is room.
    Waits,
}

/// Where compaction stands.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    stage: Stage,
    /// Bytes of the last base that was written since the opening.
    base_bytes: u64,
}

#[derive(Clone, Debug, Default)]
enum Stage {
    /// No round is under way.
    #[default]
    Idle,
    /// What stands before `until` is to go; the groups from `next` on are still to be looked through.
    Copying { next: u64, until: Boundary },
    /// All that counts of it stands behind `until` too, and the index knows it, at `indexed_to`.
    Copied { until: Boundary, indexed_to: u64, readers: Readers },
    /// The log is damaged where compaction has come to: nothing that may have been live there is given up.
    Halted,
}

impl Compaction {
    /// Whether a round goes on after a checkpoint that is later than the one at `checkpointed_to`.
    pub(super) fn wants_checkpoint(&self, checkpointed_to: u64) -> bool {
        matches!(self.stage, Stage::Copied { indexed_to, .. } if checkpointed_to < indexed_to)
    }
}

/// Why a piece was not copied.
enum Obstacle {
    /// There is no room for the copies.
    Full,
    /// The log cannot be read.
    Log(SegmentsError),
    /// The store is poisoned.
    Store(StoreError),
}

/// Ops with new places in a group, by record.
type Moved = BTreeMap<RecordKey, (Stored, Vec<(Dot, Place)>)>;

impl<D: Disk, O: IndexOpener> Engine<D, O> {
    /// Whether a step of compaction is to be made: less than half of the log is live, and there is more of it than the
    /// segment that is written; or a round is under way.
    pub fn wants_compaction(&self) -> bool {
        let is_open = !self.is_closed && self.health != Health::Poisoned;
        is_open
            && match self.compaction.stage {
                Stage::Idle => self.log.boundary(0).is_some() && self.excess_bytes() > 0,
                Stage::Copying { .. } | Stage::Copied { .. } => true,
                Stage::Halted => false,
            }
    }

    /// Makes one step of compaction, if it is wanted: looks through about `bytes` of log, at least one group, and
    /// writes what is live of it, at most one group and a sync; or writes a base; or removes a segment.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`] or [`StoreError::InDoubt`] if the store is thereby poisoned.
    pub fn compact(&mut self, bytes: u64) -> Result<Compacted, StoreError> {
        if !self.wants_compaction() {
            return Ok(Compacted::Done);
        }
        let next = match self.compaction.stage.clone() {
            Stage::Halted => return Ok(Compacted::Done),
            Stage::Idle => Ok(self.round()),
            Stage::Copying { next, until } if next < until.position => {
                self.copy(next, until, bytes).map(|next| Stage::Copying { next, until })
            }
            Stage::Copying { until, .. } => self.write_base().map(|()| Stage::Copied {
                until,
                indexed_to: self.indexed_to,
                readers: self.shared.log.readers(),
            }),
            Stage::Copied { indexed_to, .. } if self.checkpointed_to < indexed_to => {
                return Ok(Compacted::Waits);
            }
            Stage::Copied { readers, .. } if !readers.are_gone() => return Ok(Compacted::Waits),
            Stage::Copied { until, .. } if self.log.first() < until.number => {
                self.remove_first().map(|()| self.compaction.stage.clone())
            }
            Stage::Copied { .. } => Ok(Stage::Idle),
        };
        match next {
            Ok(stage) => self.compaction.stage = stage,
            Err(Obstacle::Full) => return Ok(Compacted::Waits),
            Err(Obstacle::Store(error)) => return Err(error),
            Err(Obstacle::Log(error)) => {
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::error!(error, "the log cannot be read: there is no compaction until it is mended");
                self.shared.metrics.unreadable.add(1);
                self.compaction.stage = Stage::Halted;
            }
        }
        self.publish();
        Ok(if self.wants_compaction() { Compacted::More } else { Compacted::Done })
    }

    /// Bytes by which the log is longer than twice what is live in it.
    fn excess_bytes(&self) -> u64 {
        let live = self.state.counts.log_bytes + self.compaction.base_bytes;
        (self.log.end() - self.log.begin()).saturating_sub(2 * live)
    }

    /// The next round: as much as the log is too long by, so that a slow checkpoint does not let it fall behind, up to
    /// what is to be gained soon; and so much that the base that it ends with is the smaller part of it.
    fn round(&self) -> Stage {
        let excess = self.excess_bytes().min(ROUND_SEGMENTS_MAX * self.options.segment_bytes);
        match self.log.boundary(excess.max(2 * self.compaction.base_bytes)) {
            Some(until) => Stage::Copying { next: self.log.begin(), until },
            None => Stage::Idle,
        }
    }

    /// Copies what is live in the next groups. Returns the position of the first that was not looked at.
    fn copy(&mut self, from: u64, until: Boundary, bytes: u64) -> Result<u64, Obstacle> {
        if is_planted(Defect::RemoveBeforeCopy) {
            return Ok(until.position);
        }
        self.builder.clear();
        let mut moved = Moved::new();
        let mut next = from;
        while next < until.position
            && next - from < bytes.max(1)
            && self.builder.len_bytes() < GROUP_BYTES_MAX as u64
        {
            next = self.copy_group(next, &mut moved)?;
        }
        if self.builder.is_empty() {
            return Ok(next);
        }
        let start = self.append_copies()?;
        let mut transition = Transition::default();
        for (key, (before, places)) in moved {
            let to = |place: Place| Place { position: start + place.position, bytes: place.bytes };
            let after =
                places.iter().fold(before.clone(), |after, (dot, place)| after.moved(dot, to(*place)));
            transition.before.insert(key.clone(), before);
            transition.after.insert(key, after);
        }
        let (mut batch, mut state) = (Batch::new(), self.state.clone());
        transition.write(&mut batch, &mut state.counts, Ghosts::NotNeeded);
        self.index_batch(start, batch, state).map_err(Obstacle::Store)?;
        Ok(next)
    }

    /// Puts the ops of the group at `position` that are live there into the group that is built. Returns where the
    /// group ends.
    fn copy_group(&mut self, position: u64, moved: &mut Moved) -> Result<u64, Obstacle> {
        let group = self.log.group(position).map_err(Obstacle::Log)?;
        let mut seen = 0;
        for record in group.records() {
            seen += 1;
            if record.kind != Some(RecordKind::Op) {
                continue;
            }
            let unreadable = || Obstacle::Log(Corruption::Record { position: record.place.position }.into());
            let (bytes, proof) = op_parts(record.content).ok_or_else(unreadable)?;
            let op = decode_op(bytes).map_err(|_| unreadable())?;
            if !moved.contains_key(&op.key) {
                let before = stored(&self.shared.index, &op.key).map_err(|error| self.unknown(&error))?;
                moved.insert(op.key.clone(), (before, Vec::new()));
            }
            let Some((before, places)) = moved.get_mut(&op.key) else { continue };
            if before.version(&op.dot).is_some_and(|(_, place)| *place == record.place) {
                places.push((op.dot, self.builder.push_op(bytes, proof)));
            }
        }
        if seen != group.count {
            return Err(Obstacle::Log(Corruption::Record { position }.into()));
        }
        Ok(group.end)
    }

    fn unknown(&mut self, error: &LookupError) -> Obstacle {
        Obstacle::Store(self.poison("read of the index", error))
    }

    /// Writes what is remembered and the whole clock.
    fn write_base(&mut self) -> Result<(), Obstacle> {
        self.builder.clear();
        let facts = self.state.memory.restated();
        for fact in &facts {
            let (kind, content) = fact.encode();
            self.builder.push(kind, &[&content]);
        }
        for piece in encode_clock(&self.state.clock) {
            self.builder.push(RecordKind::Clock, &[&piece]);
        }
        let start = self.append_copies()?;
        self.compaction.base_bytes = self.builder.len_bytes();
        let (mut batch, mut state) = (Batch::new(), self.state.clone());
        for fact in facts {
            state.memory.learn(fact, &mut batch);
        }
        debug_assert_eq!(state, self.state, "a base says what is known");
        self.index_batch(start, batch, state).map_err(Obstacle::Store)
    }

    /// Writes and syncs what was copied, within the room that is not kept for the index.
    fn append_copies(&mut self) -> Result<u64, Obstacle> {
        if !self.log.has_room() {
            return Err(Obstacle::Full);
        }
        let start = self.append_where_there_is_room().map_err(Obstacle::Store)?.ok_or(Obstacle::Full)?;
        self.shared.metrics.compaction_bytes.add(self.builder.len_bytes());
        Ok(start)
    }

    /// Writes down that the log begins with its second segment, and removes the first.
    fn remove_first(&mut self) -> Result<(), Obstacle> {
        let mut format = self.format;
        format.first_segment = self.log.first() + 1;
        match format.write(self.log.disk()) {
            Ok(()) => self.format = format,
            Err(DiskError::Full { .. }) => return Err(Obstacle::Full),
            Err(error) => {
                return Err(Obstacle::Store(self.poison("note of where the log begins", &error)));
            }
        }
        if let Err(error) = self.log.remove_first() {
            return Err(Obstacle::Store(self.poison("removal of a segment", &error)));
        }
        let metrics = &self.shared.metrics;
        metrics.segments_removed.add(1);
        metrics.segments.set(self.shared.log.segment_count() as u64);
        Ok(())
    }
}

/// Segments of one round, about: nothing of it goes before all of it is copied.
const ROUND_SEGMENTS_MAX: u64 = 8;
/// What a step looks through where nobody waits: so little that whoever comes meanwhile does not notice.
pub const COMPACTION_BYTES_MIN: u64 = 128 * 1024;
