//! The push: a [`super::delivery::Delivery`] is sent, and this comes back.

use federation_core::dot::Dot;
use federation_core::id::{KeyId, LogPosition, OpHash};
use federation_core::limits::GROUP_OPS_MAX;
use federation_core::time::WallMs;
use serde::de::Error;
use serde::{Deserialize, Serialize};

use super::ack::{AckNote, AckOutcome, OpAck};
use super::types::Wire;
use crate::codec::{self, Blob, CodecError};
use crate::receipt::AckSignature;

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushAnswer {
    /// The receiver's log position after the sync that made the ops durable.
    pub position: LogPosition,
    /// One for each op of a page, in its order; empty for a completion.
    pub acks: Vec<OpAck>,
    /// What became of a completion; none for a page.
    pub completion: Option<Completion>,
}

/// What became of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Completion {
    /// The receiver's clock claims all of it.
    Merged,
    /// The receiver's clock claims the sender's own dots of it: the scopes allow no more.
    MergedOwn,
    /// The receiver's clock claims nothing of it: the scopes do not allow it.
    NotMerged,
    /// A page of the claim was taken; the next is awaited.
    PartTaken,
    /// Pages of the session are missing: it is to be repeated.
    Incomplete {
        /// How many pages were handled.
        handled: u64,
    },
    /// The session is not known here, or the boots have changed: it is to be repeated.
    UnknownSession,
    /// Refused: it claims dots that its sender cannot vouch for.
    Beyond,
}

#[derive(Serialize, Deserialize)]
struct Dto {
    position: Wire<LogPosition>,
    acks: Wire<Vec<OpAck>>,
    completion: Option<Completion>,
}

#[derive(Deserialize)]
struct AckDto {
    dot: Wire<Option<Dot>>,
    hash: Wire<OpHash>,
    outcome: AckOutcome,
    note: Option<AckNote>,
    signature: Wire<Option<AckSignature>>,
}

/// Bytes of the largest answer: an ack takes less than 256.
const ANSWER_BYTES_MAX: usize = 64 + GROUP_OPS_MAX * 256;

impl PushAnswer {
    /// The message's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(&(Wire(self.position), Wire(&self.acks), self.completion))
    }

    /// The message that `bytes` are.
    ///
    /// # Errors
    /// [`CodecError`]; [`CodecError::TooMany`] for more acks than a page has ops.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let dto: Dto = codec::decode(bytes, ANSWER_BYTES_MAX)?;
        let Wire(acks) = dto.acks;
        if acks.len() > GROUP_OPS_MAX {
            return Err(CodecError::TooMany { count: acks.len(), limit: GROUP_OPS_MAX });
        }
        Ok(Self { position: dto.position.0, acks, completion: dto.completion })
    }
}

impl super::types::ToWire for OpAck {
    fn to_wire<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (Wire(&self.dot), Wire(self.hash), self.outcome, self.note, Wire(&self.signature))
            .serialize(serializer)
    }
}

impl super::types::FromWire for OpAck {
    fn from_wire<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let AckDto { dot: Wire(dot), hash: Wire(hash), outcome, note, signature: Wire(signature) } =
            Deserialize::deserialize(deserializer)?;
        Ok(Self { dot, hash, outcome, note, signature })
    }
}

impl super::types::ToWire for AckSignature {
    fn to_wire<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (Wire(self.key_id), Wire(self.at), Blob(&self.signature)).serialize(serializer)
    }
}

impl super::types::FromWire for AckSignature {
    fn from_wire<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (Wire(key_id), Wire(at), Blob(signature)): (Wire<KeyId>, Wire<WallMs>, Blob<'_>) =
            Deserialize::deserialize(deserializer)?;
        let signature = signature.try_into().map_err(|_| D::Error::custom("a signature has 64 bytes"))?;
        Ok(Self { key_id, at, signature })
    }
}
