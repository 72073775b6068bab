//! Quorum receipts: the signed acks of one write as text, and their check without a network.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use federation_core::id::{KeyId, LogPosition, NodeId, OpHash};
use federation_core::limits::NODES_MAX;
use federation_core::quorum::ack_tracker::AckStatus;
use federation_core::time::WallMs;
use serde::{Deserialize, Serialize};

use super::dot::DotText;
use crate::hex;
use crate::identity::{EnrolledKey, KeyState};
use crate::receipt::{AckSignature, Held, SignedAck};
use crate::v1::ack::AckOutcome;

/// The form of a receipt.
const VERSION: u32 = 1;

/// The answer to `x-quorum-receipt: 1`: who has signed that it holds the op of a write.
///
/// It proves that so many holders of enrolled keys have said so. Dot and hash name the op; `federationd verify --ops`
/// prints both for what a node's log holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuorumReceipt {
    /// 1.
    pub version: u32,
    /// The op.
    pub dot: DotText,
    /// blake3 of its bytes with their domain, 64 hexadecimal digits.
    pub hash: String,
    /// Nodes that had to hold it.
    pub needed: u16,
    /// One for each node, the one that took the write first.
    pub acks: Vec<ReceiptAck>,
}

/// A node's signed word: all that is signed, and the signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptAck {
    /// Who says it.
    pub node: String,
    /// Its key's id, 16 hexadecimal digits.
    pub key: String,
    /// The op that it holds.
    pub dot: DotText,
    /// Hash of what it holds.
    pub hash: String,
    /// `applied`, `duplicate` or `superseded`.
    pub status: String,
    /// Nodes that had to hold it, as it was told.
    pub needed: u16,
    /// Its log position after the sync that covers the op, in bytes.
    pub position: u64,
    /// When it signed, by its own clock.
    pub at_ms: u64,
    /// Ed25519, base64url without padding.
    pub signature: String,
}

/// Why a receipt cannot be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Another form than this program knows.
    #[error("the receipt has version {found}, this program knows {VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// It asks for no node, or for more than a mesh has.
    #[error("the receipt is of {needed} nodes, possible are 1 to {limit}")]
    Needed {
        /// How many it asks for.
        needed: u16,
        /// The limit.
        limit: usize,
    },
    /// More acks than a mesh has nodes.
    #[error("the receipt has {count} acks, the limit is {limit}")]
    TooMany {
        /// How many it has.
        count: usize,
        /// The limit.
        limit: usize,
    },
}

/// Why an ack of a receipt proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AckFault {
    /// A field is not one.
    #[error("{field} is malformed")]
    Malformed {
        /// The field.
        field: &'static str,
    },
    /// It is of another op.
    #[error("it is an ack of another dot than the receipt's")]
    OtherDot,
    /// It is of other bytes.
    #[error("it is an ack of another hash than the receipt's")]
    OtherHash,
    /// It was asked for another number of nodes.
    #[error("its signer was told of another number of nodes than the receipt's")]
    OtherNeeded,
    /// The node has signed once already.
    #[error("this node stands there already: one node counts once")]
    DoubledSigner,
    /// Nobody of that name is enrolled with that key.
    #[error("no key {key_id} is enrolled for this node")]
    UnknownKey {
        /// The key that it names.
        key_id: KeyId,
    },
    /// The key was revoked: what it signed may be of whoever took it.
    #[error("the key {key_id} of this node is revoked")]
    RevokedKey {
        /// The key.
        key_id: KeyId,
    },
    /// The key did not sign this.
    #[error("the signature is not of this statement under this node's key")]
    SignatureInvalid,
}

/// What came of one ack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedAck {
    /// Who is said to have signed.
    pub node: String,
    /// The proven statement with the key that proves it, or why there is none.
    pub verdict: Result<(SignedAck, EnrolledKey), AckFault>,
}

/// What a receipt proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptReport {
    /// Nodes that had to sign.
    pub needed: usize,
    /// One for each ack of the receipt, in its order.
    pub acks: Vec<CheckedAck>,
}

impl ReceiptReport {
    /// Distinct nodes whose word is proven.
    pub fn proven(&self) -> usize {
        self.acks.iter().filter(|ack| ack.verdict.is_ok()).count()
    }

    /// Whether they are as many as had to sign.
    pub fn holds(&self) -> bool {
        self.proven() >= self.needed
    }
}

impl QuorumReceipt {
    /// The receipt of these acks, which are all of one op; none without any.
    pub fn of(acks: &[SignedAck]) -> Option<Self> {
        let Held { dot, hash, needed, .. } = acks.first()?.held.clone();
        let acks = acks.iter().map(ReceiptAck::of).collect();
        Some(Self { version: VERSION, dot: DotText(dot), hash: hex::write(&hash.0), needed, acks })
    }

    /// Checks each ack with the public keys alone. `key` tells the enrolled key of a node by its id, retired ones too:
    /// a key that was rotated since proves what it signed, one that was revoked proves nothing.
    ///
    /// # Errors
    /// [`ReceiptError`]: it was not looked at.
    pub fn check(
        &self,
        key: impl Fn(&NodeId, KeyId) -> Option<EnrolledKey>,
    ) -> Result<ReceiptReport, ReceiptError> {
        if self.version != VERSION {
            return Err(ReceiptError::Version { found: self.version });
        }
        let (needed, count) = (usize::from(self.needed), self.acks.len());
        if needed == 0 || needed > NODES_MAX {
            return Err(ReceiptError::Needed { needed: self.needed, limit: NODES_MAX });
        }
        if count > NODES_MAX {
            return Err(ReceiptError::TooMany { count, limit: NODES_MAX });
        }
        let mut signers = BTreeSet::new();
        let acks = self.acks.iter().map(|ack| {
            let proven = self.prove(ack, &key);
            let verdict = proven.and_then(|proven| {
                if signers.insert(proven.0.node.clone()) { Ok(proven) } else { Err(AckFault::DoubledSigner) }
            });
            CheckedAck { node: ack.node.clone(), verdict }
        });
        Ok(ReceiptReport { needed, acks: acks.collect() })
    }

    fn prove(
        &self,
        ack: &ReceiptAck,
        key: impl Fn(&NodeId, KeyId) -> Option<EnrolledKey>,
    ) -> Result<(SignedAck, EnrolledKey), AckFault> {
        let signed = ack.read()?;
        if signed.held.dot != self.dot.0 {
            return Err(AckFault::OtherDot);
        }
        if hex::read(&self.hash) != Some(signed.held.hash.0) {
            return Err(AckFault::OtherHash);
        }
        if signed.held.needed != self.needed {
            return Err(AckFault::OtherNeeded);
        }
        let key_id = signed.signature.key_id;
        let key = key(&signed.node, key_id).ok_or(AckFault::UnknownKey { key_id })?;
        if key.state == KeyState::Revoked {
            return Err(AckFault::RevokedKey { key_id });
        }
        signed.verify(&key.public).map_err(|_| AckFault::SignatureInvalid)?;
        Ok((signed, key))
    }
}

impl ReceiptAck {
    fn of(ack: &SignedAck) -> Self {
        let SignedAck { node, held, signature } = ack;
        Self {
            node: node.to_string(),
            key: hex::write(&signature.key_id.0),
            dot: DotText(held.dot.clone()),
            hash: hex::write(&held.hash.0),
            status: AckOutcome::from(held.status).slug().to_owned(),
            needed: held.needed,
            position: held.position.0,
            at_ms: signature.at.0,
            signature: URL_SAFE_NO_PAD.encode(signature.signature),
        }
    }

    fn read(&self) -> Result<SignedAck, AckFault> {
        let bad = |field| AckFault::Malformed { field };
        let status = [AckStatus::Applied, AckStatus::Duplicate, AckStatus::Superseded]
            .into_iter()
            .find(|status| AckOutcome::from(*status).slug() == self.status);
        let signature = URL_SAFE_NO_PAD.decode(&self.signature).ok();
        Ok(SignedAck {
            node: NodeId::new(&self.node).map_err(|_| bad("node"))?,
            held: Held {
                dot: self.dot.0.clone(),
                hash: OpHash(hex::read(&self.hash).ok_or(bad("hash"))?),
                status: status.ok_or(bad("status"))?,
                needed: self.needed,
                position: LogPosition(self.position),
            },
            signature: AckSignature {
                key_id: KeyId(hex::read(&self.key).ok_or(bad("key"))?),
                at: WallMs(self.at_ms),
                signature: signature.and_then(|bytes| bytes.try_into().ok()).ok_or(bad("signature"))?,
            },
        })
    }
}
