//! What moves ops: pages of them, and the completion of a session. A push sends one of these, a pull is answered
//! by a stream of them.
//!
//! A page's ops stand behind its head as `len u32 | op bytes | len u32 | proof`, little-endian, as they were made
//! and as they are stored.

use federation_core::limits::{FRAME_BYTES_MAX, GROUP_BYTES_MAX, GROUP_OPS_MAX};
use federation_core::op::SealedOp;
use federation_core::port::store::SessionId;
use federation_core::scope::Scope;
use serde::{Deserialize, Serialize};

use super::clock_page::ClockPage;
use super::types::Wire;
use crate::codec::{self, CodecError};

/// A page of ops, or the end of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery<'a> {
    /// Ops.
    Page(Page<'a>),
    /// All has been sent.
    Complete(Box<Complete>),
}

/// Ops in the order in which they were sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<'a> {
    /// Which lane they came by.
    pub lane: Lane,
    /// Of which ops the receiver is to sign its ack, in the order of their places.
    pub receipts: Vec<ReceiptAsk>,
    /// At most [`GROUP_OPS_MAX`], and [`GROUP_BYTES_MAX`] bytes with their lengths.
    pub ops: Vec<PageOp<'a>>,
}

/// The wish for a signed ack of one op of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptAsk {
    /// Place of the op in the page.
    pub index: u32,
    /// How many nodes are to hold it: signed with the rest.
    pub needed: u16,
}

/// By which lane ops come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lane {
    /// As they are made.
    Live,
    /// What the receiver lacked when a session began.
    Backfill {
        /// The sender's session.
        session: u64,
        /// The page's number in it, from 0.
        page: u64,
    },
}

/// An op in a page: slices of what was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageOp<'a> {
    /// The op's bytes.
    pub op: &'a [u8],
    /// The proof's bytes.
    pub proof: &'a [u8],
}

/// A session's end: what the receiver's clock may claim once every page is durably handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complete {
    /// The sender's session.
    pub session: SessionId,
    /// How many pages it had.
    pub pages: u64,
    /// The claim, paged: a completion of several pages is sent as several messages, in order.
    pub claim: ClockPage,
    /// What the sender keeps.
    pub replica_scope: Scope,
    /// What the sender grants the receiver.
    pub grant: Scope,
}

impl<'a> PageOp<'a> {
    /// The op as it stands in a page.
    pub fn of(sealed: &'a SealedOp) -> Self {
        Self { op: &sealed.op.bytes, proof: &sealed.proof }
    }

    /// Bytes that it takes in a page, as [`SealedOp::size_bytes`].
    pub fn size_bytes(&self) -> usize {
        self.op.len() + self.proof.len() + 2 * LEN_BYTES
    }
}

#[derive(Serialize, Deserialize)]
enum Head {
    Page { lane: Lane, ops: u32, receipts: Vec<ReceiptAsk> },
    Complete(CompleteDto),
}

#[derive(Serialize, Deserialize)]
struct CompleteDto {
    session: u64,
    pages: u64,
    claim: ClockPage,
    replica_scope: Wire<Scope>,
    grant: Wire<Scope>,
}

const LEN_BYTES: usize = 4;

impl Page<'_> {
    /// The message's bytes. The caller keeps to the limits of a page; its receiver refuses a larger one.
    pub fn to_bytes(&self) -> Vec<u8> {
        let ops = u32::try_from(self.ops.len()).unwrap_or(u32::MAX);
        let mut out = codec::encode(&Head::Page { lane: self.lane, ops, receipts: self.receipts.clone() });
        out.reserve_exact(self.ops.iter().map(PageOp::size_bytes).sum());
        for op in &self.ops {
            for part in [op.op, op.proof] {
                out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
                out.extend_from_slice(part);
            }
        }
        out
    }
}

impl Complete {
    /// The message's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(&Head::Complete(CompleteDto {
            session: self.session.0,
            pages: self.pages,
            claim: self.claim.clone(),
            replica_scope: Wire(self.replica_scope.clone()),
            grant: Wire(self.grant.clone()),
        }))
    }
}

impl<'a> Delivery<'a> {
    /// The message's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Page(page) => page.to_bytes(),
            Self::Complete(complete) => complete.to_bytes(),
        }
    }

    /// The message that `bytes` are. The ops are slices of them, not looked into.
    ///
    /// # Errors
    /// [`CodecError`]; for a page past its limits [`CodecError::TooLarge`] before an op is read.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, CodecError> {
        match codec::decode_prefix(bytes, FRAME_BYTES_MAX)? {
            (Head::Page { lane, ops, receipts }, rest) => {
                let places = || receipts.iter().map(|ask| ask.index);
                if !places().is_sorted_by(|a, b| a < b) || places().any(|index| index >= ops) {
                    return Err(CodecError::malformed(
                        "receipts that are not in order, or of no op of the page",
                    ));
                }
                Ok(Self::Page(Page { lane, receipts, ops: read_ops(ops as usize, rest)? }))
            }
            (Head::Complete(dto), []) => Ok(Self::Complete(Box::new(Complete {
                session: SessionId(dto.session),
                pages: dto.pages,
                claim: dto.claim,
                replica_scope: dto.replica_scope.0,
                grant: dto.grant.0,
            }))),
            (Head::Complete(_), rest) => Err(CodecError::Trailing { bytes: rest.len() }),
        }
    }
}

fn read_ops(count: usize, mut rest: &[u8]) -> Result<Vec<PageOp<'_>>, CodecError> {
    if count > GROUP_OPS_MAX {
        return Err(CodecError::TooMany { count, limit: GROUP_OPS_MAX });
    }
    if rest.len() > GROUP_BYTES_MAX {
        return Err(CodecError::TooLarge { bytes: rest.len(), limit_bytes: GROUP_BYTES_MAX });
    }
    let mut ops = Vec::with_capacity(count);
    for _ in 0..count {
        let (op, behind) = read_part(rest)?;
        let (proof, behind) = read_part(behind)?;
        ops.push(PageOp { op, proof });
        rest = behind;
    }
    if rest.is_empty() { Ok(ops) } else { Err(CodecError::Trailing { bytes: rest.len() }) }
}

fn read_part(bytes: &[u8]) -> Result<(&[u8], &[u8]), CodecError> {
    let (len, rest) =
        bytes.split_first_chunk::<LEN_BYTES>().ok_or_else(|| CodecError::malformed("a page cut off"))?;
    rest.split_at_checked(u32::from_le_bytes(*len) as usize)
        .ok_or_else(|| CodecError::malformed("a page cut off"))
}
