//! What the parts of a node share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use federation_core::coordinator::{Coordinator, Settled};
use federation_core::dot::Dot;
use federation_core::id::{BootId, Namespace, NodeId};
use federation_core::port::clock::WallClock;
use federation_core::port::rules::RecordRules;
use federation_core::port::store::{Facts, Health, ReplicaStore, Snapshot};
use federation_core::rejoin::{DrainedPeer, drains_needed, may_serve};
use federation_core::time::MonoMs;
use federation_wire::receipt::SignedAck;
use tokio::sync::{Notify, OnceCell, oneshot};
use tokio::time::Instant;

use crate::alarm::{Alarm, AlarmBook};
use crate::config::NodeConfig;
use crate::gate::Gate;
use crate::members::Members;
use crate::metrics::NetMetrics;
use crate::status::Readiness;
use crate::tasks::Tasks;
use crate::transport::Transport;

/// What the parts of a node share. One per node, behind an `Arc`.
pub(crate) struct Inner {
    pub(crate) config: NodeConfig,
    pub(crate) boot: BootId,
    pub(crate) store: Arc<dyn ReplicaStore>,
    pub(crate) rules: Arc<dyn RecordRules>,
    pub(crate) wall: Arc<dyn WallClock>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) gate: Gate,
    pub(crate) members: ArcSwap<Members>,
    /// Held while members change: one reload at a time.
    pub(crate) reloading: Mutex<()>,
    pub(crate) open_writes: Mutex<OpenWrites>,
    /// Whether the epoch is settled; begun anew by a re-bootstrap.
    pub(crate) epoch: ArcSwap<OnceCell<()>>,
    /// Told at every hello that was learned from.
    pub(crate) hello_learned: Notify,
    pub(crate) metrics: NetMetrics,
    pub(crate) alarms: Mutex<AlarmBook>,
    pub(crate) started: Instant,
    pub(crate) tasks: Tasks,
}

/// The writes whose quorum is open, and who waits for each.
#[derive(Debug, Default)]
pub(crate) struct OpenWrites {
    pub(crate) coordinator: Coordinator,
    pub(crate) waiting: BTreeMap<Dot, WaitingWrite>,
    /// Those that are to be proven by signed acks.
    pub(crate) receipts: BTreeMap<Dot, ReceiptUnderWay>,
}

/// An open write, to whoever waits for it.
#[derive(Debug)]
pub(crate) struct WaitingWrite {
    /// The namespace of its record.
    pub(crate) namespace: Namespace,
    /// Where it is answered.
    pub(crate) answer: oneshot::Sender<SettledWrite>,
}

/// The receipt of an open write.
#[derive(Debug)]
pub(crate) struct ReceiptUnderWay {
    /// Nodes that must hold the write.
    pub(crate) needed: u16,
    /// What has come, by peer: each checked, and what the peer is counted by.
    pub(crate) acks: BTreeMap<NodeId, SignedAck>,
}

/// What the caller of a write is told.
#[derive(Debug)]
pub(crate) struct SettledWrite {
    pub(crate) settled: Settled,
    /// The peers' signed acks, if they were asked for.
    pub(crate) acks: Vec<SignedAck>,
}

impl Inner {
    /// Milliseconds since the node started.
    pub(crate) fn now(&self) -> MonoMs {
        MonoMs(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// State as of the last group commit.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.store.snapshot()
    }

    /// Who takes part now.
    pub(crate) fn members(&self) -> Arc<Members> {
        self.members.load_full()
    }

    /// Whether clients are served.
    pub(crate) fn readiness(&self) -> Readiness {
        if self.tasks.stop().is_cancelled() {
            return Readiness::Stopping;
        }
        let snapshot = self.snapshot();
        if snapshot.health != Health::Writable {
            return Readiness::Store(snapshot.health);
        }
        self.catching_up(&snapshot).unwrap_or(Readiness::Ready)
    }

    /// How far the node's re-bootstrap is; none if it is whole.
    pub(crate) fn catching_up(&self, snapshot: &Snapshot) -> Option<Readiness> {
        let rebootstrap = snapshot.facts.rebootstrap.as_ref()?;
        let drains = self.drains(&snapshot.facts);
        let needed = drains_needed(drains.n, drains.w_min);
        Some(Readiness::CatchingUp { drained: rebootstrap.drained.len(), needed })
    }

    /// Whether enough peers have been drained for a re-bootstrap to end.
    pub(crate) fn rebootstrap_done(&self, facts: &Facts) -> bool {
        let Some(rebootstrap) = &facts.rebootstrap else { return false };
        let drains = self.drains(facts);
        // The state in which each was when it was drained: only whole ones are remembered.
        let drained = drains.sources.iter().filter_map(|peer| {
            if rebootstrap.drained.contains(&peer.id) {
                Some(DrainedPeer::Whole)
            } else {
                peer.state().drained
            }
        });
        may_serve(drains.n, drains.w_min, drains.sources.len(), drained)
    }

    /// Changes the open writes and answers those that are settled by it.
    pub(crate) fn with_open_writes(&self, change: impl FnOnce(&mut OpenWrites, MonoMs, &mut Vec<Settled>)) {
        let mut settled = Vec::new();
        let now = self.now();
        let mut answers = Vec::new();
        {
            let mut open = lock(&self.open_writes);
            change(&mut open, now, &mut settled);
            for write in settled {
                let receipt = open.receipts.remove(&write.dot);
                if let Some(waiting) = open.waiting.remove(&write.dot) {
                    let acks = receipt.map(|receipt| receipt.acks.into_values().collect());
                    answers.push((
                        waiting.answer,
                        SettledWrite { settled: write, acks: acks.unwrap_or_default() },
                    ));
                }
            }
        }
        for (waiting, write) in answers {
            // A caller that has gone away is no error: delivery goes on without it.
            drop(waiting.send(write));
        }
    }

    /// Counts, logs and shows something that must not happen.
    pub(crate) fn alarm(&self, peer: &NodeId, alarm: Alarm) {
        let what = alarm.slug();
        self.metrics.with(|counters| *counters.alarms.entry(what).or_default() += 1);
        lock(&self.alarms).raise(peer, alarm, self.wall.now());
        tracing::error!(alarm = what, %peer, "something happened that must not");
    }
}

/// Locks; a holder that panicked leaves state that its invariants still describe, and the node is going down.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
