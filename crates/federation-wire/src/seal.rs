//! The proof of an op: its origin signed, once, the Merkle root over a group of its ops.
//!
//! The signed bytes are `"federation/v1/group\0" || origin || key id || count || root`. The proof's bytes are
//! `key id 8 | count u32 | root signature 64 | leaf index u32 | path`, little-endian; the path's length follows from
//! count and index, so that each proof has one encoding.

use std::collections::BTreeSet;
use std::sync::Arc;

use federation_core::dot::{Dot, Origin};
use federation_core::id::{KeyId, OpHash};
use federation_core::limits::{GROUP_OPS_MAX, PROOF_BYTES_MAX};
use federation_core::op::{EncodedOp, Op};
use federation_core::port::sealer::Sealer;

use crate::codec;
use crate::identity::KeyRefusal;
use crate::keys::{NodeKey, PublicKey};
use crate::merkle::{self, Hash, Tree};
use crate::v1::op::encode_op;
use crate::v1::types::Wire;

const GROUP_DOMAIN: &[u8] = b"federation/v1/group\0";
const FIXED_BYTES: usize = 8 + 4 + 64 + 4;
/// Hashes on the longest path, of a full group.
const PATH_LEN_MAX: usize = GROUP_OPS_MAX.ilog2() as usize;

const _: () = assert!(GROUP_OPS_MAX.is_power_of_two());
const _: () = assert!(FIXED_BYTES + PATH_LEN_MAX * 32 <= PROOF_BYTES_MAX);

/// Seals this node's own ops with its key.
#[derive(Clone, Debug)]
pub struct GroupSealer {
    key: Arc<NodeKey>,
}

impl GroupSealer {
    /// Seals with `key`.
    pub fn new(key: Arc<NodeKey>) -> Self {
        Self { key }
    }
}

impl Sealer for GroupSealer {
    fn encode(&self, op: &Op) -> EncodedOp {
        encode_op(op)
    }

    /// A group past [`GROUP_OPS_MAX`] is sealed as several, with a signature each.
    fn seal(&self, origin: &Origin, hashes: &[OpHash]) -> Vec<Arc<[u8]>> {
        hashes.chunks(GROUP_OPS_MAX).flat_map(|group| seal_group(&self.key, origin, group)).collect()
    }
}

fn seal_group(key: &NodeKey, origin: &Origin, group: &[OpHash]) -> Vec<Arc<[u8]>> {
    let tree = Tree::new(group);
    let count = count_of(group.len());
    let signature = key.sign(&group_message(origin, key.id(), count, &tree.root()));
    let proof = |(index, _)| {
        let proof =
            Proof { key_id: key.id(), count, signature, index: count_of(index), path: tree.path(index) };
        Arc::from(proof.to_bytes())
    };
    group.iter().enumerate().map(proof).collect()
}

/// A place in a group, which has at most [`GROUP_OPS_MAX`].
fn count_of(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

fn group_message(origin: &Origin, key_id: KeyId, count: u32, root: &Hash) -> Vec<u8> {
    let mut message = GROUP_DOMAIN.to_vec();
    codec::encode_into(&Wire(origin), &mut message);
    message.extend_from_slice(&key_id.0);
    message.extend_from_slice(&count.to_le_bytes());
    message.extend_from_slice(root);
    message
}

/// Why an op is not proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The bytes are not a proof.
    #[error("the proof is malformed")]
    Malformed,
    /// A group larger than any that is sealed.
    #[error("the proof is of a group of {count}, the limit is {limit}")]
    GroupTooLarge {
        /// Ops of the group.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// The origin has no key of that id.
    #[error("the origin has no key {key_id}")]
    UnknownKey {
        /// The key that the proof names.
        key_id: KeyId,
    },
    /// The key is revoked, and the op is not among those still taken under it.
    #[error("the key {key_id} is revoked")]
    KeyRevoked {
        /// The key that the proof names.
        key_id: KeyId,
    },
    /// The root's signature is not by that key, or the op is not under that root.
    #[error("the proof does not prove the op")]
    Invalid,
}

/// A proof, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The key that signed the root.
    pub key_id: KeyId,
    /// Ops of the group, 1 to [`GROUP_OPS_MAX`].
    pub count: u32,
    /// Over the group.
    pub signature: [u8; 64],
    /// Place of the op in the group, below `count`.
    pub index: u32,
    path: Vec<Hash>,
}

impl Proof {
    /// The proof that `bytes` are.
    ///
    /// # Errors
    /// [`ProofError::Malformed`] or [`ProofError::GroupTooLarge`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ProofError> {
        let (key_id, rest) = bytes.split_first_chunk().ok_or(ProofError::Malformed)?;
        let (count, rest) = rest.split_first_chunk().ok_or(ProofError::Malformed)?;
        let (signature, rest) = rest.split_first_chunk().ok_or(ProofError::Malformed)?;
        let (index, rest) = rest.split_first_chunk().ok_or(ProofError::Malformed)?;
        let (count, index) = (u32::from_le_bytes(*count), u32::from_le_bytes(*index));
        if count as usize > GROUP_OPS_MAX {
            return Err(ProofError::GroupTooLarge { count: count as usize, limit: GROUP_OPS_MAX });
        }
        let (path, rest) = rest.as_chunks::<32>();
        let exact = rest.is_empty()
            && index < count
            && path.len() == merkle::path_len(index as usize, count as usize);
        if !exact {
            return Err(ProofError::Malformed);
        }
        Ok(Self { key_id: KeyId(*key_id), count, signature: *signature, index, path: path.to_vec() })
    }

    /// The proof's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_BYTES + self.path.len() * 32);
        out.extend_from_slice(&self.key_id.0);
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.signature);
        out.extend_from_slice(&self.index.to_le_bytes());
        for hash in &self.path {
            out.extend_from_slice(hash);
        }
        out
    }
}

/// Verifies proofs, each root's signature once. Made for one page: what it remembers is bounded by what it verifies.
///
/// `lookup` tells the key under which the op of a dot may be sealed, by the key's id. It is asked for every op: a root
/// that is verified says nothing of which of its ops are still taken.
pub struct ProofVerifier<L> {
    lookup: L,
    verified: BTreeSet<(Origin, KeyId, u32, Hash)>,
}

impl<L> ProofVerifier<L>
where
    L: Fn(&Dot, KeyId) -> Result<PublicKey, KeyRefusal>,
{
    /// Has verified nothing yet.
    pub fn new(lookup: L) -> Self {
        Self { lookup, verified: BTreeSet::new() }
    }

    /// How many roots it has verified by their signatures and remembers.
    pub fn roots(&self) -> usize {
        self.verified.len()
    }

    /// Checks that the origin of `dot` sealed the op of this hash.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn verify(&mut self, dot: &Dot, op: &OpHash, proof: &[u8]) -> Result<(), ProofError> {
        let proof = Proof::from_bytes(proof)?;
        let (origin, key_id) = (&dot.origin, proof.key_id);
        let key = (self.lookup)(dot, key_id).map_err(|refusal| match refusal {
            KeyRefusal::Unknown => ProofError::UnknownKey { key_id },
            KeyRefusal::Revoked => ProofError::KeyRevoked { key_id },
        })?;
        let (index, count) = (proof.index as usize, proof.count as usize);
        let root = merkle::root_of(op, index, count, &proof.path).ok_or(ProofError::Malformed)?;
        // The signature is part of the name: the one of another proof of the same group, if wrong, must fail.
        let seen = (origin.clone(), proof.key_id, proof.count, signature_digest(&root, &proof.signature));
        if self.verified.contains(&seen) {
            return Ok(());
        }
        let message = group_message(origin, proof.key_id, proof.count, &root);
        key.verify(&message, &proof.signature).map_err(|_| ProofError::Invalid)?;
        if self.verified.len() < GROUP_OPS_MAX {
            self.verified.insert(seen);
        }
        Ok(())
    }
}

fn signature_digest(root: &Hash, signature: &[u8; 64]) -> Hash {
    *blake3::Hasher::new().update(root).update(signature).finalize().as_bytes()
}

/// Checks one proof alone.
///
/// # Errors
/// [`ProofError`].
pub fn verify_proof(
    dot: &Dot,
    op: &OpHash,
    proof: &[u8],
    lookup: impl Fn(&Dot, KeyId) -> Result<PublicKey, KeyRefusal>,
) -> Result<(), ProofError> {
    ProofVerifier::new(lookup).verify(dot, op, proof)
}
