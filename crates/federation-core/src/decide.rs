//! What one group of requests does to a replica: decided here, executed by the store, which decides nothing.

use std::collections::BTreeMap;

use crate::apply::{Applied, apply, drop_dead};
use crate::context::context;
use crate::dot::{Dot, Origin};
use crate::dot_set::DotSet;
use crate::embedding::{EmbeddingSpace, SpaceMatch, space_match};
use crate::hlc::Hlc;
use crate::id::{AgentId, Kind, Namespace, OpHash, RecordId, RecordKey};
use crate::limits::{CONTEXT_RANGES_MAX, OP_BYTES_MAX, SIBLINGS_MAX};
use crate::node_clock::NodeClock;
use crate::op::{Body, EncodedOp, Op, SealedOp};
use crate::port::sealer::Sealer;
use crate::record::{Record, Version};
use crate::scope::Scope;
use crate::time::WallMs;
use crate::vector_clock::VectorClock;

/// The state of a replica as [`decide`] reads it: one consistent instant, which only the writer changes.
pub trait ReplicaView {
    /// Why the state could not be read.
    type Error;

    /// What the node has.
    fn clock(&self) -> &NodeClock;
    /// The origin of this node's own ops, once its epoch is settled.
    fn own_origin(&self) -> Option<&Origin>;
    /// The newest HLC made here since the start.
    fn last_hlc(&self) -> Option<Hlc>;
    /// The space whose vectors this node indexes, if it indexes any.
    fn own_space(&self) -> Option<&EmbeddingSpace> {
        None
    }
    /// The live versions of a record; an empty record if there are none.
    fn record(&self, key: &RecordKey) -> Result<Record, Self::Error>;
    /// The hash of the op that is live under `dot`, on whichever record.
    fn held(&self, dot: &Dot) -> Result<Option<OpHash>, Self::Error>;
    /// The keys with live versions of this kind and id, in any namespace.
    fn keys_of(&self, kind: &Kind, id: &RecordId) -> Result<Vec<RecordKey>, Self::Error>;
}

/// One change asked of a replica.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Own ops carry this origin from here on.
    OpenEpoch(Origin),
    /// A client's write.
    Write(Mutation),
    /// An op from elsewhere, verified and validated.
    Admit(Received),
    /// A peer's completion: the clock may claim these dots. The caller has checked boots, pages and refusals.
    Complete(NodeClock),
    /// The end of a re-bootstrap: these live versions of a record are dead at a peer.
    DropDead {
        /// The record.
        key: RecordKey,
        /// Its dead versions.
        dots: Vec<Dot>,
    },
}

/// A client's write, before it has a dot.
#[derive(Clone, Debug, PartialEq)]
pub struct Mutation {
    /// The record.
    pub key: RecordKey,
    /// Who writes.
    pub author: AgentId,
    /// What it is to say.
    pub body: Body,
    /// What must hold at the instant of the write.
    pub condition: Condition,
    /// The join of context and dot of all versions the client had read, if it says so.
    pub token: Option<VectorClock>,
}

/// What must hold for a write to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    None,
    /// No record of this kind and id is visible, in any namespace.
    Absent,
    /// No record of this kind and id is visible in any namespace of this scope: for a writer who may not learn
    /// what stands outside of it.
    AbsentIn(Scope),
    /// The record is visible.
    Present,
    /// This version is the visible one.
    Visible(Dot),
    /// This version is live, visible or not: nobody has replaced what the writer had read.
    Live(Dot),
}

/// An op from elsewhere: decoded, and as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// The op, decoded from the sealed bytes.
    pub op: Op,
    /// What is stored and passed on.
    pub sealed: SealedOp,
}

/// What a change came to. One for each change of the group, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Done, and nothing to say.
    Done,
    /// The write became the op at this place in [`GroupPlan::ops`].
    Written {
        /// Index into [`GroupPlan::ops`].
        op: usize,
    },
    /// The write was refused; nothing of it is stored.
    Refused(WriteRefusal),
    /// The op from elsewhere was handled.
    Admitted(Admission),
}

/// Why a write was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteRefusal {
    /// [`Condition::Absent`] or [`Condition::AbsentIn`], and there is one.
    #[error("a record of this id exists: {key}")]
    Exists {
        /// The record that exists.
        key: RecordKey,
    },
    /// [`Condition::Present`], and there is none.
    #[error("there is no such record")]
    Missing,
    /// [`Condition::Present`], and it was deleted.
    #[error("the record was deleted")]
    Deleted,
    /// [`Condition::Visible`], and another version is; or [`Condition::Live`], and it is not.
    #[error("the record has changed meanwhile")]
    Changed,
    /// The record has too many concurrent versions that the writer had not seen.
    #[error("the write would leave {count} live versions, the limit is {limit}")]
    TooManySiblings {
        /// Live versions the write would leave.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// The encoded op is too large.
    #[error("the op takes {bytes} bytes, the limit is {limit_bytes}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// The op would name more than it can carry: the versions or the token that it covers are too scattered.
    #[error("the op's causal context takes {ranges} ranges, the limit is {limit}")]
    ContextTooLarge {
        /// Ranges it takes.
        ranges: usize,
        /// The limit.
        limit: usize,
    },
    /// The node's epoch is not settled, or has no number left: no own op may be made until one begins.
    #[error("the node's epoch is not settled, or has no number left")]
    NoEpoch,
}

/// What became of an op from elsewhere. The first three count as durable here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is live here now.
    Applied {
        /// Beside others.
        concurrent: bool,
    },
    /// It was here before.
    Duplicate {
        /// Hash of the op that is live here under the dot, where it is still live.
        held: Option<OpHash>,
    },
    /// A version that is live here had seen it.
    Superseded,
    /// Its HLC is too far ahead of this node's clock: refused for now.
    ClockAhead,
    /// Another op is live under its dot: refused for good.
    Equivocation {
        /// Hash of the op that is held.
        held: OpHash,
    },
}

/// What the store is to do, in one sync and one atomic batch, and what to answer after.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupPlan {
    /// The ops to append, in order.
    pub ops: Vec<PlannedOp>,
    /// Dots that enter the clock without an op: superseded ones and completions.
    pub clock_only: DotSet,
    /// The clock after the group.
    pub clock: NodeClock,
    /// The records that changed, as they are after the group.
    pub records: BTreeMap<RecordKey, Record>,
    /// Ops that are live after the group and were not before, by their place in `ops`.
    pub added: BTreeMap<Dot, usize>,
    /// Ops that were live before the group, or made in it, and are not after.
    pub removed: BTreeMap<Dot, RecordKey>,
    /// Versions removed by [`Change::DropDead`], which no op in the log explains.
    pub dropped: Vec<(RecordKey, Vec<Dot>)>,
    /// The epoch that the group opens.
    pub opened: Option<Origin>,
    /// The newest HLC made here.
    pub last_hlc: Option<Hlc>,
    /// What became of the vectors of the ops that came to live in the group.
    pub vectors: VectorCounts,
    /// One for each change.
    pub decisions: Vec<Decision>,
}

/// What became of vectors, by [`space_match`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VectorCounts {
    /// Of the node's own space.
    pub indexed: u64,
    /// Of another one: kept with their records, in no index.
    pub other_space: u64,
}

/// An op to append.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedOp {
    /// The op.
    pub op: Op,
    /// Its bytes.
    pub source: OpSource,
}

/// Where an op's bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpSource {
    /// Made here, still to be sealed: one signature for the group.
    Own(EncodedOp),
    /// From elsewhere, as it came.
    Received(SealedOp),
}

impl PlannedOp {
    /// Hash of the op's bytes.
    pub fn hash(&self) -> OpHash {
        match &self.source {
            OpSource::Own(encoded) => encoded.hash,
            OpSource::Received(sealed) => sealed.op.hash,
        }
    }
}

/// Decides a group: each change sees the ones before it. Pure given the view, the time and the sealer's encoding.
pub fn decide<V: ReplicaView>(
    view: &V,
    sealer: &dyn Sealer,
    now: WallMs,
    group: Vec<Change>,
) -> Result<GroupPlan, V::Error> {
    let mut group_state = Group {
        view,
        sealer,
        now,
        own_origin: view.own_origin().cloned(),
        touched: BTreeMap::new(),
        plan: GroupPlan { clock: view.clock().clone(), last_hlc: view.last_hlc(), ..GroupPlan::default() },
    };
    for change in group {
        let decision = group_state.change(change)?;
        group_state.plan.decisions.push(decision);
    }
    Ok(group_state.finish())
}

/// The group under decision: the view, and what the changes so far have made of it.
struct Group<'a, V: ReplicaView> {
    view: &'a V,
    sealer: &'a dyn Sealer,
    now: WallMs,
    own_origin: Option<Origin>,
    /// Each record that was looked at, as it is now, and whether it differs from the view's.
    touched: BTreeMap<RecordKey, (Record, bool)>,
    plan: GroupPlan,
}

impl<V: ReplicaView> Group<'_, V> {
    fn change(&mut self, change: Change) -> Result<Decision, V::Error> {
        match change {
            Change::OpenEpoch(origin) => {
                self.own_origin = Some(origin.clone());
                self.plan.opened = Some(origin);
                Ok(Decision::Done)
            }
            Change::Write(mutation) => Ok(match self.write(mutation)? {
                Ok(op) => Decision::Written { op },
                Err(refusal) => Decision::Refused(refusal),
            }),
            Change::Admit(received) => Ok(Decision::Admitted(self.admit(received)?)),
            Change::Complete(claimed) => {
                self.plan.clock_only.join(&claimed.minus(&self.plan.clock));
                self.plan.clock.join(&claimed);
                Ok(Decision::Done)
            }
            Change::DropDead { key, dots } => {
                self.load(&key)?;
                if let Some((record, changed)) = self.touched.get_mut(&key) {
                    let removed = drop_dead(record, |dot| dots.contains(dot));
                    *changed |= !removed.is_empty();
                    if !removed.is_empty() {
                        note_removed(&mut self.plan, &key, &removed);
                        self.plan.dropped.push((key, removed));
                    }
                }
                Ok(Decision::Done)
            }
        }
    }

    fn write(&mut self, mutation: Mutation) -> Result<Result<usize, WriteRefusal>, V::Error> {
        let Some(origin) = self.own_origin.clone() else {
            return Ok(Err(WriteRefusal::NoEpoch));
        };
        let record = self.load(&mutation.key)?.clone();
        if let Some(refusal) = self.unmet(&mutation, &record)? {
            return Ok(Err(refusal));
        }
        let context = context(&record, &self.plan.clock, mutation.token.as_ref());
        // Every decoder refuses more, this node's own after a restart among them.
        let ranges = context.range_count();
        if ranges > CONTEXT_RANGES_MAX {
            return Ok(Err(WriteRefusal::ContextTooLarge { ranges, limit: CONTEXT_RANGES_MAX }));
        }
        let (covered, kept): (Vec<_>, Vec<_>) =
            record.versions().iter().partition(|v| context.contains(&v.dot));
        if kept.len() >= SIBLINGS_MAX {
            return Ok(Err(WriteRefusal::TooManySiblings { count: kept.len() + 1, limit: SIBLINGS_MAX }));
        }
        let greatest_covered = covered.iter().map(|v| v.hlc).max();
        let hlc = Hlc::advance(self.now, self.plan.last_hlc, greatest_covered);
        let Some(seq) = fresh_seq(&origin, &self.plan.clock, &record, &context) else {
            return Ok(Err(WriteRefusal::NoEpoch));
        };
        let op = Op {
            dot: Dot { origin, seq },
            hlc,
            key: mutation.key,
            author: mutation.author,
            context,
            body: mutation.body,
        };
        let encoded = self.sealer.encode(&op);
        if encoded.bytes.len() > OP_BYTES_MAX {
            return Ok(Err(WriteRefusal::TooLarge { bytes: encoded.bytes.len(), limit_bytes: OP_BYTES_MAX }));
        }
        let version = Version::of(&op, encoded.hash);
        let index = self.plan.ops.len();
        let applied = self.apply_loaded(&op, None, version, index);
        assert!(
            matches!(applied, Applied::Live { .. }),
            "an own op has a fresh dot and a context that nothing live covers, but came out {applied:?}"
        );
        self.plan.last_hlc = Some(hlc);
        self.plan.ops.push(PlannedOp { op, source: OpSource::Own(encoded) });
        Ok(Ok(index))
    }

    fn unmet(&mut self, mutation: &Mutation, record: &Record) -> Result<Option<WriteRefusal>, V::Error> {
        Ok(match &mutation.condition {
            Condition::None => None,
            Condition::Live(dot) => record.version(dot).is_none().then_some(WriteRefusal::Changed),
            Condition::Absent => {
                self.visible_key(&mutation.key, |_| true)?.map(|key| WriteRefusal::Exists { key })
            }
            Condition::AbsentIn(scope) => self
                .visible_key(&mutation.key, |namespace| scope.contains(namespace))?
                .map(|key| WriteRefusal::Exists { key }),
            Condition::Present if record.visible().is_some() => None,
            Condition::Present | Condition::Visible(_) if record.is_empty() => Some(WriteRefusal::Missing),
            Condition::Present | Condition::Visible(_) if record.is_deleted() => Some(WriteRefusal::Deleted),
            Condition::Present => Some(WriteRefusal::Missing),
            Condition::Visible(dot) => {
                record.visible().is_none_or(|v| v.dot != *dot).then_some(WriteRefusal::Changed)
            }
        })
    }

    /// The first key of this kind and id, in any namespace that `counts`, with a visible version.
    fn visible_key(
        &mut self,
        key: &RecordKey,
        counts: impl Fn(&Namespace) -> bool,
    ) -> Result<Option<RecordKey>, V::Error> {
        let mut keys = self.view.keys_of(&key.kind, &key.id)?;
        keys.extend(self.touched.keys().filter(|k| k.kind == key.kind && k.id == key.id).cloned());
        for candidate in keys.into_iter().filter(|candidate| counts(&candidate.namespace)) {
            if self.load(&candidate)?.visible().is_some() {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }

    fn admit(&mut self, received: Received) -> Result<Admission, V::Error> {
        let Received { op, sealed } = received;
        let held = self.held(&op.dot)?;
        match held {
            Some(held) if held == sealed.op.hash => return Ok(Admission::Duplicate { held: Some(held) }),
            Some(held) => return Ok(Admission::Equivocation { held }),
            None if self.plan.clock.contains(&op.dot) => return Ok(Admission::Duplicate { held: None }),
            None => {}
        }
        if op.hlc.is_ahead_of(self.now) {
            return Ok(Admission::ClockAhead);
        }
        self.load(&op.key)?;
        let version = Version::of(&op, sealed.op.hash);
        let index = self.plan.ops.len();
        Ok(match self.apply_loaded(&op, held, version, index) {
            Applied::Live { concurrent, .. } => {
                self.plan.ops.push(PlannedOp { op, source: OpSource::Received(sealed) });
                Admission::Applied { concurrent }
            }
            Applied::Superseded => {
                self.plan.clock_only.insert(&op.dot);
                Admission::Superseded
            }
            Applied::Duplicate => Admission::Duplicate { held },
        })
    }

    /// Applies the version of `op` to its record, which was loaded before; `index` is where the op will stand.
    fn apply_loaded(&mut self, op: &Op, held: Option<OpHash>, version: Version, index: usize) -> Applied {
        let (key, dot) = (&op.key, version.dot.clone());
        let (record, changed) = self.touched.entry(key.clone()).or_default();
        match apply(record, &mut self.plan.clock, held, version) {
            Ok(applied) => {
                if let Applied::Live { removed, .. } = &applied {
                    *changed = true;
                    self.plan.added.insert(dot, index);
                    note_removed(&mut self.plan, key, removed);
                    note_vector(&mut self.plan, self.view.own_space(), &op.body);
                }
                applied
            }
            // The caller has looked `held` up and found no other op under the dot.
            Err(_) => Applied::Duplicate,
        }
    }

    fn held(&self, dot: &Dot) -> Result<Option<OpHash>, V::Error> {
        if let Some(op) = self.plan.added.get(dot).and_then(|i| self.plan.ops.get(*i)) {
            return Ok(Some(op.hash()));
        }
        if self.plan.removed.contains_key(dot) {
            return Ok(None);
        }
        self.view.held(dot)
    }

    fn load(&mut self, key: &RecordKey) -> Result<&Record, V::Error> {
        if !self.touched.contains_key(key) {
            let record = self.view.record(key)?;
            self.touched.insert(key.clone(), (record, false));
        }
        Ok(&self.touched.entry(key.clone()).or_default().0)
    }

    fn finish(self) -> GroupPlan {
        let mut plan = self.plan;
        plan.records = self
            .touched
            .into_iter()
            .filter_map(|(key, (record, changed))| changed.then_some((key, record)))
            .collect();
        plan
    }
}

/// The first number of `origin` that neither the clock nor anything on the record, nor the new op's context, names.
///
/// After the loss of a disk, or from one who lies, a context may name own dots that this node has not made: an op
/// under such a dot would be superseded before it began. None if no number is left.
fn fresh_seq(origin: &Origin, clock: &NodeClock, record: &Record, context: &VectorClock) -> Option<u64> {
    let named = record.versions().iter().map(|v| v.context.max_seq(origin)).max().unwrap_or(0);
    clock.max_seq(origin).max(named).max(context.max_seq(origin)).checked_add(1)
}

fn note_vector(plan: &mut GroupPlan, own: Option<&EmbeddingSpace>, body: &Body) {
    let Body::Put { embedding: Some(embedding), .. } = body else { return };
    match space_match(own, embedding) {
        SpaceMatch::Indexed => plan.vectors.indexed += 1,
        SpaceMatch::OtherSpace => plan.vectors.other_space += 1,
        SpaceMatch::NoIndex => {}
    }
}

fn note_removed(plan: &mut GroupPlan, key: &RecordKey, dots: &[Dot]) {
    for dot in dots {
        plan.added.remove(dot);
        plan.removed.insert(dot.clone(), key.clone());
    }
}
