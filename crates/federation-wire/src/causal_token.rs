//! Causal tokens: what a client has seen of one record, in the word of the node that showed it.
//!
//! A client that hands its token to another node gets nothing older there; a write with it replaces what the client had
//! read and nothing else. The signed bytes are `"federation/v1/causal-token\0" || node || key id || record || versions || seen`.
//! Any node of the mesh takes the token of any other: what it names was there, and nobody can name more than it was shown.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use federation_core::dot::Dot;
use federation_core::id::{KeyId, NodeId, RecordKey};
use federation_core::record::Version;
use federation_core::vector_clock::VectorClock;
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::keys::{BadSignature, NodeKey, PublicKey};
use crate::v1::types::Wire;

/// Characters of a token: it travels in a header. A context of the usual nine ranges takes a few hundred.
pub const CAUSAL_TOKEN_CHARS_MAX: usize = 16 * 1024;

const TOKEN_DOMAIN: &[u8] = b"federation/v1/causal-token\0";
const TOKEN_BYTES_MAX: usize = CAUSAL_TOKEN_CHARS_MAX / 4 * 3;

/// What a client has seen of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CausalToken {
    /// The record.
    pub key: RecordKey,
    /// The versions that it was shown, in order.
    pub versions: Vec<Dot>,
    /// These, and all that their writers had seen: what a write with this token replaces.
    pub seen: VectorClock,
}

/// A token and who gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCausalToken {
    /// What it says.
    pub token: CausalToken,
    /// Who says it.
    pub node: NodeId,
    key_id: KeyId,
    signature: [u8; 64],
}

/// Why a text is not a token that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CausalTokenError {
    /// It is longer than a header may be.
    #[error("the token has {chars} characters, the limit is {CAUSAL_TOKEN_CHARS_MAX}")]
    TooLarge {
        /// Its length.
        chars: usize,
    },
    /// It is not the text of a token.
    #[error("it is not a token that a node gives")]
    Malformed,
    /// No node of this mesh has signed it, or with a key that was revoked.
    #[error("no node of this mesh has signed the token")]
    Unproven,
}

#[derive(Serialize, Deserialize)]
struct Dto {
    node: Wire<NodeId>,
    key_id: Wire<KeyId>,
    key: Wire<RecordKey>,
    versions: Wire<Vec<Dot>>,
    seen: Wire<VectorClock>,
}

impl CausalToken {
    /// The token of whoever was shown these versions of a record, and no others.
    pub fn of<'a>(key: RecordKey, shown: impl IntoIterator<Item = &'a Version>) -> Self {
        let (mut versions, mut seen) = (Vec::new(), VectorClock::new());
        for version in shown {
            seen.cover(&version.dot, &version.context);
            versions.push(version.dot.clone());
        }
        Self { key, versions, seen }
    }
}

impl SignedCausalToken {
    /// `node` says so with `key`.
    pub fn sign(key: &NodeKey, node: &NodeId, token: CausalToken) -> Self {
        let key_id = key.id();
        let signature = key.sign(&message(node, key_id, &token));
        Self { token, node: node.clone(), key_id, signature }
    }

    /// The key that it names.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Checks that the owner of `key` said this. Whether that is the node named is the caller's to know.
    ///
    /// # Errors
    /// [`BadSignature`], also if another key is named.
    pub fn verify(&self, key: &PublicKey) -> Result<(), BadSignature> {
        if self.key_id != key.id() {
            return Err(BadSignature);
        }
        key.verify(&message(&self.node, self.key_id, &self.token), &self.signature)
    }

    /// The token as a client gets it: opaque, of the characters that a header may have.
    ///
    /// # Errors
    /// [`CausalTokenError::TooLarge`]: what its writers had seen is too scattered for a header.
    pub fn to_text(&self) -> Result<String, CausalTokenError> {
        let mut bytes = said(&self.node, self.key_id, &self.token);
        bytes.extend(self.signature);
        let text = URL_SAFE_NO_PAD.encode(bytes);
        if text.len() > CAUSAL_TOKEN_CHARS_MAX {
            return Err(CausalTokenError::TooLarge { chars: text.len() });
        }
        Ok(text)
    }

    /// The token that a client hands in: not verified yet.
    ///
    /// # Errors
    /// [`CausalTokenError`].
    pub fn from_text(text: &str) -> Result<Self, CausalTokenError> {
        if text.len() > CAUSAL_TOKEN_CHARS_MAX {
            return Err(CausalTokenError::TooLarge { chars: text.len() });
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CausalTokenError::Malformed)?;
        let (said, signature) = bytes.split_last_chunk().ok_or(CausalTokenError::Malformed)?;
        let said = codec::decode(said, TOKEN_BYTES_MAX).map_err(|_| CausalTokenError::Malformed)?;
        let Dto { node, key_id, key, versions, seen } = said;
        Ok(Self {
            token: CausalToken { key: key.0, versions: versions.0, seen: seen.0 },
            node: node.0,
            key_id: key_id.0,
            signature: *signature,
        })
    }
}

fn message(node: &NodeId, key_id: KeyId, token: &CausalToken) -> Vec<u8> {
    [TOKEN_DOMAIN, &said(node, key_id, token)].concat()
}

fn said(node: &NodeId, key_id: KeyId, token: &CausalToken) -> Vec<u8> {
    let CausalToken { key, versions, seen } = token;
    codec::encode(&(Wire(node), Wire(key_id), Wire(key), Wire(versions), Wire(seen)))
}
