//! Signed acks: what a node says of an op that it holds, so that anyone can check it later with its public key alone.
//!
//! The signed bytes are `"federation/v1/receipt\0" || node || key id || dot || hash || status || needed || position || at`.
//! They depend on no frame and no connection. The text form of several of them is [`crate::api::receipt`].

use federation_core::dot::Dot;
use federation_core::id::{KeyId, LogPosition, NodeId, OpHash};
use federation_core::quorum::ack_tracker::AckStatus;
use federation_core::time::WallMs;

use crate::codec;
use crate::keys::{BadSignature, NodeKey, PublicKey};
use crate::v1::ack::AckOutcome;
use crate::v1::types::Wire;

const RECEIPT_DOMAIN: &[u8] = b"federation/v1/receipt\0";

/// What an ack is about: the same for all that sign for one write, but for status and position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The op.
    pub dot: Dot,
    /// Hash of its bytes.
    pub hash: OpHash,
    /// What became of it: live here, had before, or replaced by a version that had seen it.
    pub status: AckStatus,
    /// How many nodes were to hold it, as whoever asked says.
    pub needed: u16,
    /// The signer's log position after the sync that covers it.
    pub position: LogPosition,
}

/// A signature without what it is over: as it travels in an ack, beside what it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckSignature {
    /// The key that signed.
    pub key_id: KeyId,
    /// When, by the signer's clock.
    pub at: WallMs,
    /// Ed25519.
    pub signature: [u8; 64],
}

/// A node's signed word that an op is durable there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedAck {
    /// Who says it.
    pub node: NodeId,
    /// What it says.
    pub held: Held,
    /// Its signature.
    pub signature: AckSignature,
}

impl SignedAck {
    /// `node` says, with `key`, that it holds this. The caller has synced it.
    pub fn sign(key: &NodeKey, node: &NodeId, held: Held, at: WallMs) -> Self {
        let signature = key.sign(&message(node, &held, key.id(), at));
        Self { node: node.clone(), held, signature: AckSignature { key_id: key.id(), at, signature } }
    }

    /// Checks that the owner of `key` said this. Whether that is the node named is the caller's to know.
    ///
    /// # Errors
    /// [`BadSignature`], also if another key is named.
    pub fn verify(&self, key: &PublicKey) -> Result<(), BadSignature> {
        let AckSignature { key_id, at, signature } = &self.signature;
        if *key_id != key.id() {
            return Err(BadSignature);
        }
        key.verify(&message(&self.node, &self.held, *key_id, *at), signature)
    }
}

fn message(node: &NodeId, held: &Held, key_id: KeyId, at: WallMs) -> Vec<u8> {
    let mut message = RECEIPT_DOMAIN.to_vec();
    let said = (
        Wire(node),
        Wire(key_id),
        Wire(&held.dot),
        Wire(held.hash),
        AckOutcome::from(held.status),
        held.needed,
        Wire(held.position),
        Wire(at),
    );
    codec::encode_into(&said, &mut message);
    message
}
