//! One replica in memory: a store that executes plans and keeps nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use federation_core::apply::drop_dead;
use federation_core::decide::{
    Admission, Change, Condition, Decision, GroupPlan, Mutation, OpSource, Received, ReplicaView,
    WriteRefusal, decide,
};
use federation_core::dot::{Dot, Origin};
use federation_core::dot_set::DotSet;
use federation_core::hlc::Hlc;
use federation_core::id::{
    AgentId, BootId, Kind, LogPosition, Namespace, NodeId, OpHash, RecordId, RecordKey, StoreId,
};
use federation_core::node_clock::NodeClock;
use federation_core::op::{Body, EncodedOp, Op, SealedOp};
use federation_core::port::sealer::Sealer;
use federation_core::port::store::{Boot, Facts};
use federation_core::record::Record;
use federation_core::scope::Scope;
use federation_core::time::WallMs;
use federation_core::vector_clock::VectorClock;

#[derive(Clone, Debug)]
pub(crate) struct Replica {
    pub(crate) node: NodeId,
    pub(crate) boot: BootId,
    pub(crate) now: WallMs,
    pub(crate) clock: NodeClock,
    pub(crate) records: BTreeMap<RecordKey, Record>,
    /// The ops that are live, as they came.
    pub(crate) ops: BTreeMap<Dot, Received>,
    /// The epoch that was settled in this boot.
    pub(crate) own_origin: Option<Origin>,
    pub(crate) last_hlc: Option<Hlc>,
    /// What is remembered durably: the store, the boots, the last epoch, the peers.
    pub(crate) facts: Facts,
    pub(crate) position: LogPosition,
    /// Whether the last that was written is that the boot ended in order.
    pub(crate) is_closed: bool,
    /// Peers that have said, in this boot, that they remember it; with the clock that each told.
    pub(crate) witnesses: BTreeMap<NodeId, NodeClock>,
    /// Ops that a peer refused for good, with their contexts.
    pub(crate) dead_letters: BTreeMap<NodeId, BTreeMap<Dot, VectorClock>>,
}

impl Replica {
    pub(crate) fn new(node: &str, boot: u64) -> Self {
        let node = NodeId::new(node).unwrap();
        let origin = Origin { node: node.clone(), epoch: BootId(boot) };
        let facts = Facts {
            store: Some(StoreId { created_ms: 0, random: boot }),
            boots: vec![Boot { id: BootId(boot), ended_at: None }],
            own_epoch: Some(BootId(boot)),
            ended_in_order: true,
            replica_scope: Scope::everything(),
            ..Facts::default()
        };
        Self {
            node,
            boot: BootId(boot),
            now: WallMs(1_000_000),
            clock: NodeClock::new(),
            records: BTreeMap::new(),
            ops: BTreeMap::new(),
            own_origin: Some(origin),
            last_hlc: None,
            facts,
            position: LogPosition(0),
            is_closed: false,
            witnesses: BTreeMap::new(),
            dead_letters: BTreeMap::new(),
        }
    }

    pub(crate) fn record(&self, key: &RecordKey) -> Record {
        self.records.get(key).cloned().unwrap_or_default()
    }

    pub(crate) fn live(&self, key: &RecordKey) -> BTreeSet<Dot> {
        self.record(key).versions().iter().map(|v| v.dot.clone()).collect()
    }

    pub(crate) fn write(
        &mut self,
        key: &RecordKey,
        body: Body,
        token: Option<VectorClock>,
    ) -> Result<Received, WriteRefusal> {
        self.mutate(mutation(key, body, Condition::None, token))
    }

    pub(crate) fn mutate(&mut self, mutation: Mutation) -> Result<Received, WriteRefusal> {
        let plan = self.commit(vec![Change::Write(mutation)]);
        match &plan.decisions[..] {
            [Decision::Written { op }] => Ok(sealed(&plan, *op)),
            [Decision::Refused(refusal)] => Err(refusal.clone()),
            other => panic!("a write came out as {other:?}"),
        }
    }

    pub(crate) fn admit(&mut self, op: Received) -> Admission {
        let plan = self.commit(vec![Change::Admit(op)]);
        match plan.decisions[..] {
            [Decision::Admitted(admission)] => admission,
            ref other => panic!("an op came out as {other:?}"),
        }
    }

    pub(crate) fn complete(&mut self, claimed: NodeClock) {
        self.commit(vec![Change::Complete(claimed)]);
    }

    /// The boot ends in order: the last that is written of it says so.
    pub(crate) fn close(&mut self) {
        self.position.0 += 1;
        self.is_closed = true;
    }

    /// Another boot begins on this disk, whose last boot was closed or cut off.
    pub(crate) fn begin_boot(&mut self, boot: BootId) {
        for last in self.facts.boots.iter_mut().filter(|last| last.ended_at.is_none()) {
            last.ended_at = Some(self.position);
        }
        self.facts.boots.push(Boot { id: boot, ended_at: None });
        self.facts.ended_in_order &= std::mem::take(&mut self.is_closed);
        self.position.0 += 1;
        self.boot = boot;
        self.last_hlc = None;
        self.own_origin = None;
        self.witnesses.clear();
    }

    /// A new life of the disk: what it has lost, others may name.
    pub(crate) fn begin_store(&mut self, store: StoreId) {
        self.facts.store = Some(store);
        self.facts.own_epoch = None;
        self.own_origin = None;
        self.position.0 += 1;
        self.witnesses.clear();
    }

    /// The disk is opened with another scope, as a store does it: own ops begin a new epoch, and a node that keeps more
    /// than it did knows only of what it has.
    pub(crate) fn keep(&mut self, scope: Scope) {
        if !self.facts.replica_scope.covers(&scope) {
            self.clock = NodeClock::from(self.ops.keys().cloned().collect::<DotSet>());
        }
        self.facts.replica_scope = scope;
        self.facts.own_epoch = None;
        self.own_origin = None;
    }

    /// What this replica would name as dead to one that re-bootstraps.
    pub(crate) fn is_dead(&self, key: &RecordKey, dot: &Dot) -> bool {
        let record = self.record(key);
        let is_kept = self.facts.replica_scope.contains(&key.namespace);
        is_kept && self.clock.contains(dot) && record.version(dot).is_none() && !record.covers(dot)
    }

    /// The end of a re-bootstrap: drops what `peer` names as dead.
    pub(crate) fn drop_what_is_dead_at(&mut self, peer: &Replica) {
        let mut changes = Vec::new();
        for (key, record) in &self.records {
            let mut rest = record.clone();
            let dots = drop_dead(&mut rest, |dot| peer.is_dead(key, dot));
            changes.push(Change::DropDead { key: key.clone(), dots });
        }
        self.commit(changes);
    }

    /// Decides a group, executes its plan as a store would, and checks that the plan says all of it.
    pub(crate) fn commit(&mut self, group: Vec<Change>) -> GroupPlan {
        assert!(!self.is_closed, "nothing is written behind an end in order");
        self.position.0 += 1;
        let count = group.len();
        let Ok(plan) = decide(&*self, &ToySealer, self.now, group);
        assert_eq!(plan.decisions.len(), count, "one decision for each change");
        let mut clock = self.clock.clone();
        clock.join(&plan.clock_only);
        for planned in &plan.ops {
            clock.insert(&planned.op.dot);
        }
        assert_eq!(plan.clock, clock, "ops and clock_only explain the clock");
        for dot in plan.removed.keys() {
            self.ops.remove(dot);
        }
        for (dot, index) in &plan.added {
            let op = sealed(&plan, *index);
            assert_eq!(op.op.dot, *dot);
            self.ops.insert(dot.clone(), op);
        }
        self.clock = plan.clock.clone();
        self.last_hlc = plan.last_hlc;
        if let Some(origin) = &plan.opened {
            self.own_origin = Some(origin.clone());
            if self.facts.own_epoch.replace(origin.epoch) != Some(origin.epoch) {
                self.facts.ended_in_order = true;
            }
        }
        for (key, record) in &plan.records {
            self.records.insert(key.clone(), record.clone());
        }
        self.records.retain(|_, record| !record.is_empty());
        self.check_index();
        plan
    }

    /// The index of live dots and the records say the same, and no live version covers another.
    fn check_index(&self) {
        let mut live = BTreeSet::new();
        for (key, record) in &self.records {
            for version in record.versions() {
                live.insert(version.dot.clone());
                let op = &self.ops.get(&version.dot).unwrap_or_else(|| panic!("no op for {}", version.dot));
                assert_eq!(&op.op.key, key);
                assert_eq!(op.sealed.op.hash, version.hash);
                assert!(self.clock.contains(&version.dot), "{} is live and not in the clock", version.dot);
                assert!(!record.covers(&version.dot), "{} is live and covered", version.dot);
            }
        }
        assert_eq!(
            live,
            self.ops.keys().cloned().collect(),
            "the plan's added and removed are the whole story"
        );
    }
}

impl ReplicaView for Replica {
    type Error = Infallible;

    fn clock(&self) -> &NodeClock {
        &self.clock
    }
    fn own_origin(&self) -> Option<&Origin> {
        self.own_origin.as_ref()
    }
    fn last_hlc(&self) -> Option<Hlc> {
        self.last_hlc
    }
    fn record(&self, key: &RecordKey) -> Result<Record, Infallible> {
        Ok(self.record(key))
    }
    fn held(&self, dot: &Dot) -> Result<Option<OpHash>, Infallible> {
        Ok(self.ops.get(dot).map(|op| op.sealed.op.hash))
    }
    fn keys_of(&self, kind: &Kind, id: &RecordId) -> Result<Vec<RecordKey>, Infallible> {
        Ok(self.records.keys().filter(|k| k.kind == *kind && k.id == *id).cloned().collect())
    }
}

/// Encodes an op as its debug text and hashes it badly, but the same everywhere.
pub(crate) struct ToySealer;

impl Sealer for ToySealer {
    fn encode(&self, op: &Op) -> EncodedOp {
        let text = format!("{op:?}");
        let mut hash = [0_u8; 32];
        for (i, byte) in text.bytes().enumerate() {
            let at = i % hash.len();
            hash[at] = hash[at].rotate_left(3) ^ byte.wrapping_mul(31);
        }
        EncodedOp { bytes: Arc::from(text.into_bytes()), hash: OpHash(hash) }
    }

    fn seal(&self, _: &Origin, hashes: &[OpHash]) -> Vec<Arc<[u8]>> {
        hashes.iter().map(|_| Arc::from([])).collect()
    }
}

fn sealed(plan: &GroupPlan, index: usize) -> Received {
    let planned = &plan.ops[index];
    let sealed = match &planned.source {
        OpSource::Own(encoded) => SealedOp { op: encoded.clone(), proof: Arc::from([]) },
        OpSource::Received(sealed) => sealed.clone(),
    };
    Received { op: planned.op.clone(), sealed }
}

/// An op as a peer would have made it, sealed.
pub(crate) fn seal(op: Op) -> Received {
    let sealed = SealedOp { op: ToySealer.encode(&op), proof: Arc::from([]) };
    Received { op, sealed }
}

pub(crate) fn key(id: &str) -> RecordKey {
    key_in("n", id)
}

pub(crate) fn key_in(namespace: &str, id: &str) -> RecordKey {
    RecordKey {
        namespace: Namespace::new(namespace).unwrap(),
        kind: Kind::memory(),
        id: RecordId::new(id).unwrap(),
    }
}

pub(crate) fn put(text: &str) -> Body {
    Body::Put { payload: Arc::from(text.as_bytes()), embedding: None, archived: false }
}

pub(crate) fn mutation(
    key: &RecordKey,
    body: Body,
    condition: Condition,
    token: Option<VectorClock>,
) -> Mutation {
    Mutation { key: key.clone(), author: AgentId::new("agent").unwrap(), body, condition, token }
}
