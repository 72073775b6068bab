//! Taking what this node lacks from a peer, and giving a peer what it lacks when it asks: a session in the other direction.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use federation_core::attest::Claimable;
use federation_core::decide::Change;
use federation_core::link::{LinkEvent, SessionEnd};
use federation_core::node_clock::NodeClock;
use federation_core::planted::{Defect, is_planted};
use federation_core::port::store::{Fact, Request};
use federation_core::rejoin::DrainedPeer;
use federation_core::seq_ranges::SeqRange;
use federation_core::session::{SessionReceiver, SessionSender};
use federation_wire::frame::{FrameKind, Route};
use federation_wire::slug::Slug;
use federation_wire::v1::clock_page::ClockPage;
use federation_wire::v1::delivery::{Complete, Delivery, Lane, Page, PageOp};
use federation_wire::v1::pull::PullRequest;
use tokio::sync::mpsc;

use super::driver::Active;
use super::hello::must_drain;
use super::push::{Outgoing, Terms, begin_session, claims, end_session};
use super::settled::TakeKey;
use super::{Delivering, Peer};
use crate::admit::admit;
use crate::exchange::{ExchangeError, next, start, unless_stopped};
use crate::gate::Asked;
use crate::inner::Inner;
use crate::store_call::submit_one;
use crate::vouch::is_beyond;

/// How long a pull may go without a frame: progress is what counts.
const FRAME_IDLE: Duration = Duration::from_secs(10);
/// Frames made ahead of the connection: one on its way, one ready.
const FRAMES_AHEAD: usize = 2;

/// Pulls until drained.
pub(crate) async fn run_pull(inner: &Arc<Inner>, peer: &Arc<Peer>, active: &Active) -> SessionEnd {
    let (end, slug) = match pull(inner, peer, active).await {
        Ok(SessionEnd::Complete) => (SessionEnd::Complete, "pull_complete"),
        Ok(end) => (end, "pull_deferred"),
        // The peer pushes to this node meanwhile: the same ops by the other way.
        Err(ExchangeError::Nack(Slug::Busy)) => (SessionEnd::Elsewhere, "pull_elsewhere"),
        Err(_) => (SessionEnd::Broken, "pull_broken"),
    };
    inner.metrics.with(|counters| *counters.sessions.entry(slug).or_default() += 1);
    end
}

async fn pull(inner: &Arc<Inner>, peer: &Arc<Peer>, active: &Active) -> Result<SessionEnd, ExchangeError> {
    let clock = ClockPage::of(&inner.snapshot().clock, None);
    // As of before the peer fixes what it gives.
    let was_whole = !peer.state().rebootstrapping;
    let has = peer.clock_in(active.boot).ok_or(ExchangeError::Invalid)?;
    let take_key = || TakeKey { boot: active.boot, acceptance: inner.gate.acceptance(&inner.own_scope()) };
    let key = take_key();
    let body = PullRequest { clock, bytes_max: u64::MAX }.to_bytes();
    let begun = start(inner, peer, &active.connection, active.boot, Route::Pull, &body);
    let (request, mut frames) = patient(active, begun).await?;
    let mut receiver = SessionReceiver::new();
    let mut is_deferred = false;
    while let Some(answer) = patient(active, next(inner, peer, &request, &mut frames)).await? {
        if answer.envelope.sender_boot != active.boot || peer.state().verdict.is_some() {
            return Err(ExchangeError::Invalid);
        }
        match Delivery::from_bytes(&answer.body).map_err(|_| ExchangeError::Invalid)? {
            Delivery::Page(page) => {
                let Lane::Backfill { page: number, .. } = page.lane else {
                    return Err(ExchangeError::Invalid);
                };
                let admitted =
                    admit(inner, peer, &page.ops).await.map_err(|_| ExchangeError::Nack(Slug::DiskFull))?;
                is_deferred |= admitted.defers();
                admitted.account_in(&mut receiver, number);
            }
            Delivery::Complete(complete) => {
                take_claim(inner, peer, &receiver, &complete).await?;
                match complete.claim.next {
                    Some(_) => {}
                    // What was refused for now is not here: the peer is to be drained once it can be taken.
                    None if is_deferred => return Ok(SessionEnd::Broken),
                    None => {
                        if take_key() == key {
                            peer.state().taken.join(key, &has);
                        }
                        drained(inner, peer, was_whole, &complete).await?;
                        return Ok(SessionEnd::Complete);
                    }
                }
            }
        }
    }
    Err(ExchangeError::Invalid)
}

/// Takes a claim into the clock, less what this node refused.
async fn take_claim(
    inner: &Inner,
    peer: &Peer,
    receiver: &SessionReceiver,
    complete: &Complete,
) -> Result<(), ExchangeError> {
    let claimed =
        receiver.complete(complete.pages, &complete.claim.dots).map_err(|_| ExchangeError::Invalid)?;
    let claimable = inner.claimable_from(peer, complete);
    let is_limited = claimable != Claimable::Everything;
    inner.metrics.with(|counters| counters.completions_limited += u64::from(is_limited));
    let mut claimed = NodeClock::from(claimable.of(&claimed, &peer.id));
    if is_beyond(inner, peer, receiver, &claimed).await.map_err(|_| ExchangeError::Nack(Slug::Busy))? {
        return Err(ExchangeError::Invalid);
    }
    inner.metrics.with(|counters| counters.completions_withheld += u64::from(receiver.withholds()));
    if is_planted(Defect::VoidLostSeqs) && inner.snapshot().facts.rebootstrap.is_some() {
        for (origin, seqs) in complete.claim.dots.iter().filter(|(o, _)| o.node == inner.config.node) {
            // Whatever is missing below is declared void.
            if let Some(lost) = SeqRange::new(1, seqs.max().unwrap_or(0)) {
                claimed.insert_range(origin, lost);
            }
        }
    }
    submit_one(&*inner.store, Request::Change(Change::Complete(claimed)))
        .await
        .map(drop)
        .map_err(|_| ExchangeError::Nack(Slug::DiskFull))
}

/// A peer has been drained in full: if this node re-bootstraps, that is a step. One that is not whole itself may get
/// more: that counts only as long as it is not, and is not remembered.
///
/// The same of one that keeps or gives only a part of what this node keeps. One that gives nothing is not drained: if this
/// node is to take from it by what its hello grants, the peer has still to learn what is kept here, and is asked again.
async fn drained(
    inner: &Arc<Inner>,
    peer: &Peer,
    was_whole: bool,
    complete: &Complete,
) -> Result<(), ExchangeError> {
    if inner.snapshot().facts.rebootstrap.is_none() {
        return Ok(());
    }
    let Some(worth) = inner.worth_of_drain(complete) else {
        let is_source = must_drain(inner, peer, &inner.snapshot());
        return if is_source { Err(ExchangeError::Invalid) } else { Ok(()) };
    };
    let is_remembered = {
        let mut state = peer.state();
        state.drained = match worth {
            _ if !was_whole && state.rebootstrapping => Some(DrainedPeer::Rebootstrapping),
            DrainedPeer::Partial if was_whole => Some(DrainedPeer::Partial),
            _ => None,
        };
        state.drained.is_none()
    };
    if !is_remembered {
        end_rebootstrap_if_done(inner).await;
        return Ok(());
    }
    if !was_whole {
        // It has become whole meanwhile: what was taken may be of before.
        return Err(ExchangeError::Nack(Slug::Busy));
    }
    submit_one(&*inner.store, Request::Remember(Fact::RebootstrapDrained(peer.id.clone())))
        .await
        .map_err(|_| ExchangeError::Nack(Slug::DiskFull))?;
    end_rebootstrap_if_done(inner).await;
    Ok(())
}

/// Ends this node's re-bootstrap once enough peers have been drained.
pub(crate) async fn end_rebootstrap_if_done(inner: &Arc<Inner>) {
    if !inner.rebootstrap_done(&inner.snapshot().facts) {
        return;
    }
    match submit_one(&*inner.store, Request::Remember(Fact::RebootstrapDone)).await {
        Ok(_) => {
            tracing::info!("the re-bootstrap is done");
            inner.metrics.with(|counters| counters.rebootstraps_ended += 1);
            // A peer that re-bootstraps too waits for one that is whole: it is to hear of it.
            for peer in inner.members().dialled() {
                peer.tell(LinkEvent::Resync);
            }
        }
        Err(error) => tracing::error!(%error, "the end of the re-bootstrap was not recorded"),
    }
}

/// Waits for the peer: not too long, and not beyond the end of the connection.
async fn patient<T>(
    active: &Active,
    step: impl Future<Output = Result<T, ExchangeError>>,
) -> Result<T, ExchangeError> {
    let step = tokio::time::timeout(FRAME_IDLE, step);
    unless_stopped(&active.stop, async { step.await.unwrap_or(Err(ExchangeError::TimedOut)) }).await
}

/// Answers a pull: the frames of a session, made as fast as the connection takes them.
pub(crate) fn serve_pull(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    right: Delivering,
    request: Asked,
    mut known: NodeClock,
    pull: &PullRequest,
) -> mpsc::Receiver<Bytes> {
    let (frames, answer) = mpsc::channel(FRAMES_AHEAD);
    known.join(&pull.clock.dots);
    let (task_inner, task_peer) = (Arc::clone(inner), Arc::clone(peer));
    let stop = inner.tasks.stop().clone();
    inner.tasks.spawn("pull answer", async move {
        let _right = right;
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            // An answer that breaks off ends without its completion: the caller asks again.
            _ = give(&task_inner, &task_peer, &request, known, &frames) => {}
        }
    });
    answer
}

async fn give(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    request: &Asked,
    known: NodeClock,
    frames: &mpsc::Sender<Bytes>,
) -> Option<()> {
    let terms = Terms::of(inner, peer);
    let start = begin_session(inner, peer).await.ok()?;
    let session = start.session;
    let outgoing = Outgoing::new(peer, &start, known, terms.clone());
    let sender = SessionSender::new(start, terms.claimable);
    let given = give_session(inner, peer, request, &outgoing, frames, sender, &terms).await;
    end_session(inner, session).await;
    given
}

async fn give_session(
    inner: &Inner,
    peer: &Peer,
    request: &Asked,
    outgoing: &Outgoing,
    frames: &mpsc::Sender<Bytes>,
    mut sender: SessionSender,
    terms: &Terms,
) -> Option<()> {
    let session = outgoing.session;
    let item = |body: &[u8]| inner.gate.seal_answer(request, |to| FrameKind::Item { to }, body);
    let mut after = None;
    loop {
        let page = outgoing.page(inner, peer, after).await?;
        if !page.ops.is_empty() {
            let lane = Lane::Backfill { session: session.0, page: sender.next_page() };
            let ops = page.ops.iter().map(|op| PageOp::of(&op.sealed)).collect();
            frames.send(item(&Page { lane, receipts: Vec::new(), ops }.to_bytes())).await.ok()?;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    for claim in claims(inner, &sender, terms) {
        frames.send(item(&claim.to_bytes())).await.ok()?;
    }
    Some(())
}
