//! Ops: the unit of replication. An op is a whole version of a record, never a difference.

use std::sync::Arc;

use crate::dot::Dot;
use crate::embedding::Embedding;
use crate::hlc::Hlc;
use crate::id::{AgentId, OpHash, RecordKey};
use crate::vector_clock::VectorClock;

/// One version of one record, as its origin made it. Its bytes are made once and never re-encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Op {
    /// Its name.
    pub dot: Dot,
    /// When it was made, and who wins among concurrent versions.
    pub hlc: Hlc,
    /// The record.
    pub key: RecordKey,
    /// Who wrote it.
    pub author: AgentId,
    /// What the writer had seen of the record.
    pub context: VectorClock,
    /// What it says.
    pub body: Body,
}

/// What an op says.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// The record has this content.
    Put {
        /// The record's bytes; for a `memory` a UTF-8 JSON object without its vector.
        payload: Arc<[u8]>,
        /// The vector that the origin's model made of it.
        embedding: Option<Embedding>,
        /// Whether it is put away: kept and replicated, not listed.
        archived: bool,
    },
    /// The record is deleted.
    Delete,
}

impl Body {
    /// Whether it is a [`Body::Put`].
    pub fn is_put(&self) -> bool {
        matches!(self, Body::Put { .. })
    }
}

/// An op's bytes as its origin made them, with the hash over them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedOp {
    /// The canonical encoding.
    pub bytes: Arc<[u8]>,
    /// Its domain-separated hash.
    pub hash: OpHash,
}

/// An op that anyone can verify: its bytes and the origin's proof, stored and passed on untouched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedOp {
    /// The op.
    pub op: EncodedOp,
    /// The encoded proof: key id, count, signed root, leaf index, path.
    pub proof: Arc<[u8]>,
}

impl SealedOp {
    /// Bytes that it takes in the log or in a page.
    pub fn size_bytes(&self) -> usize {
        self.op.bytes.len() + self.proof.len() + 8
    }
}
