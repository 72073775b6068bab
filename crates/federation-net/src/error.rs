//! What a node answers when it does not do what it was asked.

use std::collections::BTreeMap;

use federation_core::decide::WriteRefusal;
use federation_core::dot::Dot;
use federation_core::id::NodeId;
use federation_core::port::store::StoreError;
use federation_core::quorum::ack_tracker::{PeerOutcome, Reason};

use crate::status::Readiness;

/// Why a node did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// `w` does not fit `n`.
    #[error("the quorum needs {w} nodes, but {n} count (this node and its peers)")]
    Quorum {
        /// Nodes that must hold a write.
        w: usize,
        /// Nodes that count.
        n: usize,
    },
    /// This node stands among its own peers.
    #[error("{node} is this node and stands among its own peers")]
    SelfPeer {
        /// The node.
        node: NodeId,
    },
    /// A peer stands there twice.
    #[error("{node} stands among the peers twice")]
    DuplicatePeer {
        /// The peer.
        node: NodeId,
    },
    /// A dialled peer is not enrolled.
    #[error("{node} is not enrolled")]
    NotEnrolled {
        /// The peer.
        node: NodeId,
    },
}

/// Why a write was not answered OK.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WriteError {
    /// Nothing was written: the condition did not hold, or a limit was passed.
    #[error("{0}")]
    Refused(WriteRefusal),
    /// Nothing was written: clients are not served now.
    #[error("the node does not serve clients now: {}", .0.slug())]
    NotServing(Readiness),
    /// The store could not: nothing was written, unless it is [`StoreError::InDoubt`].
    #[error("{0}")]
    Store(StoreError),
    /// Nothing was written: too many writes wait for their quorum.
    #[error("{open} writes wait for their quorum, the limit is {limit}")]
    Busy {
        /// Writes that wait.
        open: usize,
        /// The limit.
        limit: usize,
    },
    /// Nothing was written: the namespace is none that this node keeps.
    #[error("this node does not keep the namespace")]
    OutOfScope,
    /// Nothing was written: the namespace has fewer replicas than the write needs.
    #[error("the write needs {needed} nodes, the namespace has {n}")]
    InsufficientPeers {
        /// Nodes needed.
        needed: usize,
        /// Nodes that replicate the namespace.
        n: usize,
    },
    /// Written and durable here, and will reach the peers; the promised number did not confirm in time.
    #[error("{} of {} nodes hold the write", .0.got, .0.needed)]
    QuorumNotMet(Box<QuorumNotMet>),
}

/// A write that is durable here and was not promised to the caller.
#[derive(Clone, Debug, PartialEq)]
pub struct QuorumNotMet {
    /// The op: `GET /api/v1/ops/...` tells how it goes on.
    pub dot: Dot,
    /// Nodes that confirmed, this one included.
    pub got: usize,
    /// Nodes needed.
    pub needed: usize,
    /// Why.
    pub reason: Reason,
    /// What came of each peer.
    pub peers: BTreeMap<NodeId, PeerOutcome>,
}

/// Why a read was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Clients are not served now.
    #[error("the node does not serve clients now: {}", .0.slug())]
    NotServing(Readiness),
    /// The store could not.
    #[error("{0}")]
    Store(StoreError),
}

/// Why nothing was done about a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LetterError {
    /// The peer has not refused such an op, or it was replaced since.
    #[error("there is no such dead letter")]
    NoSuchLetter,
    /// The peer is not dialled: nothing goes to it.
    #[error("the peer is not dialled")]
    NotDialled,
    /// The store did not do what it was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}
