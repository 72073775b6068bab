//! Which origin a node's own ops carry after a start.

use crate::dot::Origin;
use crate::id::{BootId, NodeId};
use crate::node_clock::NodeClock;
use crate::planted::{Defect, is_planted};

/// What an enrolled peer said of itself by the time the epoch is settled.
#[derive(Clone, Copy, Debug)]
pub enum PeerKnowledge<'a> {
    /// It did not answer hello.
    Silent,
    /// It answered, and this is its clock.
    Knows(&'a NodeClock),
}

/// The origin of this node's next own op.
///
/// The last epoch goes on only if every enrolled, not removed peer has answered and knows no more of it
/// than this node does; else a new one begins. Asking `n - w + 1` peers would not do: an op short of its
/// quorum may be on the one that was not asked.
///
/// `last` is none where the node re-bootstraps: what it has lost, a client may still name. An epoch whose numbers
/// are used up ends too.
pub fn settle<'a>(
    node: &NodeId,
    boot: BootId,
    last: Option<BootId>,
    clock: &NodeClock,
    peers: impl IntoIterator<Item = PeerKnowledge<'a>>,
) -> Origin {
    let fresh = Origin { node: node.clone(), epoch: boot };
    let Some(epoch) = last else { return fresh };
    let continued = Origin { node: node.clone(), epoch };
    let own = clock.max_seq(&continued);
    let has_room = own < u64::MAX;
    let confirmed = peers.into_iter().all(|peer| match peer {
        PeerKnowledge::Silent => false,
        PeerKnowledge::Knows(theirs) => theirs.max_seq(&continued) <= own,
    });
    if has_room && (confirmed || is_planted(Defect::ReuseEpoch)) { continued } else { fresh }
}
