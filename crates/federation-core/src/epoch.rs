//! Which origin a node's own ops carry after a start.
//!
//! A series of dots may go on only on the disk on which it was left: on an older one some of its numbers are given
//! already, to ops that this disk has lost. Two things tell. A disk that was left in order says so in its last record,
//! so that an image of a running node's disk never passes for it. And a peer that has seen a boot in which the series
//! went on does not know a disk without that boot, so that an image of a disk that was left in order does not either.

use crate::dot::Origin;
use crate::id::{BootId, NodeId};
use crate::node_clock::NodeClock;
use crate::planted::{Defect, is_planted};

/// The epoch that own ops carried last, as the node's disk tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastEpoch {
    /// There is none: no own op was made yet, or the node re-bootstraps and a client may still name what it has lost.
    None,
    /// A boot that had it has ended without order: the disk may be an image of what it was before its last ops.
    Interrupted(BootId),
    /// Every boot that had it has ended in order.
    Unbroken(BootId),
}

/// What an enrolled peer said by the time the epoch is settled.
#[derive(Clone, Copy, Debug)]
pub enum PeerKnowledge<'a> {
    /// It has not said that it remembers this boot, durably.
    Silent,
    /// It remembers this boot, and this is its clock.
    Knows(&'a NodeClock),
}

/// The origin of this node's next own op.
///
/// The last epoch goes on only if each boot that had it has ended in order, and every enrolled, not removed peer
/// remembers this boot and knows no more of the epoch than this node does; else a new one begins. Asking `n - w + 1`
/// peers would not do: an op short of its quorum may be on the one that was not asked.
///
/// An epoch whose numbers are used up ends too.
pub fn settle<'a>(
    node: &NodeId,
    boot: BootId,
    last: LastEpoch,
    clock: &NodeClock,
    peers: impl IntoIterator<Item = PeerKnowledge<'a>>,
) -> Origin {
    let fresh = Origin { node: node.clone(), epoch: boot };
    let epoch = match last {
        LastEpoch::None => return fresh,
        LastEpoch::Interrupted(epoch) | LastEpoch::Unbroken(epoch) => epoch,
    };
    let continued = Origin { node: node.clone(), epoch };
    let own = clock.max_seq(&continued);
    let has_room = own < u64::MAX;
    let is_confirmed = matches!(last, LastEpoch::Unbroken(_))
        && peers.into_iter().all(|peer| match peer {
            PeerKnowledge::Silent => false,
            PeerKnowledge::Knows(theirs) => theirs.max_seq(&continued) <= own,
        });
    if has_room && (is_confirmed || is_planted(Defect::ReuseEpoch)) { continued } else { fresh }
}
