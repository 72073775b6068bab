//! Hello: who are you, what do you have. Teaches both sides.

use std::sync::Arc;

use federation_core::dot::Dot;
use federation_core::id::{BootId, StoreId};
use federation_core::link::LinkEvent;
use federation_core::node_clock::NodeClock;
use federation_core::planted::{Defect, is_planted};
use federation_core::port::store::{Fact, PeerFact, Request, Snapshot, StoreError};
use federation_core::rejoin::{DrainedPeer, Standing, judge};
use federation_core::time::WallMs;
use federation_wire::frame::Route;
use federation_wire::slug::Slug;
use federation_wire::v1::clock_page::{ClockAssembly, ClockPage};
use federation_wire::v1::hello::{Hello, HelloAnswer, PeerLimits, RebootstrapReason, Versions};

use super::driver::Active;
use super::settled::TakeKey;
use super::{Peer, PeerHello};
use crate::alarm::Alarm;
use crate::exchange::{ExchangeError, exchange_on, unless_stopped};
use crate::inner::Inner;
use crate::server::slug;
use crate::store_call::{submit, submit_one};
use crate::transport::Connection;
use crate::vouch::{believable, is_of_its_time};

/// Hellos in one conversation: clocks of this many pages, and two that only learn the boot.
const HELLOS_MAX: usize = 66;
/// How often a hello may be overtaken in one conversation: by each hello and answer of the same boot that is on its way
/// to the peer beside it, which are few.
const OVERTAKEN_MAX: u32 = 8;
/// How long ops may be on their way before a difference of the clocks counts as one.
const RECHECK: std::time::Duration = std::time::Duration::from_millis(200);

/// What a hello came to.
pub(crate) struct HelloOutcome {
    pub(crate) connection: Arc<dyn Connection>,
    /// The boot that answered.
    pub(crate) boot: BootId,
    /// The peer lacks something that this node had when it said hello.
    pub(crate) lacks: bool,
    /// The peer has something that this node lacks, or must be drained.
    pub(crate) offers: bool,
}

/// Says hello, connecting first if there is no connection, and compares the clocks.
pub(crate) async fn say_hello(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    active: Option<Active>,
) -> Result<HelloOutcome, ExchangeError> {
    let Some(endpoint) = &peer.endpoint else { return Err(ExchangeError::Stopped) };
    let is_fresh = active.is_none();
    let (connection, mut boot) = if let Some(active) = active {
        (active.connection, active.boot)
    } else {
        let connect = tokio::time::timeout(inner.config.ack_timeout, inner.transport.connect(endpoint));
        let connect =
            async { connect.await.map_err(|_| ExchangeError::TimedOut)?.map_err(ExchangeError::Transport) };
        (unless_stopped(&peer.stop, connect).await?, BootId(0))
    };
    let mine = inner.snapshot().clock.clone();
    let converse = |boot| converse(inner, peer, &connection, boot);
    let theirs;
    (boot, theirs) = converse(boot).await?;
    let (mut lacks, mut offers) = compare(inner, peer, boot, &mine, &theirs, &theirs);
    if !is_fresh && (lacks || offers) {
        // What was on its way a moment ago may have arrived: only what is still missing needs a session.
        tokio::time::sleep(RECHECK).await;
        let later;
        (boot, later) = converse(boot).await?;
        (lacks, offers) = compare(inner, peer, boot, &mine, &later, &theirs);
    }
    Ok(HelloOutcome { connection, boot, lacks, offers })
}

/// Whether the peer lacks something of `mine`, and this node something of `offered`: beside what sessions have settled.
fn compare(
    inner: &Inner,
    peer: &Peer,
    boot: BootId,
    mine: &NodeClock,
    theirs: &NodeClock,
    offered: &NodeClock,
) -> (bool, bool) {
    let snapshot = inner.snapshot();
    let must_drain = must_drain(inner, peer, &snapshot);
    let trust = inner.gate.trust(&peer.id);
    let key = TakeKey { boot, acceptance: inner.gate.acceptance(&snapshot.facts.replica_scope) };
    let state = peer.state();
    let mut to_take = offered.minus(&snapshot.clock);
    if let Some(taken) = state.taken.under(&key) {
        to_take.subtract(taken);
    }
    (!state.not_yet_offered(&trust, mine, theirs).is_empty(), must_drain || !to_take.is_empty())
}

/// Whether this node re-bootstraps and is still to take from the peer.
pub(crate) fn must_drain(inner: &Inner, peer: &Peer, snapshot: &Snapshot) -> bool {
    snapshot.facts.rebootstrap.as_ref().is_some_and(|under_way| {
        let is_drained = peer.state().drained.is_some() || under_way.drained.contains(&peer.id);
        !is_drained && inner.drains(&snapshot.facts).sources.iter().any(|source| source.id == peer.id)
    })
}

/// Exchanges hellos until both sides have the other's whole clock. Gives the boot that answered and its clock.
async fn converse(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    connection: &Arc<dyn Connection>,
    mut boot: BootId,
) -> Result<(BootId, NodeClock), ExchangeError> {
    let mut own_after: Option<Dot> = None;
    let mut assembly = ClockAssembly::new();
    let mut theirs = None;
    let mut overtaken = 0;
    for _ in 0..HELLOS_MAX {
        let snapshot = inner.snapshot();
        // Remembered before asking: a position that an ack brings meanwhile is no sign of a rollback.
        let remembered = snapshot.facts.peers.get(&peer.id).copied();
        let hello = hello_to(inner, peer, &snapshot, own_after.as_ref(), assembly.next().cloned());
        let own_next = hello.clock.next.clone();
        let body = hello.to_bytes();
        let patience = inner.config.ack_timeout;
        let answer = exchange_on(inner, peer, connection, boot, Route::Hello, &body, patience);
        let answer = match unless_stopped(&peer.stop, answer).await {
            Err(ExchangeError::WrongBoot(current)) if current != boot => {
                boot = current;
                continue;
            }
            // A later position of this boot came to the peer first: what is said now is later still.
            Err(ExchangeError::Nack(Slug::Overtaken)) if overtaken < OVERTAKEN_MAX => {
                overtaken += 1;
                own_after = None;
                continue;
            }
            other => other?,
        };
        let said = HelloAnswer::from_bytes(&answer.body).map_err(|_| ExchangeError::Invalid)?;
        if answer.envelope.sender_boot != boot || said.hello.boot != boot || said.hello.node != peer.id {
            return Err(ExchangeError::Invalid);
        }
        let whole = match theirs {
            Some(_) => None,
            None => assembly.add(said.hello.clock.clone()).map_err(|_| ExchangeError::Invalid)?,
        };
        let whole = whole.map(|clock| believable(inner, peer, clock));
        learn(inner, peer, &said.hello, remembered, whole.as_ref(), answer.envelope.sent_at)
            .await
            .map_err(ExchangeError::Nack)?;
        peer.state().granted = Some(said.granted);
        theirs = theirs.or(whole);
        own_after = own_next;
        if own_after.is_none()
            && let Some(theirs) = theirs
        {
            return Ok((boot, theirs));
        }
    }
    Err(ExchangeError::Invalid)
}

/// Answers a hello.
///
/// # Errors
/// The slug to refuse it with.
pub(crate) async fn answer_hello(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    sender_boot: BootId,
    sent_at: WallMs,
    hello: &Hello,
) -> Result<HelloAnswer, Slug> {
    if hello.node != peer.id || hello.boot != sender_boot {
        return Err(Slug::Malformed);
    }
    if Versions::SPOKEN.common(hello.versions).is_none() {
        return Err(Slug::UnsupportedVersion);
    }
    let remembered = inner.snapshot().facts.peers.get(&peer.id).copied();
    if peer.state().ended_boots.contains(&hello.boot) {
        return Err(Slug::Stale);
    }
    if is_overtaken(hello, remembered.as_ref()) {
        return Err(Slug::Overtaken);
    }
    let whole = {
        let mut state = peer.state();
        state.assembly.add(hello.clock.clone()).map_err(|_| Slug::Malformed)?
    };
    let whole = whole.map(|clock| believable(inner, peer, clock));
    let is_new_boot = peer.state().hello.is_none_or(|known| known.boot != hello.boot);
    learn(inner, peer, hello, remembered, whole.as_ref(), sent_at).await?;
    peer.tell(LinkEvent::Contact);
    if is_new_boot {
        peer.tell(LinkEvent::Resync);
    }
    let snapshot = inner.snapshot();
    let own = hello_to(inner, peer, &snapshot, hello.clock_wanted_after.as_ref(), None);
    Ok(HelloAnswer { hello: own, granted: inner.gate.trust(&peer.id).grant })
}

/// Whether a hello was said before one of the same boot that is remembered. It is no sign of a rollback: a disk that went
/// back has a boot that nobody knows, and a process does not go back.
fn is_overtaken(hello: &Hello, remembered: Option<&PeerFact>) -> bool {
    remembered.is_some_and(|seen| {
        seen.boot == hello.boot && (hello.store < seen.store || hello.position < seen.position)
    })
}

/// What this node says of itself to `peer`, with the page of its clock behind `after`.
fn hello_to(
    inner: &Inner,
    peer: &Peer,
    snapshot: &Snapshot,
    after: Option<&Dot>,
    clock_wanted_after: Option<Dot>,
) -> Hello {
    let facts = &snapshot.facts;
    Hello {
        node: inner.config.node.clone(),
        store: own_store(snapshot),
        boot: inner.boot,
        boots: facts.boots.clone(),
        versions: Versions::SPOKEN,
        limits: PeerLimits::OWN,
        config_version: inner.gate.config_version(&facts.replica_scope),
        replica_scope: facts.replica_scope.clone(),
        acceptance: inner.gate.acceptance(&facts.replica_scope),
        rebootstrapping: facts.rebootstrap.is_some(),
        must_rebootstrap: peer.state().verdict,
        position: snapshot.position,
        clock: ClockPage::of(&snapshot.clock, after),
        clock_wanted_after,
        remembers: facts.peers.get(&peer.id).copied(),
    }
}

pub(crate) fn own_store(snapshot: &Snapshot) -> StoreId {
    snapshot.facts.store.unwrap_or(StoreId { created_ms: 0, random: 0 })
}

/// Learns from what a peer says of itself; durable where it must be before anything is answered.
async fn learn(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    hello: &Hello,
    remembered: Option<PeerFact>,
    clock: Option<&NodeClock>,
    sent_at: WallMs,
) -> Result<(), Slug> {
    // Its clock is off, or it lies: what would be remembered of it could not be taken back.
    if !is_of_its_time(inner, peer, hello.store) {
        return Err(Slug::Stale);
    }
    let remembers = hello.remembers.filter(|own| is_of_its_time(inner, peer, own.store));
    let verdict = verdict_on(inner, hello, remembered, clock);
    if let Some(reason) = verdict
        && peer.state().verdict != Some(reason)
    {
        tracing::error!(peer = %peer.id, reason = reason.slug(), "the peer must re-bootstrap");
        inner.alarm(&peer.id, Alarm::PeerMustRebootstrap);
    }
    let seen = PeerFact { store: hello.store, boot: hello.boot, position: hello.position };
    let is_news = remembered.is_none_or(|known| {
        (known.store, known.boot) != (seen.store, seen.boot) || known.position < seen.position
    });
    // Before its present boot is remembered: whoever knows that one must know that those are over, or a hello that one of them
    // has said, and that comes late, looks as if the disk had gone back.
    let ended = hello.boots.iter().filter(|boot| boot.ended_at.is_some());
    let ended = ended.map(|boot| boot.id).filter(|boot| *boot != hello.boot).collect();
    peer.state().ended_boots = ended;
    if is_news {
        // Queued behind the pages that came from the peer's earlier boot: the clock that goes back has them.
        // Of a peer that must re-bootstrap nothing is remembered, but it is told of its ops all the same.
        let fact = Request::Remember(Fact::Peer(peer.id.clone(), seen));
        let batch = if verdict.is_none() { vec![fact] } else { Vec::new() };
        submit(&*inner.store, batch).await.map_err(slug)?;
    }
    let may_take_more = retry_dead_letters(inner, peer, hello).await?;
    let trust = inner.gate.trust(&peer.id);
    let (is_to_be_drained_again, is_first_mismatch) = {
        let mut state = peer.state();
        let is_same_boot = state.hello.is_some_and(|known| known.boot == hello.boot);
        if !is_same_boot {
            if !is_planted(Defect::BelieveOldBoots) {
                state.clock = NodeClock::new();
            }
            state.clock_is_whole = false;
        }
        if let Some(clock) = clock {
            state.clock.join(clock);
            state.clock_is_whole = true;
        }
        state.remembers = remembers;
        state.verdict = verdict;
        state.rebootstrapping = hello.rebootstrapping;
        state.hello = Some(PeerHello {
            boot: hello.boot,
            store: hello.store,
            skew_ms: skew_ms(sent_at, inner.wall.now()),
        });
        state.said_scope = Some(hello.replica_scope.clone());
        let is_mismatched = state.is_mismatched(&trust);
        let was_told = std::mem::replace(&mut state.mismatch_told, is_mismatched);
        let is_first_mismatch = is_mismatched && !was_told;
        let is_whole_now = !hello.rebootstrapping && state.drained == Some(DrainedPeer::Rebootstrapping);
        if is_whole_now {
            state.drained = None;
        }
        (is_whole_now, is_first_mismatch)
    };
    if is_first_mismatch {
        let said = &hello.replica_scope;
        tracing::error!(peer = %peer.id, %said, "the peer keeps something else than it is enrolled with");
        inner.alarm(&peer.id, Alarm::ScopeMismatch);
    }
    if is_to_be_drained_again || may_take_more {
        peer.tell(LinkEvent::Resync);
    }
    inner.hello_learned.notify_waiters();
    heed(inner, peer, hello, remembers).await
}

/// What the peer refused for what it is goes to it once more when the peer takes other ops than it did, as far as is known:
/// also once after a start of this node. Gives whether there was anything.
async fn retry_dead_letters(inner: &Inner, peer: &Peer, hello: &Hello) -> Result<bool, Slug> {
    // Known before the letters are looked at: one that comes after that look is found out by whoever records it.
    if peer.state().acceptance.replace(hello.acceptance) == Some(hello.acceptance) {
        return Ok(false);
    }
    let facts = &inner.snapshot().facts;
    if !facts.dead_letters_of(&peer.id).any(|(_, letter)| letter.may_end()) {
        return Ok(false);
    }
    if let Err(error) = retry_letters_of(inner, peer).await {
        peer.state().acceptance = None;
        return Err(slug(error));
    }
    Ok(true)
}

/// Forgets that the peer refused ops for what it is, but for those that were given up.
///
/// # Errors
/// [`StoreError`]: it is remembered on.
pub(crate) async fn retry_letters_of(inner: &Inner, peer: &Peer) -> Result<(), StoreError> {
    submit_one(&*inner.store, Request::Remember(Fact::DeadLettersRetried(peer.id.clone()))).await.map(drop)
}

/// Why the peer must re-bootstrap, as this node sees it.
fn verdict_on(
    inner: &Inner,
    hello: &Hello,
    remembered: Option<PeerFact>,
    clock: Option<&NodeClock>,
) -> Option<RebootstrapReason> {
    let facts = &inner.snapshot().facts;
    match judge(remembered.as_ref(), &hello.claim()) {
        Standing::RolledBack(rollback) => Some(RebootstrapReason::from(rollback)),
        Standing::New => {
            let holds_data = clock.is_some_and(|clock| !clock.is_empty());
            let may_judge = facts.rebootstrap.is_none() && !facts.pristine;
            (holds_data && may_judge && !hello.rebootstrapping).then_some(RebootstrapReason::NoHistory)
        }
        Standing::Known | Standing::NewStore => None,
    }
}

/// Heeds what the peer says of this node. Whatever it is trusted with: it takes nothing from a node that must re-bootstrap
/// until that is done, so what is not heeded keeps the two apart for ever. `remembers` is what of it can be so.
async fn heed(
    inner: &Arc<Inner>,
    peer: &Peer,
    hello: &Hello,
    remembers: Option<PeerFact>,
) -> Result<(), Slug> {
    let snapshot = inner.snapshot();
    let own = own_store(&snapshot);
    // A peer that remembers a later store, made when this node's clock was ahead, takes this one for an old disk.
    let is_later_remembered = remembers.is_some_and(|remembered| remembered.store > own);
    if snapshot.facts.rebootstrap.is_some() && !is_later_remembered {
        return Ok(());
    }
    let is_void = snapshot.facts.pristine && remembers.is_some_and(|remembered| remembered.store != own);
    if is_void {
        tracing::error!(peer = %peer.id, "this mesh is not new: the peer remembers this node");
        inner.alarm(&peer.id, Alarm::NewMeshVoid);
    } else if let Some(reason) = hello.must_rebootstrap {
        tracing::error!(peer = %peer.id, reason = reason.slug(), "this node must re-bootstrap");
        inner.alarm(&peer.id, Alarm::MustRebootstrap);
    } else {
        return Ok(());
    }
    let last = remembers.map_or(own, |remembered| remembered.store.max(own));
    let created_ms = inner.wall.now().0.max(last.created_ms.saturating_add(1));
    let store = StoreId { created_ms, random: inner.gate.draw() };
    submit_one(&*inner.store, Request::Remember(Fact::RebootstrapBegun { store })).await.map_err(slug)?;
    // The epoch of before may have dots that this node has forgotten: own ops begin one anew.
    inner.epoch.store(Arc::default());
    for peer in inner.members().all() {
        // What was drained was for a re-bootstrap before this one.
        peer.state().drained = None;
        peer.tell(LinkEvent::Resync);
    }
    Ok(())
}

fn skew_ms(theirs: WallMs, ours: WallMs) -> i64 {
    let ahead = i64::try_from(theirs.0.saturating_sub(ours.0)).unwrap_or(i64::MAX);
    let behind = i64::try_from(ours.0.saturating_sub(theirs.0)).unwrap_or(i64::MAX);
    ahead - behind
}
