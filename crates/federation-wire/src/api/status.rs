//! Answers about more than one memory: lists, bulk writes, ops, peers, the node itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::dot::DotText;
use super::error::ErrorBody;
use super::view::{MemoryView, QuorumView};

/// `GET /api/v1/memories`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryList {
    /// In key order.
    pub memories: Vec<MemoryView>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// One row of the answer to `POST /api/v1/memories/bulk`, in the order of the input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BulkRow {
    /// Place of the row in the input, from 0.
    pub row: u64,
    /// The HTTP status the row alone would have got.
    pub status: u16,
    /// The record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The op, if one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dot: Option<DotText>,
    /// What became of its quorum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<QuorumView>,
    /// Why it was not written, or not promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

/// The answer to `DELETE /api/v1/memories/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// The record.
    pub id: String,
    /// Its namespace.
    pub namespace: String,
    /// The tombstone.
    pub dot: DotText,
    /// What became of its quorum.
    pub quorum: QuorumView,
}

/// `GET /api/v1/ops/{node}/{epoch}/{seq}`: which peers hold an op.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpStatus {
    /// The op.
    pub dot: DotText,
    /// `held` or `unknown` here; held is also what was replaced since.
    pub here: String,
    /// What each peer has come to: `held`, `pending`, `refused`, `discarded` or `not_owed`.
    pub peers: BTreeMap<String, String>,
    /// Replicas that hold it, this node included.
    pub held_by: usize,
    /// Whether every peer holds it.
    pub is_everywhere: bool,
}

/// `GET /api/v1/peers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerList {
    /// Every node that is dialled, in order of their ids.
    pub peers: Vec<PeerStatus>,
}

/// One peer as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its node id.
    pub id: String,
    /// Its peer URL; absent if it is not dialled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// `up`, `connecting` or `down`.
    pub state: String,
    /// Its running boot, 16 hexadecimal digits, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// Ops in its live lane.
    pub live_lane_ops: u64,
    /// Dots that this node has and the peer is not known to have.
    pub lacks_dots: u64,
    /// Ops that it refused for good and that nobody has given up.
    pub dead_letters: u64,
    /// Ops that it refused for good and that were given up.
    pub discarded_letters: u64,
    /// Its wall clock minus this node's in milliseconds, as of the last hello.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_skew_ms: Option<i64>,
    /// Whether what it says that it keeps is not what it is enrolled with.
    pub scope_mismatch: bool,
    /// Why it must re-bootstrap, by this node's verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub must_rebootstrap: Option<String>,
    /// Why the last attempt to reach it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// What it did that must not happen, since this node started.
    pub alarms: Vec<AlarmView>,
}

/// What a peer did that must not happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmView {
    /// The peer.
    pub peer: String,
    /// What: stable, machine-readable.
    pub alarm: String,
    /// How often since this node started.
    pub count: u64,
    /// When last, by this node's clock: RFC 3339.
    pub last_at: String,
}

/// Two ops under one dot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EquivocationView {
    /// The dot. Its origin signed both, or its key is in two hands.
    pub dot: DotText,
    /// Hash of the op that is held here, 64 hexadecimal digits.
    pub held: String,
    /// Hash of the one that was refused.
    pub refused: String,
    /// Who brought that one.
    pub peer: String,
    /// When first, by this node's clock: RFC 3339.
    pub at: String,
}

/// `GET /api/v1/origins/{node}`: what this node has of another's making.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginList {
    /// The node.
    pub node: String,
    /// Its series, in order of their epochs.
    pub series: Vec<OriginSeries>,
}

/// One series of ops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginSeries {
    /// Its epoch, 16 hexadecimal digits.
    pub epoch: String,
    /// The last number that this node has of it: what `peer revoke --accept <epoch>:<last_seq>` asks for.
    pub last_seq: u64,
    /// How many it has.
    pub dots: u64,
}

/// `GET /api/v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// This node.
    pub node: String,
    /// Version of the program.
    pub version: String,
    /// Its running boot, 16 hexadecimal digits.
    pub boot: String,
    /// This life of its data directory, 32 hexadecimal digits.
    pub store: String,
    /// `ready`, `catching_up`, `disk_full`, `store_read_only` or `stopping`.
    pub state: String,
    /// How many replicas a write has, this node included.
    pub n: usize,
    /// How many have to hold it before it is answered.
    pub w: usize,
    /// Bytes made durable since the store began.
    pub log_position: u64,
    /// Hash of the configuration, 64 hexadecimal digits; equal on nodes that agree on who is enrolled.
    pub config_version: String,
    /// Dots that this node has.
    pub dots: u64,
    /// Writes whose quorum is open.
    pub open_writes: u64,
    /// What peers did that must not happen, since the start.
    pub alarms: Vec<AlarmView>,
    /// Dots under which two ops were seen, at most 64, the first of them.
    pub equivocations: Vec<EquivocationView>,
    /// The state hash, where asked for by `?hash=true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_hash: Option<StateHashView>,
}

/// Equal on nodes that hold the same live versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHashView {
    /// blake3 over the sorted live (key, dot), 64 hexadecimal digits.
    pub hash: String,
    /// Live versions, tombstones included.
    pub versions: u64,
    /// Records that are visible.
    pub records: u64,
}
