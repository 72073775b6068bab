//! Looks through a whole directory that no node has open: every byte of the log, and the index against it.

use std::collections::BTreeMap;
use std::path::Path;

use federation_core::dot::Dot;
use federation_core::id::{NodeId, OpHash, RecordKey};
use federation_core::node_clock::NodeClock;
use federation_core::op::{EncodedOp, Op, SealedOp};
use federation_core::port::store::Facts;
use federation_wire::v1::op::{decode_op, op_hash};

use crate::disk::{Disk, RealDisk};
use crate::error::OpenError;
use crate::format::Format;
use crate::handle::INDEX_DIRECTORY;
use crate::index::{Index, IndexOpener, OrderedIndex, OrderedIndexes, SledIndexes};
use crate::log::{Corruption, Group, RecordKind, Scan, op_parts};
use crate::replay::{Replay, checkpoint_in};
use crate::schema::keys;
use crate::schema::values::{IndexMark, Stored};
use crate::state::{State, each};

/// What a directory holds, and what is wrong with it.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifyReport {
    /// The node that the directory belongs to; none if nothing was ever written.
    pub node: Option<NodeId>,
    /// What it remembers.
    pub facts: Facts,
    /// Whether its last boot ended in order: if not, the node was cut off, or still runs and this is an image.
    pub ended_in_order: bool,
    /// What it has.
    pub clock: NodeClock,
    /// Every op in the log, live or not.
    pub ops: BTreeMap<Dot, HeldOp>,
    /// Live versions.
    pub live_versions: u64,
    /// Visible records.
    pub visible_records: u64,
    /// Groups that were read.
    pub groups: u64,
    /// Where the log begins: later than zero once it was compacted.
    pub log_begin: u64,
    /// Where the log ends, or the first damage.
    pub log_end: u64,
    /// Bytes that a crash left behind the end: the next start cuts them.
    pub torn_bytes: u64,
    /// How the index compares.
    pub index: IndexVerdict,
    /// What is wrong, in the order of the log.
    pub faults: Vec<VerifyFault>,
}

impl VerifyReport {
    /// Whether nothing is wrong. A torn tail is not, nor is an index that is only behind or missing.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty() && !matches!(self.index, IndexVerdict::Differs { .. })
    }
}

/// An op in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldOp {
    /// Its record.
    pub key: RecordKey,
    /// Hash of its bytes, computed from them.
    pub hash: OpHash,
    /// Whether it is live.
    pub is_live: bool,
}

/// How an index compares with the log that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexVerdict {
    /// It says what the log says up to this position; the rest would be replayed.
    Agrees {
        /// Up to where it goes.
        to: u64,
    },
    /// It says something else.
    Differs {
        /// Keys that are missing, too many, or have another value.
        keys: u64,
    },
    /// There is none, it cannot be opened, it is of another directory, or it has lost what it had made durable: it would
    /// be made again.
    Unusable,
}

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyFault {
    /// The log is damaged; what stands behind the damage was not looked at.
    #[error(transparent)]
    Corrupt(Corruption),
    /// An op's proof does not hold.
    #[error("the proof of op {dot} at log position {position} does not hold")]
    Proof {
        /// The op.
        dot: Dot,
        /// Where it stands.
        position: u64,
    },
}

/// Whether an op's proof holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofVerdict {
    /// It does, or nobody asks.
    Holds,
    /// It does not.
    Fails,
}

/// Verifies a data directory on the file system. Locks it: no node may have it open.
///
/// The log is only read, so it tells what the next start will find, which need not be durable before that start. sled
/// writes to its own files when it is opened, also for this.
///
/// `proof` is asked about each op.
///
/// # Errors
/// See [`OpenError`]; damage is in the report, not an error.
pub fn verify_offline(
    directory: &Path,
    proof: &mut dyn FnMut(&Op, &SealedOp) -> ProofVerdict,
) -> Result<VerifyReport, OpenError> {
    let disk = RealDisk::open_existing(directory)?;
    let index = directory.join(INDEX_DIRECTORY);
    // To look must not make an index where there is none.
    let indexes = index.is_dir().then(|| SledIndexes::new(index));
    verify(disk, indexes.as_ref(), proof)
}

/// Verifies the directory on `disk`, and the index that `opener` opens.
///
/// # Errors
/// As [`verify_offline`].
pub fn verify<D: Disk, O: IndexOpener>(
    disk: D,
    opener: Option<&O>,
    proof: &mut dyn FnMut(&Op, &SealedOp) -> ProofVerdict,
) -> Result<VerifyReport, OpenError> {
    let (salt, first) = Format::read(&disk)?.map_or((0, 1), |format| (format.salt, format.first_segment));
    let index = opener.and_then(|opener| opener.open().ok());
    let mark = index.as_ref().and_then(|index| index.read(&keys::mark()).ok().flatten());
    let mark = mark.and_then(|bytes| IndexMark::decode(&bytes).ok()).filter(|mark| mark.salt == salt);
    let fresh = OrderedIndexes::new().create()?;
    let mut walk = Walk {
        replay: Replay::new(&fresh, State::default(), salt),
        fresh: &fresh,
        found: index.as_ref().zip(mark),
        proof,
        ops: BTreeMap::new(),
        faults: Vec::new(),
        verdict: IndexVerdict::Unusable,
        groups: 0,
        checkpointed_to: None,
        begin: 0,
        end: 0,
    };
    let mut torn_bytes = 0;
    match Scan::open(disk, salt, first).map_err(OpenError::from).and_then(|scan| {
        walk.begin = scan.begin();
        scan.groups(scan.begin(), |group| walk.group(group))
    }) {
        Ok(recovered) => {
            torn_bytes = recovered.torn_bytes;
            if let Some((_, mark)) = walk.found.filter(|(_, mark)| mark.end > recovered.end) {
                let lost = Corruption::BehindIndex { log: recovered.end, index: mark.end };
                walk.faults.push(VerifyFault::Corrupt(lost));
            }
        }
        Err(OpenError::Corrupt(corruption)) => walk.faults.push(VerifyFault::Corrupt(corruption)),
        Err(error) => return Err(error),
    }
    walk.report(torn_bytes)
}

/// The log on the way through it.
struct Walk<'a, I> {
    replay: Replay<'a, OrderedIndex>,
    fresh: &'a OrderedIndex,
    found: Option<(&'a I, IndexMark)>,
    proof: &'a mut dyn FnMut(&Op, &SealedOp) -> ProofVerdict,
    ops: BTreeMap<Dot, HeldOp>,
    faults: Vec<VerifyFault>,
    verdict: IndexVerdict,
    groups: u64,
    /// Up to where the log knows of a durable index.
    checkpointed_to: Option<u64>,
    begin: u64,
    end: u64,
}

impl<I: Index> Walk<'_, I> {
    fn group(&mut self, group: &Group) -> Result<(), OpenError> {
        for record in group.records().filter(|record| record.kind == Some(RecordKind::Op)) {
            let unreadable = Corruption::Record { position: record.place.position };
            let (bytes, proof) = op_parts(record.content).ok_or(unreadable)?;
            let op = decode_op(bytes).map_err(|_| unreadable)?;
            let hash = op_hash(bytes);
            let sealed = SealedOp { op: EncodedOp { bytes: bytes.into(), hash }, proof: proof.into() };
            if (self.proof)(&op, &sealed) == ProofVerdict::Fails {
                let position = record.place.position;
                self.faults.push(VerifyFault::Proof { dot: op.dot.clone(), position });
            }
            self.ops.insert(op.dot, HeldOp { key: op.key, hash, is_live: false });
        }
        self.checkpointed_to = self.checkpointed_to.max(checkpoint_in(group)?);
        self.replay.group(group)?;
        self.groups += 1;
        self.end = group.end;
        if let Some((index, mark)) = self.found.filter(|(_, mark)| mark.end == group.end) {
            self.replay.flush()?;
            let keys = differing(index, self.fresh)?;
            self.verdict = if keys == 0 {
                IndexVerdict::Agrees { to: mark.end }
            } else {
                IndexVerdict::Differs { keys }
            };
        }
        Ok(())
    }

    fn report(self, torn_bytes: u64) -> Result<VerifyReport, OpenError> {
        // Of an index that is older than the log's checkpoint nothing is used, and what it says may be of a part of the
        // log that is gone.
        let is_older = self.found.is_some_and(|(_, mark)| Some(mark.end) < self.checkpointed_to);
        let index = if is_older { IndexVerdict::Unusable } else { self.verdict };
        let (state, _) = self.replay.finish()?;
        let mut ops = self.ops;
        each(self.fresh, &[keys::RECORD], |_, value| {
            for (version, _) in Stored::decode(value)?.versions() {
                if let Some(op) = ops.get_mut(&version.dot) {
                    op.is_live = true;
                }
            }
            Ok(())
        })?;
        Ok(VerifyReport {
            node: state.memory.node,
            facts: (*state.memory.facts).clone(),
            ended_in_order: state.memory.is_closed,
            clock: state.clock,
            ops,
            live_versions: state.counts.versions,
            visible_records: state.counts.records,
            groups: self.groups,
            log_begin: self.begin,
            log_end: self.end,
            torn_bytes,
            index,
            faults: self.faults,
        })
    }
}

/// Keys in which two indexes differ, but for ghosts: those are of sessions that are over.
fn differing<A: Index, B: Index>(found: &A, fresh: &B) -> Result<u64, OpenError> {
    let mut count = 0;
    for table in [keys::LIVE, keys::RECORD, keys::BY_ID, keys::CLOCK, keys::FACT] {
        let mut from = vec![table];
        loop {
            let (a, b) =
                (found.scan(&from, &[table + 1], ENTRIES)?, fresh.scan(&from, &[table + 1], ENTRIES)?);
            // Both are compared up to where the shorter reach ends, so that neither is cut off.
            let ends = [&a, &b].map(|entries| entries.last().filter(|_| entries.len() == ENTRIES));
            let to = ends.into_iter().flatten().map(|(key, _)| key.clone()).min();
            let within = |entries: Vec<(Vec<u8>, Vec<u8>)>| -> BTreeMap<Vec<u8>, Vec<u8>> {
                entries.into_iter().filter(|(key, _)| to.as_ref().is_none_or(|to| key <= to)).collect()
            };
            let (a, b) = (within(a), within(b));
            count += a.iter().filter(|(key, value)| b.get(*key) != Some(*value)).count() as u64;
            count += b.keys().filter(|key| !a.contains_key(*key)).count() as u64;
            match to {
                Some(to) => from = keys::after(&to),
                None => break,
            }
        }
    }
    Ok(count)
}

const ENTRIES: usize = 512;
