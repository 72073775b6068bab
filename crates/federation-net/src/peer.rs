//! What a node knows of a peer, and its way to it.

pub(crate) mod driver;
pub(crate) mod hello;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod settled;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use federation_core::attest::Trust;
use federation_core::dot::Dot;
use federation_core::dot_set::DotSet;
use federation_core::id::{BootId, NodeId, OpHash, StoreId};
use federation_core::limits::{PACED_FRAMES_BURST, PACED_FRAMES_PER_SECOND};
use federation_core::link::LinkEvent;
use federation_core::node_clock::NodeClock;
use federation_core::planted::{Defect, is_planted};
use federation_core::port::store::{PeerFact, Written};
use federation_core::rejoin::DrainedPeer;
use federation_core::scope::Scope;
use federation_core::session::SessionReceiver;
use federation_wire::v1::clock_page::ClockAssembly;
use federation_wire::v1::hello::RebootstrapReason;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::settled::{OfferKey, Settled, TakeKey};
use crate::config::PeerEndpoint;
use crate::inner::lock;
use crate::rate::{Rate, TokenBucket};
use crate::status::LinkState;

/// An enrolled peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    /// Where it is dialled; none: enrolled as a caller and an origin only.
    pub(crate) endpoint: Option<PeerEndpoint>,
    state: Mutex<PeerState>,
    /// Ends the link's task: with the node, or when the peer is not dialled any more, or elsewhere.
    pub(crate) stop: CancellationToken,
    /// To the link's task; none if the peer is not dialled.
    messages: Option<mpsc::Sender<PeerMessage>>,
    overflowed: AtomicBool,
    /// Whether a session delivers to the peer, by push or as the answer to its pull: one at a time.
    delivering: AtomicBool,
    /// For looking up in the index what it claims: one claim at a time.
    look_up: Arc<Semaphore>,
    /// How fast requests go to it.
    pacer: Mutex<TokenBucket>,
}

/// Below the rate at which a peer refuses.
const PACE: Rate = Rate::new(PACED_FRAMES_PER_SECOND, PACED_FRAMES_BURST);

/// What the node tells a link.
#[derive(Debug)]
pub(crate) enum PeerMessage {
    /// An own op is durable here.
    Op(Arc<Written>),
    /// Anything else.
    Event(LinkEvent),
}

/// What is known of a peer, in this boot of this node.
#[derive(Debug, Default)]
pub(crate) struct PeerState {
    /// What it said in its last hello; none before the first.
    pub(crate) hello: Option<PeerHello>,
    /// Its clock: of the hello, joined with what it acked and sent since.
    pub(crate) clock: NodeClock,
    /// Whether all of its clock has come, in its present boot: before that, what it lacks is not known.
    pub(crate) clock_is_whole: bool,
    /// What it says that it remembers of this node. It says so only of what it has durably.
    pub(crate) remembers: Option<PeerFact>,
    /// Whether it says that it re-bootstraps.
    pub(crate) rebootstrapping: bool,
    /// What it was worth when it was drained, unless it was whole: that is remembered durably. While it re-bootstraps
    /// itself it is to be drained again once it is whole.
    pub(crate) drained: Option<DrainedPeer>,
    /// What it says that it lets out to this node.
    pub(crate) granted: Option<Scope>,
    /// Which version it has of what it takes of whom.
    pub(crate) acceptance: Option<[u8; 32]>,
    /// How often dead letters of it were sent again by hand.
    pub(crate) letters_retried: u64,
    /// What it says that it keeps; none before its first hello.
    pub(crate) said_scope: Option<Scope>,
    /// Whether a mismatch of that was told: once as long as it lasts.
    pub(crate) mismatch_told: bool,
    /// What it has been offered by whole sessions.
    pub(crate) offered: Settled<OfferKey>,
    /// What has been taken from it by whole sessions, or refused for good.
    pub(crate) taken: Settled<TakeKey>,
    /// Boots that it has said to be over: what comes from them now was under way for long.
    pub(crate) ended_boots: BTreeSet<BootId>,
    /// Why it must re-bootstrap before anything is taken from it.
    pub(crate) verdict: Option<RebootstrapReason>,
    /// Its clock as far as it has come, if it takes several hellos.
    pub(crate) assembly: ClockAssembly,
    /// The session that it delivers.
    pub(crate) receiving: Option<Receiving>,
    /// For status.
    pub(crate) link: LinkReport,
}

/// What a peer said of itself in its last hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerHello {
    pub(crate) boot: BootId,
    pub(crate) store: StoreId,
    pub(crate) skew_ms: i64,
}

/// A session that a peer delivers.
#[derive(Debug)]
pub(crate) struct Receiving {
    pub(crate) boot: BootId,
    pub(crate) session: u64,
    pub(crate) receiver: SessionReceiver,
}

impl Receiving {
    /// Whether it is this session of this boot: each boot counts its sessions from the first.
    pub(crate) fn is(&self, boot: BootId, session: u64) -> bool {
        (self.boot == boot || is_planted(Defect::BelieveOldBoots)) && self.session == session
    }
}

/// What the link's task tells of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkReport {
    pub(crate) state: LinkState,
    pub(crate) lane_ops: usize,
    pub(crate) session: bool,
    pub(crate) last_error: Option<&'static str>,
}

impl Default for LinkReport {
    fn default() -> Self {
        Self { state: LinkState::Connecting, lane_ops: 0, session: false, last_error: None }
    }
}

impl Peer {
    pub(crate) fn new(
        id: NodeId,
        stop: CancellationToken,
        dialled: Option<(PeerEndpoint, mpsc::Sender<PeerMessage>)>,
    ) -> Self {
        let (endpoint, messages) = dialled.unzip();
        Self {
            id,
            endpoint,
            state: Mutex::default(),
            stop,
            messages,
            overflowed: AtomicBool::new(false),
            delivering: AtomicBool::new(false),
            look_up: Arc::new(Semaphore::new(1)),
            pacer: Mutex::new(TokenBucket::new(PACE, Instant::now())),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, PeerState> {
        lock(&self.state)
    }

    /// Returns when the next request may go to it.
    pub(crate) async fn pace(&self) {
        loop {
            let taken = lock(&self.pacer).take(1.0, Instant::now());
            let Err(wait) = taken else { return };
            tokio::time::sleep(wait).await;
        }
    }

    /// What goes to it next costs so many frames more of this node's rate there.
    pub(crate) fn spend(&self, frames: f64) {
        lock(&self.pacer).charge(frames, Instant::now());
    }

    /// Hands a new own op to the link. Without room a session delivers it: nothing is lost, nobody waits.
    pub(crate) fn offer(&self, op: &Arc<Written>) {
        self.send(PeerMessage::Op(Arc::clone(op)));
    }

    /// Tells the link something.
    pub(crate) fn tell(&self, event: LinkEvent) {
        self.send(PeerMessage::Event(event));
    }

    fn send(&self, message: PeerMessage) {
        if let Some(messages) = &self.messages
            && messages.try_send(message).is_err()
        {
            self.overflowed.store(true, Ordering::Release);
        }
    }

    /// Whether events were lost since the last call.
    pub(crate) fn take_overflow(&self) -> bool {
        self.overflowed.swap(false, Ordering::AcqRel)
    }

    /// The right to deliver a session to this peer; none while another one does.
    pub(crate) fn begin_delivering(self: &Arc<Self>) -> Option<Delivering> {
        let free = self.delivering.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire);
        free.is_ok().then(|| Delivering(Arc::clone(self)))
    }

    /// The right to look up in the index what it claims, given back when dropped; none while another claim of it is.
    pub(crate) fn begin_look_up(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.look_up).try_acquire_owned().ok()
    }

    /// What it has as of `boot`; none if it has another boot meanwhile. What another boot had says nothing: a claim
    /// built on it would cover ops that are not there.
    pub(crate) fn clock_in(&self, boot: BootId) -> Option<NodeClock> {
        let state = self.state();
        state.is_in(boot).then(|| state.clock.clone())
    }

    /// The peer holds these ops, as it said in `boot`.
    pub(crate) fn holds(&self, boot: BootId, dots: &[Dot]) {
        let mut state = self.state();
        if state.is_in(boot) {
            for dot in dots {
                state.clock.insert(dot);
            }
        }
    }

    /// The peer took a claim into its clock, in `boot`.
    pub(crate) fn learns(&self, boot: BootId, claimed: &NodeClock) {
        let mut state = self.state();
        if state.is_in(boot) {
            state.clock.join(claimed);
        }
    }
}

impl PeerState {
    /// Its clock, if all of it has come.
    pub(crate) fn whole_clock(&self) -> Option<&NodeClock> {
        self.clock_is_whole.then_some(&self.clock)
    }

    /// Its clock, if it is a witness of this boot of this node: all of its clock has come, and it remembers the boot. A
    /// disk of this node that lacks the boot will be told so by it.
    pub(crate) fn witness(&self, store: StoreId, boot: BootId) -> Option<&NodeClock> {
        let remembers_it = self.remembers.is_some_and(|seen| (seen.store, seen.boot) == (store, boot));
        self.whole_clock().filter(|_| remembers_it)
    }

    /// Whether what it says that it keeps is not what it is enrolled with.
    pub(crate) fn is_mismatched(&self, trust: &Trust) -> bool {
        self.said_scope.as_ref().is_some_and(|said| !said.same_as(&trust.replicates))
    }

    /// What decides what it is offered now.
    pub(crate) fn offer_key(&self, trust: &Trust) -> OfferKey {
        let boot = self.hello.map(|hello| hello.boot);
        let (acceptance, letters_retried) = (self.acceptance, self.letters_retried);
        OfferKey { boot, trust: trust.clone(), acceptance, letters_retried }
    }

    /// What it has been offered by now: of that it has all that it will have.
    pub(crate) fn has_been_offered(&self, trust: &Trust) -> Option<&NodeClock> {
        self.offered.under(&self.offer_key(trust))
    }

    /// What of `mine` it neither has, having `theirs`, nor has been offered.
    pub(crate) fn not_yet_offered(&self, trust: &Trust, mine: &DotSet, theirs: &DotSet) -> DotSet {
        let mut missing = mine.minus(theirs);
        if let Some(offered) = self.has_been_offered(trust) {
            missing.subtract(offered);
        }
        missing
    }

    /// Whether the peer runs in `boot`, as far as is known. What it had, said or took in another says nothing.
    pub(crate) fn is_in(&self, boot: BootId) -> bool {
        self.hello.is_some_and(|hello| hello.boot == boot || is_planted(Defect::BelieveOldBoots))
    }
}

/// The right to deliver a session to a peer, given back when dropped.
#[derive(Debug)]
pub(crate) struct Delivering(Arc<Peer>);

impl Drop for Delivering {
    fn drop(&mut self) {
        self.0.delivering.store(false, Ordering::Release);
    }
}

/// An op as named in a page: what an answer must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SentOp {
    pub(crate) dot: Dot,
    pub(crate) hash: OpHash,
    /// Nodes that must hold it, if the peer was asked to sign its ack.
    pub(crate) receipt: Option<u16>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_goes_with_a_request_is_part_of_the_pace() {
        let peer = Peer::new(NodeId::new("a").unwrap(), CancellationToken::new(), None);
        let begun = Instant::now();
        for _ in 0..PACED_FRAMES_BURST {
            peer.pace().await;
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        peer.spend(f64::from(PACED_FRAMES_PER_SECOND / 2));
        peer.pace().await;
        assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
    }
}
