//! What a peer's claims about clocks are worth: what it cannot know is not believed.

use federation_core::dot::Origin;
use federation_core::dot_set::DotSet;
use federation_core::node_clock::NodeClock;
use federation_core::planted::{Defect, is_planted};
use federation_core::port::store::{ReplicaStore, Snapshot, StoreError};
use federation_core::scope::Scope;
use federation_core::session::SessionReceiver;

use crate::alarm::Alarm;
use crate::inner::Inner;
use crate::peer::Peer;
use crate::store_call::query;

/// Whether a claim names dots that its sender cannot vouch for. It is then taken not at all, and alarmed.
///
/// A claim is sound if each of its dots is held here afterwards: live, or covered by a live version (I1). The sender
/// has it so at the instant that the session fixes; what of that is live there and was lacking here came in the session;
/// so each dot is in this node's clock, or named by an op of the session, or covered by what is live here. A dot that is
/// none of these was made up: taken, it would have this node ack that op, once it is made, as one that it had before.
///
/// The peer's own clock as of its hello is no measure: it grows between the hello and the session.
///
/// # Errors
/// [`StoreError`] if the index could not be read: the claim is not to be taken now.
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
        || (keeps_everything && !unnamed.is_empty() && !uncovered(inner, unnamed).await?.is_empty());
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

async fn uncovered(inner: &Inner, dots: DotSet) -> Result<DotSet, StoreError> {
    query(&inner.store, |store: &dyn ReplicaStore, done| store.uncovered(dots, done)).await
}
