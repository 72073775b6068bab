//! A client's write: committed here, fanned out, answered when its quorum is certain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use federation_core::decide::{Change, Mutation};
use federation_core::dot::Dot;
use federation_core::epoch::{LastEpoch, PeerKnowledge, settle};
use federation_core::id::{LogPosition, Namespace, NodeId};
use federation_core::limits::OPEN_WRITES_MAX;
use federation_core::port::store::{Health, Outcome, Request, StoreError, Written};
use federation_core::quorum::ack_tracker::{AckStatus, AckTracker, PeerFailure, PeerOutcome, Verdict};
use federation_core::quorum::policy::WriteLevel;
use federation_core::time::MonoMs;
use federation_wire::receipt::{Held, SignedAck};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::error::{QuorumNotMet, WriteError};
use crate::inner::{Inner, ReceiptUnderWay, SettledWrite, WaitingWrite, lock};
use crate::peer::Peer;
use crate::peer::hello::own_store;
use crate::status::Readiness;
use crate::store_call::submit_one;

/// A write that is durable on as many nodes as was promised.
#[derive(Clone, Debug)]
pub struct WriteReceipt {
    /// The op.
    pub written: Arc<Written>,
    /// Nodes that held it when that was certain, this one included.
    pub got: usize,
    /// Nodes needed.
    pub needed: usize,
    /// What each peer had come to by then.
    pub peers: BTreeMap<NodeId, PeerOutcome>,
    /// The signed acks of those who held it, this node's first, if they were asked for.
    pub acks: Vec<SignedAck>,
}

/// Whether whoever writes wants the acks signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Acks do.
    Acks,
    /// Each node that counts has to sign.
    SignedAcks,
}

/// Who is asked, and by when: of a write, those who take part when it begins.
struct Plan {
    /// The peers that count for the namespace.
    replicas: Vec<Arc<Peer>>,
    needed: usize,
    proof: Proof,
    started_at: MonoMs,
    deadline: Instant,
}

/// What the writer's thread hands to the waiting caller once the op is durable here.
type LocalCommit = Result<LocallyWritten, WriteError>;

/// A write that is durable here.
struct LocallyWritten {
    written: Arc<Written>,
    /// The log position after its sync.
    position: LogPosition,
    settled: oneshot::Receiver<SettledWrite>,
}

pub(crate) async fn write(
    inner: &Arc<Inner>,
    mutation: Mutation,
    level: Option<WriteLevel>,
    proof: Proof,
) -> Result<WriteReceipt, WriteError> {
    let begun = Instant::now();
    let result = write_uncounted(inner, mutation, level, proof).await;
    let slug = match &result {
        Ok(_) => "met",
        Err(WriteError::QuorumNotMet(not_met)) => not_met.reason.slug(),
        Err(WriteError::InsufficientPeers { .. }) => "insufficient_peers",
        Err(WriteError::OutOfScope) => "out_of_scope",
        Err(WriteError::Refused(_)) => "rejected",
        Err(WriteError::NotServing(_)) => "not_serving",
        Err(WriteError::Busy { .. } | WriteError::Store(StoreError::Busy)) => "busy",
        Err(WriteError::Store(_)) => "store_failed",
    };
    inner.metrics.with(|counters| {
        *counters.write_outcomes.entry(slug).or_default() += 1;
        if result.is_ok() {
            counters.write_latency.observe(begun.elapsed());
        }
    });
    result
}

async fn write_uncounted(
    inner: &Arc<Inner>,
    mutation: Mutation,
    level: Option<WriteLevel>,
    proof: Proof,
) -> Result<WriteReceipt, WriteError> {
    let plan = plan(inner, &mutation.key.namespace, level, proof)?;
    ensure_epoch(inner).await?;
    let (done, answer) = oneshot::channel::<LocalCommit>();
    let commit_inner = Arc::clone(inner);
    let deadline = plan.deadline;
    inner
        .store
        .submit(
            vec![Request::Change(Change::Write(mutation))],
            Box::new(move |result| {
                let outcome = result.map(|group| (group.outcomes.into_iter().next(), group.position));
                let local = match outcome {
                    Ok((Some(Outcome::Written(written)), position)) => {
                        let settled = committed(&commit_inner, &written, &plan);
                        Ok(LocallyWritten { written, position, settled })
                    }
                    Ok((Some(Outcome::Refused(refusal)), _)) => Err(WriteError::Refused(refusal)),
                    Ok(_) => Err(WriteError::Store(StoreError::Closed)),
                    Err(error) => Err(WriteError::Store(error)),
                };
                // A caller that has gone away is no error: the op is delivered without it.
                drop(done.send(local));
            }),
        )
        .map_err(WriteError::Store)?;
    let local = answer.await.unwrap_or(Err(WriteError::Store(StoreError::Closed)))?;
    let LocallyWritten { written, position, settled } = local;
    let SettledWrite { settled, mut acks } = await_quorum(inner, &written.op.dot, settled, deadline).await?;
    match settled.verdict {
        Verdict::Met { got } => {
            let needed = settled.needed;
            if proof == Proof::SignedAcks {
                acks.insert(0, own_ack(inner, &written, position, needed));
            }
            Ok(WriteReceipt { written, got, needed, peers: settled.peers, acks })
        }
        Verdict::NotMet { got, needed, reason } => Err(WriteError::QuorumNotMet(Box::new(QuorumNotMet {
            dot: settled.dot,
            got,
            needed,
            reason,
            peers: settled.peers,
        }))),
    }
}

fn plan(
    inner: &Inner,
    namespace: &Namespace,
    level: Option<WriteLevel>,
    proof: Proof,
) -> Result<Plan, WriteError> {
    match inner.readiness() {
        // Whether there is room again is found out by the store, by trying.
        Readiness::Ready | Readiness::Store(Health::DiskFull) => {}
        readiness => return Err(WriteError::NotServing(readiness)),
    }
    if !inner.snapshot().facts.replica_scope.contains(namespace) {
        return Err(WriteError::OutOfScope);
    }
    let members = inner.members();
    let replicas = inner.replicas(&members, namespace);
    let n = replicas.len() + 1;
    // A request may raise what the operator set, never lower it.
    let set = members.write_levels.of(namespace).needed(n);
    let needed = level.map_or(set, |level| level.needed(n).max(set));
    if needed > n {
        return Err(WriteError::InsufficientPeers { needed, n });
    }
    let open = lock(&inner.open_writes).coordinator.open_writes();
    if open >= OPEN_WRITES_MAX {
        return Err(WriteError::Busy { open, limit: OPEN_WRITES_MAX });
    }
    let deadline = Instant::now() + inner.config.ack_timeout;
    Ok(Plan { replicas, needed, proof, started_at: inner.now(), deadline })
}

/// This node's word for its own commit.
fn own_ack(inner: &Inner, written: &Written, position: LogPosition, needed: usize) -> SignedAck {
    inner.gate.sign_ack(Held {
        dot: written.op.dot.clone(),
        hash: written.sealed.op.hash,
        status: AckStatus::Applied,
        needed: nodes(needed),
        position,
    })
}

/// Nodes of one mesh: at most [`federation_core::limits::NODES_MAX`].
fn nodes(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

/// In the writer's thread, after the op is durable: opens the quorum, then hands the op to every link, so that no
/// ack can come before it is waited for.
fn committed(inner: &Arc<Inner>, written: &Arc<Written>, plan: &Plan) -> oneshot::Receiver<SettledWrite> {
    let (sender, receiver) = oneshot::channel();
    let timeout_ms = u64::try_from(inner.config.ack_timeout.as_millis()).unwrap_or(u64::MAX);
    let tracker = AckTracker::new(
        plan.needed,
        written.op.dot.clone(),
        written.sealed.op.hash,
        plan.replicas.iter().map(|peer| peer.id.clone()),
        plan.started_at,
        // Of the beginning only the whole milliseconds are known: one more, so that no write ends too soon.
        MonoMs(plan.started_at.0.saturating_add(timeout_ms).saturating_add(1)),
    );
    inner.with_open_writes(|open, now, out| {
        let waiting = WaitingWrite { namespace: written.op.key.namespace.clone(), answer: sender };
        open.waiting.insert(written.op.dot.clone(), waiting);
        if plan.proof == Proof::SignedAcks {
            let receipt = ReceiptUnderWay { needed: nodes(plan.needed), acks: BTreeMap::new() };
            open.receipts.insert(written.op.dot.clone(), receipt);
        }
        open.coordinator.committed(tracker, now, out);
    });
    for peer in &plan.replicas {
        peer.offer(written);
        // Left since the write began, after the open writes were told.
        if peer.stop.is_cancelled() {
            inner.with_open_writes(|open, _, out| {
                open.coordinator.failed(&peer.id, [&written.op.dot], PeerFailure::Abandoned, out);
            });
        }
    }
    receiver
}

async fn await_quorum(
    inner: &Inner,
    dot: &Dot,
    mut settled: oneshot::Receiver<SettledWrite>,
    deadline: Instant,
) -> Result<SettledWrite, WriteError> {
    let closed = WriteError::Store(StoreError::Closed);
    if let Ok(answer) = timeout_at(deadline, &mut settled).await {
        return answer.map_err(|_| closed);
    }
    // The clock of the coordinator counts whole milliseconds: the deadline has come when it says so.
    while settled.is_empty() && !settled.is_terminated() {
        inner.with_open_writes(|open, now, out| open.coordinator.deadline(dot, now, out));
        if let Ok(answer) = tokio::time::timeout(Duration::from_millis(1), &mut settled).await {
            return answer.map_err(|_| closed);
        }
    }
    settled.await.map_err(|_| closed)
}

/// Settles this node's epoch before its first own op: waits for the peers' hellos, but not longer than configured.
async fn ensure_epoch(inner: &Arc<Inner>) -> Result<(), WriteError> {
    let epoch = inner.epoch.load_full();
    epoch
        .get_or_try_init(|| async {
            let deadline = inner.started + inner.config.hello_wait;
            loop {
                let learned = inner.hello_learned.notified();
                if have_answered(inner) || timeout_at(deadline, learned).await.is_err() {
                    break;
                }
            }
            let snapshot = inner.snapshot();
            let store = own_store(&snapshot);
            let witness = |peer: &Arc<Peer>| peer.state().witness(store, inner.boot).cloned();
            let clocks: Vec<_> = inner.members().all().map(witness).collect();
            let knowledge =
                clocks.iter().map(|clock| clock.as_ref().map_or(PeerKnowledge::Silent, PeerKnowledge::Knows));
            let last = snapshot.facts.last_epoch();
            let origin = settle(&inner.config.node, inner.boot, last, &snapshot.clock, knowledge);
            tracing::info!(%origin, "own ops carry this origin");
            let settled = if snapshot.facts.own_epoch == Some(origin.epoch) { "continued" } else { "fresh" };
            inner.metrics.with(|counters| *counters.epochs.entry(settled).or_default() += 1);
            submit_one(&*inner.store, Request::Change(Change::OpenEpoch(origin)))
                .await
                .map(drop)
                .map_err(WriteError::Store)
        })
        .await
        .map(drop)
}

/// Whether every peer has said what it has to say about the last epoch. Where that ends whatever the peers say, their
/// first word is enough.
fn have_answered(inner: &Inner) -> bool {
    let snapshot = inner.snapshot();
    let may_go_on = matches!(snapshot.facts.last_epoch(), LastEpoch::Unbroken(_));
    let store = own_store(&snapshot);
    inner.members().all().all(|peer| {
        let state = peer.state();
        if may_go_on { state.witness(store, inner.boot) } else { state.whole_clock() }.is_some()
    })
}
