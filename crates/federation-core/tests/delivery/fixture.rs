//! Small ops to deliver.

use std::sync::Arc;

use federation_core::dot::{Dot, Origin};
use federation_core::hlc::Hlc;
use federation_core::id::{AgentId, BootId, Kind, Namespace, NodeId, OpHash, RecordId, RecordKey};
use federation_core::op::{Body, EncodedOp, Op, SealedOp};
use federation_core::port::store::Written;
use federation_core::vector_clock::VectorClock;

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(crate) fn dot(seq: u64) -> Dot {
    Dot { origin: Origin { node: node("a"), epoch: BootId(1) }, seq }
}

pub(crate) fn hash(seq: u64) -> OpHash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seq.to_le_bytes());
    OpHash(bytes)
}

/// An op of `bytes` bytes, about.
pub(crate) fn op_of(seq: u64, bytes: usize) -> Arc<Written> {
    let key = RecordKey {
        namespace: Namespace::new("n").unwrap(),
        kind: Kind::memory(),
        id: RecordId::new(&format!("r{seq}")).unwrap(),
    };
    let op = Op {
        dot: dot(seq),
        hlc: Hlc::from_bits(seq),
        key,
        author: AgentId::new("t").unwrap(),
        context: VectorClock::new(),
        body: Body::Delete,
    };
    let op_bytes: Arc<[u8]> = vec![0; bytes].into();
    let sealed = SealedOp { op: EncodedOp { bytes: op_bytes, hash: hash(seq) }, proof: Arc::from([]) };
    Arc::new(Written { op, sealed })
}

pub(crate) fn op(seq: u64) -> Arc<Written> {
    op_of(seq, 100)
}
