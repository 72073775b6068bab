//! What a node is told when it starts. Already validated: net opens no file and reads no flag.

use std::time::Duration;

use federation_core::id::NodeId;
use federation_core::limits::{NONCES_PER_PEER_MAX, PEER_FRAMES_BURST, PEER_FRAMES_PER_SECOND};
use federation_core::quorum::levels::WriteLevels;
use federation_wire::identity::{Directory, PeerUrl};

use crate::rate::Rate;

const PEER_RATE: Rate = Rate::new(PEER_FRAMES_PER_SECOND, PEER_FRAMES_BURST);

/// A node's part in the mesh.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// This node.
    pub node: NodeId,
    /// The peers that are dialled and count in `n`.
    pub peers: Vec<PeerEndpoint>,
    /// How many nodes, this one included, must hold a write before it is answered OK.
    pub write_levels: WriteLevels,
    /// How long a write waits for its quorum, from the call.
    pub ack_timeout: Duration,
    /// How often each peer is asked for what was missed; none: only at start, on a peer's return and after trouble.
    pub catchup_interval: Option<Duration>,
    /// How long the first own write after a start waits for the peers' hellos before a new epoch begins.
    pub hello_wait: Duration,
    /// Skew of a peer's wall clock beyond which a warning is logged.
    pub clock_skew_warn: Duration,
    /// Frames that each peer may send.
    pub peer_rate: Rate,
    /// Frames of each peer that are remembered against replay, at 32 bytes each. The default covers the default rate and no
    /// more; with fewer, a peer within its rate may be refused.
    pub peer_nonces: usize,
}

/// Who takes part in a mesh, as an operator has it now: what a node takes in without a restart.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Who is enrolled, without this node.
    pub directory: Directory,
    /// Those who are dialled and count in `n`.
    pub peers: Vec<PeerEndpoint>,
    /// How many nodes must hold a write.
    pub write_levels: WriteLevels,
}

/// A dialled peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerEndpoint {
    /// The node that is to answer there.
    pub id: NodeId,
    /// Its peer URL, for the transport.
    pub url: PeerUrl,
}

impl NodeConfig {
    /// A config with the defaults: majority, 2 s, catch-up every 30 s, 500 ms for hellos.
    pub fn new(node: NodeId, peers: Vec<PeerEndpoint>) -> Self {
        Self {
            node,
            peers,
            write_levels: WriteLevels::default(),
            ack_timeout: Duration::from_secs(2),
            catchup_interval: Some(Duration::from_secs(30)),
            hello_wait: Duration::from_millis(500),
            clock_skew_warn: Duration::from_secs(5),
            peer_rate: PEER_RATE,
            peer_nonces: NONCES_PER_PEER_MAX,
        }
    }
}
