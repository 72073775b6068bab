//! What a node tells of itself and of its peers.

use std::collections::BTreeMap;

use federation_core::dot::{Dot, Origin};
use federation_core::id::{BootId, LogPosition, NodeId, StoreId};
use federation_core::node_clock::NodeClock;
use federation_core::port::store::Health;

use crate::alarm::{AlarmStatus, EquivocationStatus};

/// A node's state as of one moment.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// This node.
    pub node: NodeId,
    /// This start.
    pub boot: BootId,
    /// This life of the data directory.
    pub store: StoreId,
    /// The origin of own ops, once settled.
    pub origin: Option<Origin>,
    /// Nodes that count, this one included.
    pub n: usize,
    /// Nodes that must hold a write.
    pub w: usize,
    /// Whether clients are served.
    pub readiness: Readiness,
    /// What the node has.
    pub clock: NodeClock,
    /// Position of the last sync.
    pub position: LogPosition,
    /// Writes whose quorum is open.
    pub open_writes: usize,
    /// What peers did that must not happen, since the start.
    pub alarms: Vec<AlarmStatus>,
    /// Dots under which two ops were seen, the first of them.
    pub equivocations: Vec<EquivocationStatus>,
    /// Each dialled peer.
    pub peers: Vec<PeerStatus>,
}

/// Whether clients are served, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// They are.
    Ready,
    /// The node re-bootstraps: it acks pushes, and serves clients once enough peers are drained.
    CatchingUp {
        /// Peers drained so far.
        drained: usize,
        /// Peers needed.
        needed: usize,
    },
    /// The store takes no writes.
    Store(Health),
    /// The node is shutting down.
    Stopping,
}

impl Readiness {
    /// Stable, for machines.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::CatchingUp { .. } => "catching_up",
            Self::Store(Health::DiskFull) => "disk_full",
            Self::Store(_) => "store_read_only",
            Self::Stopping => "stopping",
        }
    }
}

/// A dialled peer as seen from here.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// The peer.
    pub id: NodeId,
    /// Where it is dialled.
    pub url: String,
    /// `up`, `down` or `connecting`.
    pub state: LinkState,
    /// Its boot, once known.
    pub boot: Option<BootId>,
    /// Its store, once known.
    pub store: Option<StoreId>,
    /// Dots that this node has and the peer is not known to have.
    pub backlog_ops: u64,
    /// Ops waiting in the live lane or under way.
    pub live_lane_ops: usize,
    /// Whether a session delivers to it.
    pub session: bool,
    /// Why it last failed: a stable slug.
    pub last_error: Option<&'static str>,
    /// Whether this node holds that the peer must re-bootstrap, and why.
    pub must_rebootstrap: Option<&'static str>,
    /// Whether what it says that it keeps is not what it is enrolled with: until that is mended, no session to it is
    /// claimed complete.
    pub scope_mismatch: bool,
    /// Its wall clock minus this node's, in milliseconds, as of the last hello.
    pub clock_skew_ms: Option<i64>,
}

/// State of the link to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Hello answered; ops flow.
    Up,
    /// An attempt is under way.
    Connecting,
    /// The last attempt failed.
    Down,
}

impl LinkState {
    /// Stable, for machines.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Connecting => "connecting",
            Self::Down => "down",
        }
    }
}

/// Which nodes hold an op.
#[derive(Clone, Debug)]
pub struct OpStatus {
    /// The op.
    pub dot: Dot,
    /// Whether this node has it: live, replaced or collected.
    pub here: bool,
    /// What is known of it at each dialled peer.
    pub peers: BTreeMap<NodeId, OpAtPeer>,
}

/// What is known of an op at a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpAtPeer {
    /// The peer holds it durably, or a version that replaced it.
    Held,
    /// Not known to be there yet; delivery goes on.
    Pending,
    /// Refused for good there.
    Refused,
    /// Refused for good there, and given up.
    Discarded,
    /// Not to be had there: outside the scopes, or replaced by what the peer was given.
    NotOwed,
}

impl OpAtPeer {
    /// Stable, for machines.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Pending => "pending",
            Self::Refused => "refused",
            Self::Discarded => "discarded",
            Self::NotOwed => "not_owed",
        }
    }
}
