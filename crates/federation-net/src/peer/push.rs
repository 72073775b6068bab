//! Sending ops to a peer: live pages, and sessions that deliver what it lacks.

use std::sync::Arc;
use std::time::Duration;

use federation_core::attest::{Claimable, CompletionScopes};
use federation_core::coordinator::PeerAnswer;
use federation_core::dot::Dot;
use federation_core::id::{BootId, LogPosition, OpHash};
use federation_core::limits::{GROUP_OPS_MAX, SESSION_PAGE_BYTES_MAX};
use federation_core::link::{LinkEvent, SessionEnd};
use federation_core::node_clock::NodeClock;
use federation_core::op::SealedOp;
use federation_core::port::store::{
    Fact, Facts, Outcome, Request, SessionId, SessionPage, SessionQuery, SessionStart, StoreError, Written,
};
use federation_core::quorum::ack_tracker::{Deferral, PeerFailure, Refusal};
use federation_core::scope::Scope;
use federation_core::session::SessionSender;
use federation_wire::frame::Route;
use federation_wire::receipt::{Held, SignedAck};
use federation_wire::slug::Slug;
use federation_wire::v1::ack::OpAck;
use federation_wire::v1::clock_page::ClockPage;
use federation_wire::v1::delivery::{Complete, Lane, Page, PageOp, ReceiptAsk};
use federation_wire::v1::push::{Completion, PushAnswer};
use tokio::time::Instant;

use super::driver::Active;
use super::hello::retry_letters_of;
use super::settled::OfferKey;
use super::{Peer, SentOp};
use crate::admit::price_of_acks;
use crate::alarm::Alarm;
use crate::exchange::{ExchangeError, exchange};
use crate::inner::{Inner, OpenWrites, ReceiptUnderWay, WaitingWrite, lock};
use crate::store_call::{query, submit_one};

/// How long a page of a session may go without an answer: progress is what counts, not the ack deadline.
const PAGE_IDLE: Duration = Duration::from_secs(10);

/// Sends a live page and tells the link what became of it.
pub(crate) async fn send_live(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    active: &Active,
    page: u64,
    ops: &[Arc<Written>],
) -> LinkEvent {
    // By what it is trusted with now, not when the op was offered.
    let trust = inner.gate.trust(&peer.id);
    let ops: Vec<_> = ops.iter().filter(|op| trust.lets_out(&op.op.key.namespace)).collect();
    if ops.is_empty() {
        return LinkEvent::PageAnswered { page, retry: false };
    }
    let sent = sent_ops(inner, ops.iter().map(|op| (&op.op.dot, &op.sealed)));
    let body = page_bytes(peer, Lane::Live, &sent, ops.iter().map(|op| &op.sealed));
    let (begun, acceptance) = (Instant::now(), peer.state().acceptance);
    match push(inner, peer, active, &body, inner.config.ack_timeout).await {
        Ok(answer) => {
            let span = begun.elapsed();
            inner.metrics.with(|counters| {
                counters.ack_latency.entry(peer.id.clone()).or_default().observe(span);
            });
            let taken = take_answer(inner, peer, active.boot, acceptance, &sent, &answer).await;
            LinkEvent::PageAnswered { page, retry: taken.retry }
        }
        Err(ExchangeError::Nack(slug)) if !begins_with_hello(slug) => {
            // The peer is there and takes nothing for now: the ops wait for a session.
            let refused = PeerAnswer::Refused(Refusal::ForNow(deferral(slug)));
            inner.with_open_writes(|open, now, out| {
                for op in &sent {
                    open.coordinator.answered(&peer.id, &op.dot, &refused, now, out);
                }
            });
            LinkEvent::PageAnswered { page, retry: true }
        }
        Err(error) => LinkEvent::PageFailed { page, failure: error.failure() },
    }
}

/// Runs a session to the peer: delivers all it lacks as of one instant, and claims it complete.
pub(crate) async fn run_push(inner: &Arc<Inner>, peer: &Arc<Peer>, active: &Active) -> SessionEnd {
    let Some(_right) = peer.begin_delivering() else { return SessionEnd::Elsewhere };
    let terms = Terms::of(inner, peer);
    let Ok(start) = begin_session(inner, peer).await else { return SessionEnd::Broken };
    let session = start.session;
    let end = deliver(inner, peer, active, start, terms).await;
    end_session(inner, session).await;
    let (end, slug) = match end {
        Ok(end) => (end, "push_complete"),
        Err(()) => (SessionEnd::Broken, "push_broken"),
    };
    inner.metrics.with(|counters| *counters.sessions.entry(slug).or_default() += 1);
    end
}

/// Opens a session in the store: one instant of its writer.
pub(crate) async fn begin_session(inner: &Inner, peer: &Peer) -> Result<SessionStart, StoreError> {
    match submit_one(&*inner.store, Request::BeginSession { peer: peer.id.clone() }).await? {
        Outcome::Session(start) => Ok(start),
        _ => Err(StoreError::Closed),
    }
}

/// Closes a session in the store.
pub(crate) async fn end_session(inner: &Inner, session: SessionId) {
    if let Err(error) = submit_one(&*inner.store, Request::EndSession(session)).await {
        tracing::debug!(%error, "a session was not closed: its leftovers go at the next start");
    }
}

/// The terms on which a session delivers: as of before it began. A session whose terms change is broken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    key: OfferKey,
    /// What the receiver is told that it is granted.
    grant: Scope,
    pub(crate) claimable: Claimable,
}

impl Terms {
    pub(crate) fn of(inner: &Inner, peer: &Peer) -> Self {
        let (trust, own) = (inner.gate.trust(&peer.id), inner.own_scope());
        let state = peer.state();
        // What a peer is sent is by its enrolment. If it keeps something else, what it was not sent is not known: nothing
        // may be claimed, and it is not drained either.
        let is_mismatched = state.is_mismatched(&trust);
        let grant = if is_mismatched { Scope::nothing() } else { trust.grant.clone() };
        let scopes = CompletionScopes {
            sender: &own,
            grant: &grant,
            relay: &Scope::everything(),
            receiver: &trust.replicates,
        };
        let claimable = if is_mismatched { Claimable::Nothing } else { scopes.claimable() };
        Self { key: state.offer_key(&trust), grant, claimable }
    }

    /// Whether they still hold.
    fn hold(&self, inner: &Inner, peer: &Peer) -> bool {
        Self::of(inner, peer) == *self
    }
}

/// What a session reads from: what the receiver has, and what it will not have. That is as of the session's instant: what
/// is not sent is then not in its claim, whatever is refused, or sent again, meanwhile.
pub(crate) struct Outgoing {
    pub(crate) session: SessionId,
    known: NodeClock,
    facts: Arc<Facts>,
    terms: Terms,
}

impl Outgoing {
    /// A session to a receiver that has `known`. What it was offered before it has, or will not have.
    pub(crate) fn new(peer: &Peer, start: &SessionStart, mut known: NodeClock, terms: Terms) -> Self {
        if let Some(offered) = peer.state().offered.under(&terms.key) {
            known.join(offered);
        }
        Self { session: start.session, known, facts: Arc::clone(&start.facts), terms }
    }

    /// The next page, without what is dead for the receiver; none if the store does not give it, or the terms have changed.
    pub(crate) async fn page(&self, inner: &Inner, peer: &Peer, after: Option<Dot>) -> Option<SessionPage> {
        if !self.terms.hold(inner, peer) {
            return None;
        }
        let wanted = SessionQuery {
            session: self.session,
            known: self.known.clone(),
            trust: self.terms.key.trust.clone(),
            after,
            ops_max: GROUP_OPS_MAX,
            bytes_max: SESSION_PAGE_BYTES_MAX,
        };
        let mut page = query(&inner.store, |store, done| store.session_page(wanted, done)).await.ok()?;
        page.ops.retain(|op| self.facts.dead_letter(&peer.id, &op.dot).is_none());
        Some(page)
    }
}

/// The messages that claim a session complete: more than one only for a clock of tens of thousands of ranges.
pub(crate) fn claims(inner: &Inner, sender: &SessionSender, terms: &Terms) -> Vec<Complete> {
    let is_limited = terms.claimable != Claimable::Everything;
    inner.metrics.with(|counters| counters.completions_limited += u64::from(is_limited));
    let replica_scope = inner.own_scope();
    ClockPage::all(&sender.complete_to())
        .into_iter()
        .map(|claim| Complete {
            session: sender.start().session,
            pages: sender.pages(),
            claim,
            replica_scope: replica_scope.clone(),
            grant: terms.grant.clone(),
        })
        .collect()
}

async fn deliver(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    active: &Active,
    start: SessionStart,
    terms: Terms,
) -> Result<SessionEnd, ()> {
    let session = start.session;
    let known = peer.clock_in(active.boot).ok_or(())?;
    let outgoing = Outgoing::new(peer, &start, known, terms.clone());
    let mut sender = SessionSender::new(start, terms.claimable);
    let mut retry = false;
    let mut page = outgoing.page(inner, peer, None).await.ok_or(())?;
    loop {
        let next = page.next.clone();
        let read_ahead = async {
            match &next {
                Some(after) => outgoing.page(inner, peer, Some(after.clone())).await.map(Some).ok_or(()),
                None => Ok(None),
            }
        };
        if page.ops.is_empty() {
            match read_ahead.await? {
                Some(following) => page = following,
                None => break,
            }
            continue;
        }
        let lane = Lane::Backfill { session: session.0, page: sender.next_page() };
        let (sent, following) =
            tokio::join!(send_page(inner, peer, active, lane, &page, &mut sender), read_ahead);
        retry |= sent?;
        match following? {
            Some(following) => page = following,
            None => break,
        }
    }
    inner.metrics.with(|counters| counters.completions_withheld += u64::from(sender.withholds()));
    if !terms.hold(inner, peer) {
        return Err(());
    }
    let mut is_merged = true;
    for claim in claims(inner, &sender, &terms) {
        let answer = push(inner, peer, active, &claim.to_bytes(), PAGE_IDLE).await.map_err(drop)?;
        match answer.completion {
            Some(Completion::Merged | Completion::PartTaken) => {}
            // How much that is only the next hello tells.
            Some(Completion::MergedOwn | Completion::NotMerged) => is_merged = false,
            _ => return Err(()),
        }
    }
    if is_merged {
        peer.learns(active.boot, &sender.complete_to());
    }
    if !retry && terms.hold(inner, peer) {
        peer.state().offered.join(terms.key, &sender.start().clock);
    }
    Ok(if retry { SessionEnd::Broken } else { SessionEnd::Complete })
}

/// Sends a page of a session. Gives whether an op of it was refused for now.
async fn send_page(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    active: &Active,
    lane: Lane,
    page: &SessionPage,
    sender: &mut SessionSender,
) -> Result<bool, ()> {
    let sent = sent_ops(inner, page.ops.iter().map(|op| (&op.dot, &op.sealed)));
    let body = page_bytes(peer, lane, &sent, page.ops.iter().map(|op| &op.sealed));
    let acceptance = peer.state().acceptance;
    let answer = push(inner, peer, active, &body, PAGE_IDLE).await.map_err(drop)?;
    let taken = take_answer(inner, peer, active.boot, acceptance, &sent, &answer).await;
    if answer.acks.len() != sent.len() {
        return Err(());
    }
    for index in taken.refused {
        if let Some(op) = page.ops.get(index) {
            sender.refused(&op.dot, &op.context);
        }
    }
    Ok(taken.retry)
}

/// What a page names, and of which ops it asks for a signed ack: those whose writers wait for a receipt.
fn sent_ops<'a>(inner: &Inner, ops: impl Iterator<Item = (&'a Dot, &'a SealedOp)>) -> Vec<SentOp> {
    let open = lock(&inner.open_writes);
    let wanted = |dot| open.receipts.get(dot).map(|receipt| receipt.needed);
    ops.map(|(dot, sealed)| SentOp { dot: dot.clone(), hash: sealed.op.hash, receipt: wanted(dot) }).collect()
}

/// The page to a peer, who counts the acks that it is to sign as part of this node's rate.
fn page_bytes<'a>(
    peer: &Peer,
    lane: Lane,
    sent: &[SentOp],
    ops: impl Iterator<Item = &'a SealedOp>,
) -> Vec<u8> {
    let asks = (0_u32..).zip(sent).filter_map(|(index, op)| Some(ReceiptAsk { index, needed: op.receipt? }));
    let receipts: Vec<_> = asks.collect();
    peer.spend(price_of_acks(u32::try_from(receipts.len()).unwrap_or(u32::MAX)));
    Page { lane, receipts, ops: ops.map(PageOp::of).collect() }.to_bytes()
}

async fn push(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    active: &Active,
    body: &[u8],
    patience: Duration,
) -> Result<PushAnswer, ExchangeError> {
    let answer = exchange(inner, peer, active, Route::Push, body, patience).await?;
    PushAnswer::from_bytes(&answer.body).map_err(|_| ExchangeError::Invalid)
}

/// What an answer to a page came to.
#[derive(Debug)]
struct Taken {
    /// Places of the ops that were refused, for now or for good.
    refused: Vec<usize>,
    /// Whether one was refused for now.
    retry: bool,
}

/// Classifies the answer to a page, op by op: counts acks to the open writes and to what the peer is known to hold,
/// alarms drift, keeps dead letters. The page went to that boot of the peer, while it was known to take that.
async fn take_answer(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    boot: BootId,
    acceptance: Option<[u8; 32]>,
    sent: &[SentOp],
    answer: &PushAnswer,
) -> Taken {
    // An answer that leaves ops out says nothing of them: a session sends them again.
    let mut taken = Taken { refused: Vec::new(), retry: answer.acks.len() != sent.len() };
    let mut held = Vec::new();
    let mut dead_letters = Vec::new();
    let mut drift = false;
    let mut mismatch = answer.acks.len() != sent.len();
    let signed: Vec<_> = sent
        .iter()
        .zip(&answer.acks)
        .map(|(op, ack)| signed_ack(inner, peer, op, ack, answer.position))
        .collect();
    if signed.contains(&Signed::Forged) {
        inner.alarm(&peer.id, Alarm::ReceiptForged);
    }
    let granted = peer.state().granted.clone();
    inner.with_open_writes(|open, now, out| {
        for (index, ((op, ack), signed)) in sent.iter().zip(&answer.acks).zip(signed).enumerate() {
            let said = match ack.outcome.status() {
                // A name that is not the op's says nothing of the op.
                _ if ack.dot.as_ref().is_some_and(|dot| *dot != op.dot) => {
                    mismatch = true;
                    taken.refused.push(index);
                    taken.retry = true;
                    continue;
                }
                Ok(status) => {
                    if is_drift(op, ack.hash) {
                        drift = true;
                        taken.refused.push(index);
                    } else {
                        held.push(op.dot.clone());
                        match worth(open, granted.as_ref(), &op.dot, signed) {
                            Worth::Counts(receipt) => {
                                if let Some((under_way, ack)) = receipt {
                                    under_way.acks.insert(peer.id.clone(), *ack);
                                }
                            }
                            // The page was made before the write asked: another one is on its way.
                            Worth::NotAsked => continue,
                            Worth::Nothing(failure) => {
                                open.coordinator.failed(&peer.id, [&op.dot], failure, out);
                                continue;
                            }
                        }
                    }
                    PeerAnswer::Ack { status, hash: ack.hash }
                }
                Err(refusal) => {
                    taken.refused.push(index);
                    match refusal {
                        Refusal::ForGood(reason) => dead_letters.push((op.dot.clone(), reason)),
                        Refusal::ForNow(_) => taken.retry = true,
                    }
                    PeerAnswer::Refused(refusal)
                }
            };
            open.coordinator.answered(&peer.id, &op.dot, &said, now, out);
        }
    });
    if drift {
        inner.alarm(&peer.id, Alarm::IdDrift);
    }
    if mismatch {
        inner.alarm(&peer.id, Alarm::AckMismatch);
    }
    peer.holds(boot, &held);
    let may_end = dead_letters.iter().any(|(_, reason)| reason.may_end());
    for (dot, reason) in dead_letters {
        tracing::warn!(peer = %peer.id, %dot, ?reason, "the peer refused an op for good");
        let fact = Fact::DeadLetter { peer: peer.id.clone(), dot, reason };
        if let Err(error) = submit_one(&*inner.store, Request::Remember(fact)).await {
            tracing::warn!(%error, "a dead letter was not recorded: the op is sent again");
            taken.retry = true;
        } else {
            inner.metrics.with(|counters| *counters.dead_letters.entry(reason.slug()).or_default() += 1);
        }
    }
    // What it takes has changed since the page was sent, and perhaps since these were looked at.
    if may_end && peer.state().acceptance != acceptance {
        taken.retry = true;
        if let Err(error) = retry_letters_of(inner, peer).await {
            tracing::warn!(%error, "dead letters are not sent again before the peer takes something else");
        }
    }
    taken
}

/// What an ack is worth for the write that waits for it.
enum Worth<'a> {
    /// It counts; with a signature it goes into the receipt.
    Counts(Option<(&'a mut ReceiptUnderWay, Box<SignedAck>)>),
    /// It was not asked to be signed, and has to be.
    NotAsked,
    /// It does not count.
    Nothing(PeerFailure),
}

/// What an ack of a peer that grants this node `granted` is worth for the open write of `dot`.
fn worth<'a>(open: &'a mut OpenWrites, granted: Option<&Scope>, dot: &Dot, signed: Signed) -> Worth<'a> {
    // Should this node lose its disk, it must get back what it has promised. What has not been said is everything.
    let is_withheld =
        |write: &WaitingWrite| granted.is_some_and(|granted| !granted.contains(&write.namespace));
    if open.waiting.get(dot).is_some_and(is_withheld) {
        return Worth::Nothing(PeerFailure::Withheld);
    }
    // A write that waits for a receipt counts a peer by its signature.
    match (open.receipts.get_mut(dot), signed) {
        (None, _) => Worth::Counts(None),
        (Some(receipt), Signed::Valid(ack)) => Worth::Counts(Some((receipt, ack))),
        (Some(_), Signed::NotAsked) => Worth::NotAsked,
        (Some(_), Signed::Missing | Signed::Forged) => Worth::Nothing(PeerFailure::Unsigned),
    }
}

/// What an ack is worth for a receipt.
#[derive(Debug, PartialEq)]
enum Signed {
    /// Nobody asked for a signature.
    NotAsked,
    /// The peer's, over what it acks.
    Valid(Box<SignedAck>),
    /// There is none.
    Missing,
    /// It is not the peer's, or not over what it acks.
    Forged,
}

fn signed_ack(inner: &Inner, peer: &Peer, op: &SentOp, ack: &OpAck, position: LogPosition) -> Signed {
    let (Some(needed), Ok(status)) = (op.receipt, ack.outcome.status()) else { return Signed::NotAsked };
    let Some(signature) = ack.signature else { return Signed::Missing };
    let held = Held { dot: op.dot.clone(), hash: ack.hash, status, needed, position };
    match inner.gate.check_ack(&peer.id, held, signature) {
        Some(ack) => Signed::Valid(Box::new(ack)),
        None => Signed::Forged,
    }
}

fn is_drift(op: &SentOp, hash: OpHash) -> bool {
    op.hash != hash
}

/// Whether a refusal is mended by saying hello again, or is of something that a hello tells.
fn begins_with_hello(slug: Slug) -> bool {
    matches!(slug, Slug::WrongBoot | Slug::HelloFirst | Slug::MustRebootstrap)
}

fn deferral(slug: Slug) -> Deferral {
    if slug == Slug::DiskFull { Deferral::DiskFull } else { Deferral::Busy }
}
