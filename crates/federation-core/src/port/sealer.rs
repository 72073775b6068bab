//! Encoding and signing of own ops.

use std::sync::Arc;

use crate::dot::Origin;
use crate::id::OpHash;
use crate::op::{EncodedOp, Op};

/// Makes an op's bytes, once, and proves a group of them with one signature.
pub trait Sealer: Send + Sync {
    /// The canonical bytes of `op` and their hash. Pure.
    fn encode(&self, op: &Op) -> EncodedOp;

    /// Proofs for the ops of one group commit of `origin`, one for each hash, in order.
    fn seal(&self, origin: &Origin, hashes: &[OpHash]) -> Vec<Arc<[u8]>>;
}
