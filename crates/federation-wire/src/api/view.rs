//! A memory as a client sees it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use federation_core::embedding::{Embedding, EmbeddingSpace, SpaceMatch, space_match};
use federation_core::op::{Body, Op};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::dot::DotText;
use super::receipt::QuorumReceipt;
use crate::memory::{JsonObjectError, parse_payload};

/// A memory: what identifies it, its fields as they were written, and on a write what became of its quorum.
///
/// A field of the payload that has the name of one of these is not shown: these say what is so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryView {
    /// The record's id.
    pub id: String,
    /// Its namespace.
    pub namespace: String,
    /// The op that is visible.
    pub dot: DotText,
    /// When it was made: `<milliseconds>.<counter>`.
    pub hlc: String,
    /// Who wrote it.
    pub author: String,
    /// Whether it is put away.
    pub archived: bool,
    /// Whether other versions of it are live that say something else: written concurrently, and to be resolved
    /// (`GET /api/v1/conflicts`). Said where one memory is read or resolved; absent means no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub conflict: bool,
    /// What became of the quorum, on a write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<QuorumView>,
    /// The vector, where asked for by `?include=embedding`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<EmbeddingView>,
    /// Title, content and the other fields of the payload.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// What became of a write's quorum when it was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumView {
    /// Replicas that held it, this node included.
    pub got: usize,
    /// Replicas that had to.
    pub needed: usize,
    /// What each peer had come to.
    pub peers: BTreeMap<String, String>,
    /// The signed acks, where asked for by `x-quorum-receipt: 1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<QuorumReceipt>,
}

/// A vector, and whether this node's index has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbeddingView {
    /// The model that made it.
    pub model: String,
    /// How many components it has.
    pub dim: usize,
    /// `unit_l2`: as the model gave it; `unit_l2_scaled`: divided by its norm where it was written.
    pub normalisation: String,
    /// Whether it is of the space that this node indexes.
    pub indexed: bool,
    /// base64 of f32 little-endian.
    pub vector_base64: String,
}

const OWN_FIELDS: [&str; 9] =
    ["id", "namespace", "dot", "hlc", "author", "archived", "conflict", "quorum", "embedding"];

/// Whether a view shows the vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    /// Fields alone.
    Fields,
    /// Fields and vector.
    Embedding,
}

impl MemoryView {
    /// The view of an op that is a Put, at a node that indexes `own` space; none for a Delete.
    ///
    /// # Errors
    /// [`JsonObjectError`] if the payload is not a memory's: it was never admitted as one.
    pub fn of(
        op: &Op,
        include: Include,
        own: Option<&EmbeddingSpace>,
    ) -> Result<Option<Self>, JsonObjectError> {
        let Body::Put { payload, embedding, archived } = &op.body else { return Ok(None) };
        let mut fields = parse_payload(payload)?;
        for own in OWN_FIELDS {
            fields.remove(own);
        }
        let shown = embedding.as_ref().filter(|_| include == Include::Embedding);
        Ok(Some(Self {
            id: op.key.id.to_string(),
            namespace: op.key.namespace.to_string(),
            dot: DotText(op.dot.clone()),
            hlc: op.hlc.to_string(),
            author: op.author.to_string(),
            archived: *archived,
            conflict: false,
            quorum: None,
            embedding: shown.map(|embedding| EmbeddingView::of(embedding, own)),
            fields,
        }))
    }
}

impl EmbeddingView {
    /// The view of a vector at a node that indexes `own` space.
    pub fn of(embedding: &Embedding, own: Option<&EmbeddingSpace>) -> Self {
        let bytes: Vec<u8> = embedding.vector.iter().flat_map(|component| component.to_le_bytes()).collect();
        Self {
            model: embedding.model.to_string(),
            dim: embedding.vector.len(),
            normalisation: embedding.normalisation.slug().to_owned(),
            indexed: space_match(own, embedding) == SpaceMatch::Indexed,
            vector_base64: STANDARD.encode(bytes),
        }
    }
}
