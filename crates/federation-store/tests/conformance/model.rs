//! A replica in a few maps: what the engine is held against, and the other nodes of a history.

use std::collections::BTreeMap;
use std::convert::Infallible;

use federation_core::decide::{Change, GroupPlan, OpSource, Received, ReplicaView, decide};
use federation_core::dot::{Dot, Origin};
use federation_core::dot_set::DotSet;
use federation_core::hlc::Hlc;
use federation_core::id::{BootId, Kind, OpHash, RecordId, RecordKey};
use federation_core::node_clock::NodeClock;
use federation_core::op::SealedOp;
use federation_core::record::Record;
use federation_core::time::WallMs;

use crate::world::{NOW, Unsigned, node, proof};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) clock: NodeClock,
    pub(crate) records: BTreeMap<RecordKey, Record>,
    pub(crate) ops: BTreeMap<Dot, Received>,
    pub(crate) dropped: DotSet,
    own: Option<Origin>,
    last_hlc: Option<Hlc>,
}

impl Model {
    pub(crate) fn of_node(name: &str) -> Self {
        Self { own: Some(origin(name)), ..Self::default() }
    }

    /// Decides and executes.
    pub(crate) fn run(&mut self, changes: Vec<Change>) -> GroupPlan {
        let Ok(plan) = decide(&*self, &Unsigned, WallMs(NOW), changes);
        for planned in &plan.ops {
            let sealed = match &planned.source {
                OpSource::Received(sealed) => sealed.clone(),
                OpSource::Own(op) => SealedOp { op: op.clone(), proof: proof(&op.hash) },
            };
            self.ops.insert(planned.op.dot.clone(), Received { op: planned.op.clone(), sealed });
        }
        for (key, record) in &plan.records {
            self.records.insert(key.clone(), record.clone());
        }
        self.records.retain(|_, record| !record.is_empty());
        for (_, dots) in &plan.dropped {
            for dot in dots {
                self.dropped.insert(dot);
            }
        }
        self.clock = plan.clock.clone();
        self.own = plan.opened.clone().or(self.own.take());
        self.last_hlc = plan.last_hlc;
        plan
    }

    /// What the beginning of a re-bootstrap does.
    pub(crate) fn end_epoch(&mut self) {
        self.own = None;
    }

    /// What a restart forgets.
    pub(crate) fn restart(&mut self) {
        (self.own, self.last_hlc) = (None, None);
    }

    pub(crate) fn live(&self) -> BTreeMap<Dot, RecordKey> {
        let each = |(key, record): (&RecordKey, &Record)| {
            record.versions().iter().map(|v| (v.dot.clone(), key.clone())).collect::<Vec<_>>()
        };
        self.records.iter().flat_map(each).collect()
    }

    /// I1, but for versions that were dropped as dead.
    pub(crate) fn check_i1(&self) {
        check_i1(&self.clock, &self.records, &self.dropped);
    }
}

/// Every dot in the clock is live, or covered by a live version, or was dropped (with what it had covered).
pub(crate) fn check_i1(clock: &NodeClock, records: &BTreeMap<RecordKey, Record>, dropped: &DotSet) {
    for (origin, seqs) in clock.iter() {
        for seq in seqs.ranges().iter().flat_map(|r| r.first..=r.last) {
            let dot = Dot { origin: origin.clone(), seq };
            let is_kept = records.values().any(|r| r.version(&dot).is_some() || r.covers(&dot));
            assert!(is_kept || dropped.contains(&dot), "{dot} is in the clock and nowhere else");
        }
    }
}

pub(crate) fn origin(name: &str) -> Origin {
    Origin { node: node(name), epoch: BootId(1) }
}

impl ReplicaView for Model {
    type Error = Infallible;

    fn clock(&self) -> &NodeClock {
        &self.clock
    }
    fn own_origin(&self) -> Option<&Origin> {
        self.own.as_ref()
    }
    fn last_hlc(&self) -> Option<Hlc> {
        self.last_hlc
    }
    fn record(&self, key: &RecordKey) -> Result<Record, Infallible> {
        Ok(self.records.get(key).cloned().unwrap_or_default())
    }
    fn held(&self, dot: &Dot) -> Result<Option<OpHash>, Infallible> {
        Ok(self.records.values().find_map(|record| record.version(dot)).map(|v| v.hash))
    }
    fn keys_of(&self, kind: &Kind, id: &RecordId) -> Result<Vec<RecordKey>, Infallible> {
        Ok(self.records.keys().filter(|k| k.kind == *kind && k.id == *id).cloned().collect())
    }
}
