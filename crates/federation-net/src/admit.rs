//! How ops from elsewhere enter: the one way, for pushed and pulled pages alike.

use std::sync::Arc;

use federation_core::decide::{Admission, Change, Received};
use federation_core::dot::Dot;
use federation_core::id::{KeyId, LogPosition, NodeId, OpHash};
use federation_core::limits::SIGNED_ACKS_PER_FRAME;
use federation_core::link::LinkEvent;
use federation_core::op::{EncodedOp, SealedOp};
use federation_core::planted::{Defect, is_planted};
use federation_core::port::store::{Committed, Outcome, Request, StoreError};
use federation_core::quorum::ack_tracker::Refusal;
use federation_core::scope::Scope;
use federation_core::session::SessionReceiver;
use federation_core::vector_clock::VectorClock;
use federation_wire::identity::KeyRefusal;
use federation_wire::keys::PublicKey;
use federation_wire::receipt::Held;
use federation_wire::seal::{ProofError, ProofVerifier};
use federation_wire::v1::ack::{AckNote, AckOutcome, OpAck, OpRefusal};
use federation_wire::v1::delivery::{PageOp, ReceiptAsk};
use federation_wire::v1::op::{op_hash, read_op};

use crate::alarm::{Alarm, EquivocationStatus};
use crate::inner::{Inner, lock};
use crate::peer::Peer;
use crate::store_call::submit;

/// What became of a page: one entry for each op, in order, all of it durable.
#[derive(Debug)]
pub(crate) struct AdmittedPage {
    pub(crate) acks: Vec<OpAck>,
    /// What the ops that were taken name: their dots, and what their writers had seen.
    named: VectorClock,
    /// Of each refused op, what its writer had seen; none if it could not be read.
    refused: Vec<(usize, Option<VectorClock>)>,
    pub(crate) position: LogPosition,
}

impl AdmittedPage {
    /// Whether an op was refused for now: it is not here yet, and will be.
    pub(crate) fn defers(&self) -> bool {
        self.acks.iter().any(|ack| matches!(ack.outcome.status(), Err(Refusal::ForNow(_))))
    }

    /// Tells the session that the page belongs to what of it may not be claimed. A page with an op that could not
    /// be read counts as not handled: nobody knows what would have to be left out.
    pub(crate) fn account_in(&self, receiver: &mut SessionReceiver, page: u64) {
        let mut readable = true;
        for (index, context) in &self.refused {
            match (self.acks.get(*index).and_then(|ack| ack.dot.as_ref()), context) {
                (Some(dot), Some(context)) => receiver.refused(dot, context),
                _ => readable = false,
            }
        }
        receiver.took(&self.named);
        if readable {
            receiver.handled(page);
        }
    }

    /// Signs the acks that the page of `sender` asks for, of ops that were taken: all of that is durable. They are paid for
    /// out of the sender's rate.
    pub(crate) fn sign(&mut self, inner: &Inner, sender: &NodeId, asks: &[ReceiptAsk]) {
        let mut signed = 0_u32;
        for ask in asks {
            let Some(ack) = self.acks.get_mut(ask.index as usize) else { continue };
            let (Some(dot), Ok(status)) = (&ack.dot, ack.outcome.status()) else { continue };
            let (dot, needed, position) = (dot.clone(), ask.needed, self.position);
            let held = Held { dot, hash: ack.hash, status, needed, position };
            ack.signature = Some(inner.gate.sign_ack(held).signature);
            signed += 1;
        }
        inner.gate.charge(sender, price_of_acks(signed));
        inner.metrics.with(|counters| counters.acks_signed += u64::from(signed));
    }
}

/// Verifies, validates and applies the ops of a page that `sender` delivered, in one group commit, and returns what
/// became of each once all of it is durable.
///
/// # Errors
/// [`StoreError`]: nothing of the page was applied.
pub(crate) async fn admit(
    inner: &Arc<Inner>,
    sender: &Peer,
    ops: &[PageOp<'_>],
) -> Result<AdmittedPage, StoreError> {
    let mut verifier = ProofVerifier::new(|dot: &Dot, key| inner.gate.sealing_key(dot, key));
    let own = &inner.snapshot().facts.replica_scope;
    let mut failed = 0;
    let inspected: Vec<_> =
        ops.iter().map(|op| inspect(inner, own, op, &mut verifier, &mut failed)).collect();
    let mut page = AdmittedPage {
        acks: Vec::new(),
        named: VectorClock::new(),
        refused: Vec::new(),
        position: inner.snapshot().position,
    };
    let mut batch = Vec::new();
    let mut waiting = Vec::new();
    for (index, inspected) in inspected.into_iter().enumerate() {
        page.acks.push(inspected.ack);
        match inspected.received {
            Some(received) => {
                let op = &received.op;
                let (origin, namespace) = (op.dot.origin.node.clone(), op.key.namespace.clone());
                waiting.push((index, op.context.clone(), origin, namespace));
                batch.push(Request::Change(Change::Admit(received)));
            }
            None => page.refused.push((index, inspected.context)),
        }
    }
    if !batch.is_empty() {
        let committed = if is_planted(Defect::AckBeforeCommit) {
            hand_over(inner, batch)?
        } else {
            submit(&*inner.store, batch).await?
        };
        page.position = committed.position;
        let mut to_relay = Vec::new();
        for ((index, context, origin, namespace), outcome) in waiting.into_iter().zip(committed.outcomes) {
            let Outcome::Admitted(admission) = outcome else { continue };
            let Some(ack) = page.acks.get_mut(index) else { continue };
            if let (Admission::Equivocation { held }, Some(dot)) = (admission, &ack.dot) {
                equivocation(inner, &sender.id, dot, held, ack.hash);
            }
            settle(ack, admission);
            match (ack.outcome, &ack.dot) {
                (AckOutcome::Refused(_), _) => page.refused.push((index, Some(context))),
                (_, Some(dot)) => page.named.cover(dot, &context),
                (_, None) => {}
            }
            if ack.outcome == AckOutcome::Applied {
                to_relay.push((origin, namespace));
            }
        }
        for peer in inner.members().dialled().filter(|peer| peer.id != sender.id) {
            let trust = inner.gate.trust(&peer.id);
            if to_relay.iter().any(|(origin, namespace)| *origin != peer.id && trust.lets_out(namespace)) {
                peer.tell(LinkEvent::ForeignApplied);
            }
        }
    }
    inner.gate.charge(&sender.id, price(&page.acks, verifier.roots(), failed));
    count(inner, &page.acks, &sender.id);
    Ok(page)
}

/// An op as checked so far.
struct Inspected {
    ack: OpAck,
    context: Option<VectorClock>,
    /// What goes to the store; none if the op is refused.
    received: Option<Received>,
}

/// Proofs of a page that may be wrong before no more of it are verified. Who sends on what it has verified sends none.
const FAILED_PROOFS_MAX: usize = 16;
/// What a wrong proof costs its sender, in frames.
const FAILED_PROOF_COST: f64 = 20.0;

/// What so many signed acks cost whoever asks for them, in frames.
pub(crate) fn price_of_acks(signed: u32) -> f64 {
    f64::from(signed) / f64::from(SIGNED_ACKS_PER_FRAME)
}

/// What a page costs its sender beyond its frame: a signature is as dear to verify as a frame's own, and those that brought
/// an op which is here now are what a page is for.
#[expect(clippy::cast_precision_loss, reason = "a page has a thousand ops")]
fn price(acks: &[OpAck], verified: usize, failed: usize) -> f64 {
    let applied = acks.iter().filter(|ack| ack.outcome == AckOutcome::Applied).count();
    FAILED_PROOF_COST.mul_add(failed as f64, verified.saturating_sub(applied) as f64)
}

/// Looks at an op in the order of cost: a signature is verified only of what would be taken. `failed` counts the proofs of
/// the page that were wrong.
fn inspect<L>(
    inner: &Inner,
    own: &Scope,
    page_op: &PageOp<'_>,
    verifier: &mut ProofVerifier<L>,
    failed: &mut usize,
) -> Inspected
where
    L: Fn(&Dot, KeyId) -> Result<PublicKey, KeyRefusal>,
{
    let hash = op_hash(page_op.op);
    let outcome = AckOutcome::Refused(OpRefusal::Malformed);
    let mut ack = OpAck { dot: None, hash, outcome, note: None, signature: None };
    let Ok(read) = read_op(page_op.op) else { return Inspected { ack, context: None, received: None } };
    let op = read.op;
    ack.dot = Some(op.dot.clone());
    ack.note = read.vector_fault.map(AckNote::from);
    let refusal = if !inner.gate.knows(&op.dot.origin.node) {
        Some(OpRefusal::UnknownOrigin)
    } else if let Err(why) = inner.gate.lets_in(own, &op) {
        tracing::debug!(dot = %op.dot, %why, "an op is not taken");
        Some(OpRefusal::from(why))
    } else if *failed >= FAILED_PROOFS_MAX {
        Some(OpRefusal::Busy)
    } else if let Err(fault) = verifier.verify(&op.dot, &hash, page_op.proof) {
        *failed += usize::from(fault == ProofError::Invalid);
        Some(match fault {
            ProofError::UnknownKey { .. } => OpRefusal::UnknownOrigin,
            ProofError::KeyRevoked { .. } => OpRefusal::KeyRevoked,
            _ => OpRefusal::ProofInvalid,
        })
    } else {
        inner.rules.check(&op).err().map(|violation| {
            tracing::warn!(dot = %op.dot, slug = violation.slug, "an op breaks the rules of its kind");
            OpRefusal::RuleViolation
        })
    };
    if let Some(refusal) = refusal {
        ack.outcome = AckOutcome::Refused(refusal);
        return Inspected { ack, context: Some(op.context), received: None };
    }
    let sealed =
        SealedOp { op: EncodedOp { bytes: Arc::from(page_op.op), hash }, proof: Arc::from(page_op.proof) };
    Inspected { ack, context: None, received: Some(Received { op, sealed }) }
}

/// For a planted defect: hands ops to the writer, takes all of them for applied, and never learns what came of them.
fn hand_over(inner: &Inner, batch: Vec<Request>) -> Result<Committed, StoreError> {
    let applied = |_: &Request| Outcome::Admitted(Admission::Applied { concurrent: false });
    let outcomes = batch.iter().map(applied).collect();
    inner.store.submit(batch, Box::new(drop))?;
    Ok(Committed { outcomes, position: inner.snapshot().position })
}

fn settle(ack: &mut OpAck, admission: Admission) {
    ack.outcome = match admission {
        Admission::Applied { .. } => AckOutcome::Applied,
        Admission::Duplicate { held } => {
            ack.hash = held.unwrap_or(ack.hash);
            AckOutcome::Duplicate
        }
        Admission::Superseded => AckOutcome::Superseded,
        Admission::ClockAhead => AckOutcome::Refused(OpRefusal::ClockAhead),
        Admission::Equivocation { held } => {
            ack.hash = held;
            AckOutcome::Refused(OpRefusal::Equivocation)
        }
    };
}

fn count(inner: &Inner, acks: &[OpAck], sender: &NodeId) {
    inner.metrics.with(|counters| {
        for ack in acks {
            *counters.admitted.entry(ack.outcome.slug()).or_default() += 1;
            let is_of_another = ack.dot.as_ref().is_some_and(|dot| dot.origin.node != *sender);
            counters.relayed_ops += u64::from(is_of_another && ack.outcome == AckOutcome::Applied);
        }
    });
}

/// Two ops stand under one dot: both hashes are logged and shown.
fn equivocation(inner: &Inner, sender: &NodeId, dot: &Dot, held: OpHash, refused: OpHash) {
    tracing::error!(%dot, %held, %refused, peer = %sender, "two ops under one dot");
    let (dot, peer) = (dot.clone(), sender.clone());
    lock(&inner.alarms).note(EquivocationStatus { dot, held, refused, peer, at: inner.wall.now() });
    inner.alarm(sender, Alarm::Equivocation);
}
