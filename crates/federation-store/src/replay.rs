//! Brings an index up to the end of the log: the groups behind its mark, or all of them.

use federation_core::apply::{Applied, drop_dead, repair};
use federation_core::dot::Dot;
use federation_core::dot_set::DotSet;
use federation_core::id::RecordKey;
use federation_core::limits::{GROUP_BYTES_MAX, GROUP_OPS_MAX};
use federation_core::node_clock::NodeClock;
use federation_core::op::Op;
use federation_core::record::Version;
use federation_wire::v1::op::{decode_op, op_hash};

use crate::index::{Batch, Index};
use crate::log::{Corruption, Group, Place, Record, RecordKind, op_parts};
use crate::schema::facts::LogFact;
use crate::schema::values::{IndexMark, Stored, decode_checkpoint, decode_clock, decode_drop};
use crate::state::{Ghosts, LookupError, State, Transition, live_clock, remove_clock, stored, write_clock};

/// Applies groups of the log to an index.
///
/// Ops go through core's `repair`, which does not ask the clock: a log may hold an op behind a record that already
/// says that its dot is in the clock, and once more where compaction has copied it. An op that was live when it was written and is covered by a later one is
/// replaced by that one here as it was then.
pub(crate) struct Replay<'a, I: Index> {
    index: &'a I,
    state: State,
    salt: u64,
    clock_before: NodeClock,
    transition: Transition,
    gained: DotSet,
    facts: Batch,
    mark: Option<(u64, u64)>,
    pending_ops: usize,
    pending_bytes: u64,
    ops: u64,
}

/// Why the log could not be replayed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    #[error(transparent)]
    Lookup(#[from] LookupError),
}

impl<'a, I: Index> Replay<'a, I> {
    /// On top of what the index holds.
    pub(crate) fn new(index: &'a I, state: State, salt: u64) -> Self {
        Self {
            index,
            clock_before: state.clock.clone(),
            state,
            salt,
            transition: Transition::default(),
            gained: DotSet::new(),
            facts: Batch::new(),
            mark: None,
            pending_ops: 0,
            pending_bytes: 0,
            ops: 0,
        }
    }

    /// Applies one group; its effects reach the index with this or a later one, always whole.
    pub(crate) fn group(&mut self, group: &Group) -> Result<(), ReplayError> {
        let mut seen = 0;
        if group.records().any(|record| record.kind == Some(RecordKind::ReplicaScope)) {
            // What is live is looked up in the index.
            self.flush()?;
        }
        for record in group.records() {
            self.record(record)?;
            seen += 1;
        }
        if seen != group.count {
            return Err(Corruption::Record { position: group.start }.into());
        }
        self.mark = Some((group.start, group.end));
        self.pending_bytes += group.end - group.start;
        if self.pending_ops >= GROUP_OPS_MAX || self.pending_bytes >= GROUP_BYTES_MAX as u64 {
            self.flush()?;
        }
        Ok(())
    }

    /// The state after the last group, all of which is in the index now; and how many ops were applied.
    pub(crate) fn finish(mut self) -> Result<(State, u64), ReplayError> {
        self.flush()?;
        Ok((self.state, self.ops))
    }

    fn record(&mut self, record: Record<'_>) -> Result<(), ReplayError> {
        let unreadable = Corruption::Record { position: record.place.position };
        let kind = record.kind.ok_or(unreadable)?;
        if matches!(kind, RecordKind::Op | RecordKind::Clock | RecordKind::Drop) {
            self.state.memory.goes_on(&mut self.facts);
        }
        match kind {
            RecordKind::Op => {
                let (bytes, _) = op_parts(record.content).ok_or(unreadable)?;
                let op = decode_op(bytes).map_err(|_| unreadable)?;
                self.op(&op, Version::of(&op, op_hash(bytes)), record.place)
            }
            RecordKind::Clock => {
                let dots = decode_clock(record.content).map_err(|_| unreadable)?;
                self.gained.join(&dots);
                self.state.clock.join(&dots);
                Ok(())
            }
            RecordKind::Drop => {
                let (key, dots) = decode_drop(record.content).map_err(|_| unreadable)?;
                self.drop_versions(&key, &dots)
            }
            RecordKind::Checkpoint => Ok(()),
            kind => {
                let fact = LogFact::decode(kind, record.content).ok_or(unreadable)?;
                let fact = fact.map_err(|_| unreadable)?;
                match &fact {
                    LogFact::ReplicaScope(scope) if self.state.memory.is_widened_by(scope) => {
                        self.know_only(live_clock(self.index)?);
                    }
                    // Its clock stands behind it.
                    LogFact::Base(_) => self.know_only(NodeClock::new()),
                    _ => {}
                }
                self.state.memory.learn(fact, &mut self.facts);
                Ok(())
            }
        }
    }

    /// Goes on with this clock: a scope that was widened leaves what is live, a base what it says. No op stands before
    /// either in its group.
    fn know_only(&mut self, clock: NodeClock) {
        remove_clock(&mut self.facts, &self.clock_before);
        self.clock_before = NodeClock::new();
        self.gained = clock.clone().into_dots();
        self.state.clock = clock;
    }

    fn op(&mut self, op: &Op, version: Version, place: Place) -> Result<(), ReplayError> {
        let before = self.load(&op.key)?;
        let mut record = before.record();
        self.gained.insert(&op.dot);
        let hash = version.hash;
        match repair(&mut record, &mut self.state.clock, version) {
            Applied::Live { removed, .. } => {
                let place_of = |dot: &Dot| {
                    if *dot == op.dot { Some(place) } else { before.version(dot).map(|(_, place)| *place) }
                };
                let after = Stored::new(&record, place_of)
                    .map_err(|_| Corruption::Record { position: place.position })?;
                self.transition.after.insert(op.key.clone(), after);
                self.state.memory.forget_letters(removed.iter(), &mut self.facts);
            }
            // A copy that compaction has made.
            Applied::Duplicate if before.version(&op.dot).is_some_and(|(held, _)| held.hash == hash) => {
                self.transition.after.insert(op.key.clone(), before.moved(&op.dot, place));
            }
            Applied::Duplicate | Applied::Superseded => {}
        }
        self.pending_ops += 1;
        self.ops += 1;
        Ok(())
    }

    fn drop_versions(&mut self, key: &RecordKey, dots: &[Dot]) -> Result<(), ReplayError> {
        let before = self.load(key)?;
        let mut record = before.record();
        let removed = drop_dead(&mut record, |dot| dots.contains(dot));
        if let Ok(after) = Stored::new(&record, |dot| before.version(dot).map(|(_, place)| *place)) {
            self.transition.after.insert(key.clone(), after);
        }
        self.state.memory.forget_letters(removed.iter(), &mut self.facts);
        Ok(())
    }

    fn load(&mut self, key: &RecordKey) -> Result<Stored, ReplayError> {
        if let Some(pending) = self.transition.after.get(key) {
            return Ok(pending.clone());
        }
        let before = stored(self.index, key)?;
        self.transition.before.insert(key.clone(), before.clone());
        Ok(before)
    }

    /// Brings what was applied so far into the index.
    pub(crate) fn flush(&mut self) -> Result<(), ReplayError> {
        let Some((last_start, end)) = self.mark.take() else { return Ok(()) };
        let mut batch = std::mem::take(&mut self.facts);
        let transition = std::mem::take(&mut self.transition);
        transition.write(&mut batch, &mut self.state.counts, Ghosts::NotNeeded);
        write_clock(&mut batch, &self.clock_before, &self.state.clock, &self.gained);
        let mark = IndexMark { salt: self.salt, last_start, end, counts: self.state.counts };
        batch.put(crate::schema::keys::mark(), mark.encode());
        self.index.apply(batch).map_err(LookupError::Index)?;
        self.clock_before = self.state.clock.clone();
        self.gained = DotSet::new();
        (self.pending_ops, self.pending_bytes) = (0, 0);
        Ok(())
    }
}

/// The latest position that this group says the index was made durable up to.
pub(crate) fn checkpoint_in(group: &Group) -> Result<Option<u64>, Corruption> {
    let mut latest = None;
    for record in group.records().filter(|record| record.kind == Some(RecordKind::Checkpoint)) {
        let unreadable = Corruption::Record { position: record.place.position };
        latest = latest.max(Some(decode_checkpoint(record.content).map_err(|_| unreadable)?));
    }
    Ok(latest)
}

#[cfg(test)]
mod tests {
    use federation_core::dot::Origin;
    use federation_core::id::{BootId, NodeId};
    use federation_core::seq_ranges::SeqRange;

    use super::*;
    use crate::index::{IndexOpener, OrderedIndexes};
    use crate::log::GroupBuilder;
    use crate::schema::facts::Memory;
    use crate::schema::values::encode_clock;

    fn dots(last: u64) -> DotSet {
        let mut dots = DotSet::new();
        let origin = Origin { node: NodeId::new("n").unwrap(), epoch: BootId(1) };
        dots.insert_range(&origin, SeqRange { first: 1, last });
        dots
    }

    #[test]
    fn the_clock_is_that_of_the_base_whatever_stood_before_it() {
        let index = OrderedIndexes::new().open().unwrap();
        let mut replay = Replay::new(&index, State::default(), 7);
        let mut start = 0;
        for (is_base, last) in [(false, 9), (true, 3)] {
            let mut builder = GroupBuilder::new();
            for fact in Memory::default().restated().iter().filter(|_| is_base) {
                let (kind, content) = fact.encode();
                builder.push(kind, &[&content]);
            }
            for piece in encode_clock(&dots(last)) {
                builder.push(RecordKind::Clock, &[&piece]);
            }
            let group = Group::parse(builder.finish(7, start), 7).unwrap();
            start = group.end;
            replay.group(&group).unwrap();
            replay.flush().unwrap();
        }
        let (state, _) = replay.finish().unwrap();
        assert_eq!(*state.clock, dots(3));
        let mark = IndexMark { salt: 7, last_start: 0, end: start, counts: state.counts };
        assert_eq!(State::load(&index, mark).unwrap().clock, state.clock);
    }
}
