//! What a node answers to its peers.

use std::sync::Arc;

use bytes::Bytes;
use federation_core::attest::Claimable;
use federation_core::decide::Change;
use federation_core::id::BootId;
use federation_core::node_clock::NodeClock;
use federation_core::port::store::{Request, StoreError};
use federation_core::session::SessionReceiver;
use federation_wire::frame::{FrameKind, Route};
use federation_wire::slug::Slug;
use federation_wire::v1::delivery::{Complete, Delivery, Lane, Page};
use federation_wire::v1::hello::Hello;
use federation_wire::v1::nack::Nack;
use federation_wire::v1::pull::PullRequest;
use federation_wire::v1::push::{Completion, PushAnswer};
use tokio::sync::oneshot;

use crate::admit::admit;
use crate::alarm::Alarm;
use crate::gate::Opened;
use crate::inner::Inner;
use crate::peer::hello::answer_hello;
use crate::peer::pull::serve_pull;
use crate::peer::{Peer, Receiving};
use crate::store_call::submit_one;
use crate::transport::{Answer, ChannelIdentity, Frames};
use crate::vouch::is_beyond;

const OK: u16 = 200;

/// Handles one request frame.
pub(crate) async fn serve(
    inner: &Arc<Inner>,
    channel: &ChannelIdentity,
    route: Route,
    frame: &Bytes,
) -> Answer {
    let answer = match inner.gate.open_request(channel, route, frame) {
        Ok(opened) => serve_to_its_end(inner, route, opened).await,
        Err(answer) => answer,
    };
    if answer.status != OK {
        inner.metrics.with(|counters| *counters.refused_frames.entry(answer.slug).or_default() += 1);
    }
    if answer.ends_connection()
        && let Some(node) = channel.node()
    {
        inner.alarm(node, Alarm::IdentityMismatch);
    }
    answer
}

/// Serves a request to its end also if its caller hangs up meanwhile: what is committed has consequences, which are ops to
/// pass on, a price, an alarm, or a re-bootstrap begun. Not beyond the end of the node, which does not wait for its disk.
async fn serve_to_its_end(inner: &Arc<Inner>, route: Route, opened: Opened) -> Answer {
    let (done, answer) = oneshot::channel();
    let serving = Arc::clone(inner);
    inner.tasks.spawn("request", async move {
        let served = serving.tasks.stop().run_until_cancelled(serve_opened(&serving, route, opened)).await;
        drop(served.map(|answer| done.send(answer)));
    });
    // Without an answer the node ends.
    answer.await.unwrap_or_else(|_| Answer { status: 503, frames: None, slug: Slug::ShuttingDown.as_str() })
}

async fn serve_opened(inner: &Arc<Inner>, route: Route, opened: Opened) -> Answer {
    let refuse = |slug| inner.gate.refuse(&opened.asked, Nack::of(slug));
    let members = inner.members();
    let Some(peer) = members.peer(&opened.asked.envelope.sender) else { return refuse(Slug::UnknownPeer) };
    if inner.tasks.stop().is_cancelled() {
        return refuse(Slug::ShuttingDown);
    }
    let boot = opened.asked.envelope.sender_boot;
    let reply = match route {
        Route::Hello => hello(inner, peer, &opened).await.map(|body| answer(inner, &opened, &body)),
        Route::Push => match admissible(peer, boot) {
            Ok(()) => push(inner, peer, &opened).await.map(|reply| answer(inner, &opened, &reply.to_bytes())),
            Err(slug) => Err(slug),
        },
        Route::Pull => pull(inner, peer, &opened),
        Route::Read | Route::Dead | Route::Digest => Err(Slug::NotFound),
    };
    reply.unwrap_or_else(refuse)
}

fn answer(inner: &Inner, opened: &Opened, body: &[u8]) -> Answer {
    let frame = inner.gate.seal_answer(&opened.asked, |to| FrameKind::Answer { to }, body);
    Answer { status: OK, frames: Some(Frames::one(frame)), slug: "ok" }
}

/// Pages and claims are taken only from the boot that said hello, and from nobody who must re-bootstrap.
fn admissible(peer: &Peer, boot: BootId) -> Result<(), Slug> {
    let state = peer.state();
    if !state.is_in(boot) {
        return Err(Slug::HelloFirst);
    }
    if state.verdict.is_some() { Err(Slug::MustRebootstrap) } else { Ok(()) }
}

async fn hello(inner: &Arc<Inner>, peer: &Arc<Peer>, opened: &Opened) -> Result<Vec<u8>, Slug> {
    let hello = Hello::from_bytes(&opened.body).map_err(|_| Slug::Malformed)?;
    let envelope = &opened.asked.envelope;
    let answer = answer_hello(inner, peer, envelope.sender_boot, envelope.sent_at, &hello).await?;
    Ok(answer.to_bytes())
}

async fn push(inner: &Arc<Inner>, peer: &Arc<Peer>, opened: &Opened) -> Result<PushAnswer, Slug> {
    match Delivery::from_bytes(&opened.body).map_err(|_| Slug::Malformed)? {
        Delivery::Page(page) => take_page(inner, peer, opened.asked.envelope.sender_boot, &page).await,
        Delivery::Complete(complete) => {
            take_completion(inner, peer, opened.asked.envelope.sender_boot, &complete).await
        }
    }
}

async fn take_page(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    boot: BootId,
    page: &Page<'_>,
) -> Result<PushAnswer, Slug> {
    let mut admitted = admit(inner, peer, &page.ops).await.map_err(slug)?;
    admitted.sign(inner, &peer.id, &page.receipts);
    if let Lane::Backfill { session, page } = page.lane {
        let mut state = peer.state();
        let receiving = match state.receiving.take() {
            Some(running) if running.is(boot, session) => running,
            // A sender runs one session at a time: a new one ends the last.
            _ => Receiving { boot, session, receiver: SessionReceiver::new() },
        };
        let receiving = state.receiving.insert(receiving);
        admitted.account_in(&mut receiving.receiver, page);
    }
    // The sender holds what it sends.
    let taken = admitted.acks.iter().filter(|ack| ack.outcome.status().is_ok());
    let dots: Vec<_> = taken.filter_map(|ack| ack.dot.clone()).collect();
    peer.holds(boot, &dots);
    Ok(PushAnswer { position: admitted.position, acks: admitted.acks, completion: None })
}

async fn take_completion(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    boot: BootId,
    complete: &Complete,
) -> Result<PushAnswer, Slug> {
    let receiver = {
        let state = peer.state();
        let running = state.receiving.as_ref().filter(|running| running.is(boot, complete.session.0));
        // A session without a page claims at once.
        running.map_or_else(SessionReceiver::new, |running| running.receiver.clone())
    };
    let completion = match receiver.complete(complete.pages, &complete.claim.dots) {
        Ok(claimed) => {
            let claimable = inner.claimable_from(peer, complete);
            let claimed = NodeClock::from(claimable.of(&claimed, &peer.id));
            if is_beyond(inner, peer, &receiver, &claimed).await.map_err(slug)? {
                return Ok(completed(inner, Completion::Beyond));
            }
            submit_one(&*inner.store, Request::Change(Change::Complete(claimed))).await.map_err(slug)?;
            match claimable {
                _ if complete.claim.next.is_some() => Completion::PartTaken,
                Claimable::Everything => Completion::Merged,
                Claimable::OwnOrigins => Completion::MergedOwn,
                Claimable::Nothing => Completion::NotMerged,
            }
        }
        Err(missing) => Completion::Incomplete { handled: missing.handled },
    };
    Ok(completed(inner, completion))
}

fn completed(inner: &Inner, completion: Completion) -> PushAnswer {
    PushAnswer { position: inner.snapshot().position, acks: Vec::new(), completion: Some(completion) }
}

fn pull(inner: &Arc<Inner>, peer: &Arc<Peer>, opened: &Opened) -> Result<Answer, Slug> {
    let known = peer.clock_in(opened.asked.envelope.sender_boot).ok_or(Slug::HelloFirst)?;
    let request = PullRequest::from_bytes(&opened.body).map_err(|_| Slug::Malformed)?;
    let right = peer.begin_delivering().ok_or(Slug::Busy)?;
    let frames = serve_pull(inner, peer, right, opened.asked.clone(), known, &request);
    Ok(Answer { status: OK, frames: Some(Frames::new(frames)), slug: "ok" })
}

/// What a peer is told when the store did not do what it was asked.
pub(crate) fn slug(error: StoreError) -> Slug {
    match error {
        StoreError::Busy => Slug::Busy,
        StoreError::DiskFull => Slug::DiskFull,
        StoreError::InDoubt | StoreError::ReadOnly | StoreError::Unreadable => Slug::StoreReadOnly,
        StoreError::Closed => Slug::ShuttingDown,
    }
}
