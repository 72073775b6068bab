//! What an eavesdropper has, and what can be cut out of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use federation_core::dot::{Dot, Origin};
use federation_core::id::{BootId, NodeId, RecordId, StoreId};
use federation_core::limits::GROUP_OPS_MAX;
use federation_core::op::{Body, Op, SealedOp};
use federation_core::port::sealer::Sealer as _;
use federation_core::port::store::Boot;
use federation_core::time::WallMs;
use federation_daemon::random::system_rng;
use federation_wire::frame::{self, Envelope, FrameKind, Nonce, ReceivedFrame, Route};
use federation_wire::keys::{NodeKey, PublicKey};
use federation_wire::seal::GroupSealer;
use federation_wire::v1::delivery::{Delivery, Lane, Page, PageOp};
use federation_wire::v1::hello::Hello;
use federation_wire::v1::op::{decode_op, encode_op, op_hash};
use rand::Rng as _;

use crate::recorder::Recorded;

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SIGNATURE_BYTES: usize = 64;

/// A node as an attacker sees it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) id: NodeId,
    pub(crate) boot: BootId,
    pub(crate) address: SocketAddr,
    pub(crate) key: PublicKey,
}

/// Somebody whose key the attacker has.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    pub(crate) id: NodeId,
    pub(crate) key: Arc<NodeKey>,
    pub(crate) boot: BootId,
}

/// All that attacks are made of.
pub(crate) struct Loot {
    pub(crate) victim: Place,
    /// Another node of the mesh.
    pub(crate) other: Place,
    /// Connections of an honest node to the victim, whole.
    pub(crate) connections: Vec<Recorded>,
    /// Requests on them that arrived.
    pub(crate) frames: Vec<Vec<u8>>,
    /// What the victim answered.
    pub(crate) answers: Vec<Vec<u8>>,
    /// Pushes that were sent and never arrived: their nonces are unseen.
    pub(crate) undelivered: Vec<Vec<u8>>,
    /// Enrolled, with `accept = ["team/*"]`, one author, one kind, and no other trust.
    pub(crate) mallory: Sender,
    /// Of nobody who is enrolled.
    pub(crate) stranger: Sender,
}

impl Loot {
    /// Ops of the honest node with their proofs, as they stand in recorded pages.
    pub(crate) fn ops(&self) -> Vec<SealedOp> {
        self.frames.iter().flat_map(|frame| ops_of(frame)).collect()
    }

    /// A recorded op as if mallory had made it, within all that mallory may.
    pub(crate) fn op_of_mallory(&self, seq: u64) -> Op {
        let mut op = decode_op(&self.ops()[0].op.bytes).unwrap();
        op.dot = Dot { origin: self.mallory.origin(), seq };
        op.author = AUTHOR.parse().unwrap();
        let recorded = std::mem::replace(&mut op.key.id, format!("forged-{seq}").parse().unwrap());
        op.body = under_another_id(op.body, &recorded, &op.key.id);
        op
    }

    /// A frame of mallory to the victim with a page of these parts.
    pub(crate) fn page_of_mallory(&self, parts: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        self.mallory.sends(&self.victim, Route::Push, &page(parts))
    }

    /// The same, of an op that mallory seals whatever it says.
    pub(crate) fn sealed_by_mallory(&self, op: &[u8]) -> Vec<u8> {
        self.page_of_mallory(&[(op.to_vec(), self.mallory.proof(&self.mallory.origin(), op))])
    }

    /// A page as full as can be of an op of mallory's with wrong proofs, each of which is another signature to verify.
    pub(crate) fn page_of_wrong_proofs(&self, seq: u64) -> Vec<u8> {
        let op = encode_op(&self.op_of_mallory(seq)).bytes.to_vec();
        let proof = self.mallory.proof(&self.mallory.origin(), b"another op");
        let wrong = |at: usize| {
            let mut proof = proof.clone();
            proof[12 + at % 32] ^= u8::try_from(at / 32 + 1).unwrap();
            (op.clone(), proof)
        };
        self.page_of_mallory(&(0..GROUP_OPS_MAX).map(wrong).collect::<Vec<_>>())
    }

    /// A hello of `sender`, made of a recorded one.
    pub(crate) fn hello_of(&self, sender: &Sender) -> Hello {
        let is_hello = |frame: &&Vec<u8>| envelope(frame).route == Route::Hello;
        let recorded = self.frames.iter().find(is_hello).unwrap();
        let mut hello = Hello::from_bytes(body(recorded)).unwrap();
        hello.node = sender.id.clone();
        hello.boot = sender.boot;
        hello.boots = vec![Boot { id: sender.boot, ended_at: None }];
        hello.store = StoreId { created_ms: 1, random: 1 };
        hello.remembers = None;
        hello
    }
}

/// Whom mallory may speak for.
pub(crate) const AUTHOR: &str = "ai:mallory";

impl Sender {
    pub(crate) fn new(name: &str, key: Arc<NodeKey>) -> Self {
        Self { id: NodeId::new(name).unwrap(), key, boot: BootId(0xbad_b007) }
    }

    pub(crate) fn origin(&self) -> Origin {
        Origin { node: self.id.clone(), epoch: self.boot }
    }

    /// A frame that is as it should be, made now.
    pub(crate) fn sends(&self, to: &Place, route: Route, body: &[u8]) -> Vec<u8> {
        let envelope = Envelope {
            kind: FrameKind::Request,
            route,
            sender: self.id.clone(),
            sender_boot: self.boot,
            recipient: to.id.clone(),
            recipient_boot: to.boot,
            sent_at: now(),
            nonce: nonce(),
        };
        frame::seal(&self.key, envelope, body)
    }

    /// This key's proof that `origin` made the op.
    pub(crate) fn proof(&self, origin: &Origin, op: &[u8]) -> Vec<u8> {
        GroupSealer::new(Arc::clone(&self.key)).seal(origin, &[op_hash(op)])[0].to_vec()
    }
}

/// A page of the live lane.
pub(crate) fn page(parts: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let ops = parts.iter().map(|(op, proof)| PageOp { op, proof }).collect();
    Page { lane: Lane::Live, receipts: Vec::new(), ops }.to_bytes()
}

pub(crate) fn envelope(frame: &[u8]) -> Envelope {
    ReceivedFrame::parse(frame).unwrap().header().envelope.clone()
}

pub(crate) fn body(frame: &[u8]) -> &[u8] {
    let body_len = ReceivedFrame::parse(frame).unwrap().header().body.len as usize;
    let end = frame.len() - SIGNATURE_BYTES;
    &frame[end - body_len..end]
}

/// The frame with another envelope, under the signature that it had.
pub(crate) fn with_envelope(frame: &[u8], change: impl FnOnce(&mut Envelope)) -> Vec<u8> {
    let header = ReceivedFrame::parse(frame).unwrap().header().clone();
    let mut envelope = header.envelope;
    change(&mut envelope);
    let mut changed = frame::seal_for_channel(header.key_id, envelope, body(frame));
    changed.extend_from_slice(&frame[frame.len() - SIGNATURE_BYTES..]);
    changed
}

/// The frame without its signature.
pub(crate) fn unsigned(frame: &[u8]) -> Vec<u8> {
    frame[..frame.len() - SIGNATURE_BYTES].to_vec()
}

fn ops_of(frame: &[u8]) -> Vec<SealedOp> {
    if envelope(frame).route != Route::Push {
        return Vec::new();
    }
    let Ok(Delivery::Page(page)) = Delivery::from_bytes(body(frame)) else { return Vec::new() };
    let sealed = |op: &PageOp<'_>| SealedOp {
        op: federation_core::op::EncodedOp { bytes: Arc::from(op.op), hash: op_hash(op.op) },
        proof: Arc::from(op.proof),
    };
    page.ops.iter().map(sealed).collect()
}

/// The body of a memory, which says its own id, under another one.
pub(crate) fn under_another_id(body: Body, old: &RecordId, new: &RecordId) -> Body {
    let Body::Put { payload, embedding, archived } = body else { return body };
    let text = std::str::from_utf8(&payload).unwrap().replace(old.as_str(), new.as_str());
    Body::Put { payload: Arc::from(text.into_bytes()), embedding, archived }
}

/// The bodies on one side of a recorded HTTP/2 connection, and where in the record each begins.
pub(crate) fn bodies(side: &[u8]) -> Vec<(usize, Vec<u8>)> {
    const HEAD_BYTES: usize = 9;
    const DATA: u8 = 0;
    let mut at = if side.starts_with(HTTP2_PREFACE) { HTTP2_PREFACE.len() } else { 0 };
    let mut streams: BTreeMap<u32, (usize, Vec<u8>)> = BTreeMap::new();
    while let Some(head) = side.get(at..at + HEAD_BYTES) {
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let Some(payload) = side.get(at + HEAD_BYTES..at + HEAD_BYTES + len) else { break };
        if head[3] == DATA && !payload.is_empty() {
            streams.entry(stream).or_insert((at, Vec::new())).1.extend_from_slice(payload);
        }
        at += HEAD_BYTES + len;
    }
    streams.into_values().collect()
}

pub(crate) fn now() -> WallMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    WallMs(u64::try_from(since.as_millis()).unwrap())
}

pub(crate) fn nonce() -> Nonce {
    let mut random = system_rng();
    Nonce(u128::from(random.next_u64()) << 64 | u128::from(random.next_u64()))
}
