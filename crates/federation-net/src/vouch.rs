//! What a peer's claims about clocks are worth: what it cannot know is not believed.

use federation_core::dot::Origin;
use federation_core::dot_set::DotSet;
use federation_core::id::StoreId;
use federation_core::limits::STORE_AHEAD_MAX;
use federation_core::node_clock::NodeClock;
use federation_core::planted::{Defect, is_planted};
use federation_core::port::store::{Done, ReplicaStore, Snapshot, StoreError};
use federation_core::scope::Scope;
use federation_core::session::SessionReceiver;

use crate::alarm::Alarm;
use crate::inner::Inner;
use crate::peer::Peer;
use crate::store_call::query;

/// What it costs a peer, in frames, that its claim is looked up in the index: a look-up reads up to the whole of it. An honest
/// peer claims nearly always what its session names, which is looked up nowhere.
const LOOK_UP_COST: f64 = 100.0;

/// Whether a claim names dots that its sender cannot vouch for. It is then taken not at all, and alarmed.
///
/// A claim is sound if each of its dots is held here afterwards: live, or covered by a live version (I1). The sender
/// has it so at the instant that the session fixes; what of that is live there and was lacking here came in the session;
/// so each dot is in this node's clock, or named by an op of the session, or covered by what is live here. A dot that is
/// none of these was made up: taken, it would have this node ack that op, once it is made, as one that it had before.
///
/// The peer's own clock as of its hello is no measure: it grows between the hello and the session.
///
/// What has to be looked up is paid for out of the peer's rate, and nothing more is looked up for it meanwhile: whatever it
/// claims, it keeps no more than one of the store's readers busy.
///
/// # Errors
/// [`StoreError`] if the index could not be read, [`StoreError::Busy`] if it is being read for the peer: the claim is not to be
/// taken now.
pub(crate) async fn is_beyond(
    inner: &Inner,
    peer: &Peer,
    receiver: &SessionReceiver,
    claimed: &NodeClock,
) -> Result<bool, StoreError> {
    // Without the rules of what may be claimed, this is what would find it out: the defects are of both.
    let planted = [Defect::CompleteOverRefused, Defect::CompleteOverContexts, Defect::BelieveOldBoots];
    if planted.into_iter().any(is_planted) {
        return Ok(false);
    }
    let settled = settled_origin(inner);
    let snapshot = inner.snapshot();
    let news = claimed.minus(&snapshot.clock);
    // Of what it does not keep, a node has dots in its clock that nothing here covers.
    let keeps_everything = snapshot.facts.replica_scope.covers(&Scope::everything());
    let unnamed = receiver.unnamed(&news);
    let is_beyond = unmade(settled.as_ref(), &news).is_some()
        || (keeps_everything && !unnamed.is_empty() && !uncovered(inner, peer, unnamed).await?.is_empty());
    if is_beyond {
        inner.alarm(&peer.id, Alarm::CompletionBeyond);
    }
    Ok(is_beyond)
}

/// The clock that a peer says it has, without dots of this node that it cannot have: those are alarmed.
pub(crate) fn believable(inner: &Inner, peer: &Peer, clock: NodeClock) -> NodeClock {
    let settled = settled_origin(inner);
    let snapshot = inner.snapshot();
    match unmade(settled.as_ref(), &clock.minus(&snapshot.clock)) {
        None => clock,
        Some(unmade) => {
            inner.alarm(&peer.id, Alarm::HelloBeyond);
            NodeClock::from(clock.minus(&unmade))
        }
    }
}

/// Whether a store that the peer names in hello is of a time that may have come. If not, it is alarmed.
///
/// Stores of a node are told apart by the time of their creation, and the later one is the node's. One of the end of time, once
/// remembered or taken over, leaves no later one: the node would be held for an old disk of itself ever after.
pub(crate) fn is_of_its_time(inner: &Inner, peer: &Peer, store: StoreId) -> bool {
    let latest = inner.wall.now().0.saturating_add(STORE_AHEAD_MAX.0);
    let is_of_its_time = store.created_ms <= latest;
    if !is_of_its_time {
        inner.alarm(&peer.id, Alarm::HelloBeyond);
    }
    is_of_its_time
}

/// The origin of this node's own ops, once it is settled: from then on nobody has a dot of it before this node's clock
/// does. Before that a peer may know of ops that this disk has lost, and after a new epoch has begun, of the old ones.
fn settled_origin(inner: &Inner) -> Option<Origin> {
    // Looked at before the snapshot, which is then at least as new.
    if !inner.epoch.load().initialized() {
        return None;
    }
    let Snapshot { facts, .. } = &*inner.snapshot();
    facts.own_origin(&inner.config.node)
}

/// The dots of `settled` among `news`, which this node's clock lacks.
fn unmade(settled: Option<&Origin>, news: &DotSet) -> Option<DotSet> {
    let origin = settled?;
    let mut unmade = DotSet::new();
    for range in news.seqs(origin)?.ranges() {
        unmade.insert_range(origin, *range);
    }
    Some(unmade)
}

async fn uncovered(inner: &Inner, peer: &Peer, dots: DotSet) -> Result<DotSet, StoreError> {
    let right = peer.begin_look_up().ok_or(StoreError::Busy)?;
    inner.gate.charge(&peer.id, LOOK_UP_COST);
    let ask = |store: &dyn ReplicaStore, done: Done<_>| {
        // Whoever asked may be gone before the reader is through.
        let done = Box::new(move |result| {
            drop(right);
            done(result);
        });
        store.uncovered(dots, done);
    };
    query(&inner.store, ask).await
}
