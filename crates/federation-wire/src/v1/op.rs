//! The bytes of an op: made once, at its origin, and never re-encoded.

use std::sync::Arc;

use federation_core::embedding::{Embedding, Normalisation};
use federation_core::id::OpHash;
use federation_core::limits::{OP_BYTES_MAX, PAYLOAD_BYTES_MAX};
use federation_core::op::{Body, EncodedOp, Op};
use serde::{Deserialize, Serialize, Serializer};

use super::types::Wire;
use crate::codec::{self, Blob, CodecError};
use crate::embedding::{VectorFault, check_signed};

const OP_DOMAIN: &[u8] = b"federation/v1/op\0";

/// Why bytes are not an op.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// They do not decode.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The payload is larger than a record's may be.
    #[error("the payload takes {bytes} bytes, the limit is {limit_bytes}")]
    PayloadTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
}

/// An op read from its bytes, and what was wrong with its vector.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadOp {
    /// The op. It has no embedding if the one it ships is of no use.
    pub op: Op,
    /// Why the shipped vector was left out.
    pub vector_fault: Option<VectorFault>,
}

/// The hash of an op's bytes: `blake3("federation/v1/op\0" || bytes)`.
pub fn op_hash(bytes: &[u8]) -> OpHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(OP_DOMAIN).update(bytes);
    OpHash(*hasher.finalize().as_bytes())
}

/// The bytes of `op` and their hash.
pub fn encode_op(op: &Op) -> EncodedOp {
    let body = match &op.body {
        Body::Put { payload, embedding, archived } => BodyOut::Put {
            payload: Blob(payload),
            embedding: embedding.as_ref().map(EmbeddingOut::of),
            archived: *archived,
        },
        Body::Delete => BodyOut::Delete,
    };
    let bytes = codec::encode(&(
        Wire(&op.dot),
        Wire(op.hlc),
        Wire(&op.key),
        Wire(&op.author),
        Wire(&op.context),
        body,
    ));
    let hash = op_hash(&bytes);
    EncodedOp { bytes: Arc::from(bytes), hash }
}

/// The op that `bytes` are. A shipped vector of no use is left out: the record is not the worse for it.
///
/// # Errors
/// [`OpError`] if `bytes` are not the one encoding of a valid op within the limits.
pub fn decode_op(bytes: &[u8]) -> Result<Op, OpError> {
    read_op(bytes).map(|read| read.op)
}

/// As [`decode_op`], and says what was wrong with the vector.
///
/// # Errors
/// As [`decode_op`].
pub fn read_op(bytes: &[u8]) -> Result<ReadOp, OpError> {
    let (Wire(dot), Wire(hlc), Wire(key), Wire(author), Wire(context), body) =
        codec::decode(bytes, OP_BYTES_MAX)?;
    let (body, vector_fault) = read_body(body)?;
    Ok(ReadOp { op: Op { dot, hlc, key, author, context, body }, vector_fault })
}

fn read_body(body: BodyIn<'_>) -> Result<(Body, Option<VectorFault>), OpError> {
    let BodyIn::Put { payload: Blob(payload), embedding, archived } = body else {
        return Ok((Body::Delete, None));
    };
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(OpError::PayloadTooLarge { bytes: payload.len(), limit_bytes: PAYLOAD_BYTES_MAX });
    }
    let (embedding, fault) = match embedding.map(EmbeddingIn::read).transpose()? {
        None => (None, None),
        Some(signed) => match check_signed(&signed) {
            Ok(()) => (Some(signed), None),
            Err(fault) => (None, Some(fault)),
        },
    };
    Ok((Body::Put { payload: Arc::from(payload), embedding, archived }, fault))
}

#[derive(Serialize)]
enum BodyOut<'a> {
    Put { payload: Blob<'a>, embedding: Option<EmbeddingOut<'a>>, archived: bool },
    Delete,
}

#[derive(Deserialize)]
enum BodyIn<'a> {
    Put {
        #[serde(borrow)]
        payload: Blob<'a>,
        embedding: Option<EmbeddingIn<'a>>,
        archived: bool,
    },
    Delete,
}

#[derive(Serialize)]
struct EmbeddingOut<'a> {
    model: &'a str,
    dim: u32,
    normalisation: NormalisationDto,
    vector: Floats<'a>,
}

impl<'a> EmbeddingOut<'a> {
    fn of(embedding: &'a Embedding) -> Self {
        Self {
            model: &embedding.model,
            dim: u32::try_from(embedding.vector.len()).unwrap_or(u32::MAX),
            normalisation: embedding.normalisation.into(),
            vector: Floats(&embedding.vector),
        }
    }
}

#[derive(Deserialize)]
struct EmbeddingIn<'a> {
    model: &'a str,
    dim: u32,
    normalisation: NormalisationDto,
    vector: Blob<'a>,
}

#[derive(Serialize, Deserialize)]
enum NormalisationDto {
    UnitL2,
    UnitL2Scaled,
}

impl From<Normalisation> for NormalisationDto {
    fn from(normalisation: Normalisation) -> Self {
        match normalisation {
            Normalisation::UnitL2 => Self::UnitL2,
            Normalisation::UnitL2Scaled => Self::UnitL2Scaled,
        }
    }
}

impl From<NormalisationDto> for Normalisation {
    fn from(dto: NormalisationDto) -> Self {
        match dto {
            NormalisationDto::UnitL2 => Self::UnitL2,
            NormalisationDto::UnitL2Scaled => Self::UnitL2Scaled,
        }
    }
}

impl EmbeddingIn<'_> {
    fn read(self) -> Result<Embedding, CodecError> {
        let (floats, rest) = self.vector.0.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(CodecError::malformed("a vector whose bytes are not a multiple of four"));
        }
        // The dimension is signed; one that is not the vector's would be a second form of the same vector.
        if usize::try_from(self.dim) != Ok(floats.len()) {
            return Err(CodecError::malformed("a vector of another dimension than it names"));
        }
        let vector = floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Ok(Embedding { model: Arc::from(self.model), normalisation: self.normalisation.into(), vector })
    }
}

/// Components as one run of little-endian bytes.
struct Floats<'a>(&'a [f32]);

impl Serialize for Floats<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|component| component.to_le_bytes()).collect();
        serializer.serialize_bytes(&bytes)
    }
}
