//! One sample of everything that has bytes, and how to read it again.

use std::sync::Arc;

use federation_core::dot::{Dot, Origin};
use federation_core::dot_set::DotSet;
use federation_core::embedding::{Embedding, Normalisation};
use federation_core::hlc::Hlc;
use federation_core::id::{
    AgentId, BootId, Kind, LogPosition, Namespace, NodeId, OpHash, RecordId, RecordKey, StoreId,
};
use federation_core::op::{Body, Op, SealedOp};
use federation_core::port::sealer::Sealer;
use federation_core::port::store::{Boot, PeerFact, SessionId};
use federation_core::scope::Scope;
use federation_core::time::WallMs;
use federation_core::vector_clock::VectorClock;
use federation_wire::codec;
use federation_wire::frame::{self, Envelope, FrameKind, Nonce, ReceivedFrame, Route};
use federation_wire::keys::NodeKey;
use federation_wire::receipt::AckSignature;
use federation_wire::seal::{GroupSealer, Proof};
use federation_wire::slug::Slug;
use federation_wire::v1::ack::{AckNote, AckOutcome, OpAck, OpRefusal, VectorRefusal};
use federation_wire::v1::clock_page::ClockPage;
use federation_wire::v1::delivery::{Complete, Delivery, Lane, Page, PageOp, ReceiptAsk};
use federation_wire::v1::hello::{Hello, HelloAnswer, PeerLimits, RebootstrapReason, Versions};
use federation_wire::v1::nack::Nack;
use federation_wire::v1::op::{encode_op, read_op};
use federation_wire::v1::pull::PullRequest;
use federation_wire::v1::push::{Completion, PushAnswer};

/// Bytes of one kind, and the function that reads them and writes what it read.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) again: fn(&[u8]) -> Option<Vec<u8>>,
}

pub(crate) fn key() -> NodeKey {
    NodeKey::from_seed(&[1; 32])
}

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(crate) fn origin(name: &str, epoch: u64) -> Origin {
    Origin { node: node(name), epoch: BootId(epoch) }
}

pub(crate) fn dot(name: &str, epoch: u64, seq: u64) -> Dot {
    Dot { origin: origin(name, epoch), seq }
}

pub(crate) fn dots(all: &[(&str, u64, u64)]) -> DotSet {
    all.iter().map(|(name, epoch, seq)| dot(name, *epoch, *seq)).collect()
}

pub(crate) fn op(seq: u64, body: Body) -> Op {
    let context = dots(&[("node-a", 7, 1), ("node-a", 7, 2), ("node-a", 7, 4), ("node-b", 3, 9)]);
    Op {
        dot: dot("node-a", 7, seq),
        hlc: Hlc::from_bits((1_790_000_000_000 << 16) | 5),
        key: RecordKey {
            namespace: Namespace::new("team/größe").unwrap(),
            kind: Kind::memory(),
            id: RecordId::new("m-1").unwrap(),
        },
        author: AgentId::new("ai:agent@host").unwrap(),
        context: VectorClock::from(context),
        body,
    }
}

pub(crate) fn put(embedding: Option<Embedding>) -> Body {
    let payload = br#"{"title":"t","content":"c","id":"m-1","namespace":"team/gr\u00f6\u00dfe"}"#;
    Body::Put { payload: Arc::from(*payload), embedding, archived: false }
}

pub(crate) fn embedding() -> Embedding {
    Embedding {
        model: Arc::from("mini-lm"),
        normalisation: Normalisation::UnitL2,
        vector: Arc::from([0.6_f32, -0.8, 0.0]),
    }
}

/// Ops of one group of three.
pub(crate) fn sealed() -> Vec<SealedOp> {
    let sealer = GroupSealer::new(Arc::new(key()));
    let bodies = [put(Some(embedding())), put(None), Body::Delete];
    let encoded: Vec<_> =
        bodies.into_iter().zip(5..).map(|(body, seq)| sealer.encode(&op(seq, body))).collect();
    let hashes: Vec<_> = encoded.iter().map(|op| op.hash).collect();
    let proofs = sealer.seal(&origin("node-a", 7), &hashes);
    encoded.into_iter().zip(proofs).map(|(op, proof)| SealedOp { op, proof }).collect()
}

pub(crate) fn envelope() -> Envelope {
    Envelope {
        kind: FrameKind::Request,
        route: Route::Push,
        sender: node("node-a"),
        sender_boot: BootId(7),
        recipient: node("node-b"),
        recipient_boot: BootId(3),
        sent_at: WallMs(1_790_000_000_000),
        nonce: Nonce(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
    }
}

fn hello() -> Hello {
    Hello {
        node: node("node-a"),
        store: StoreId { created_ms: 1_780_000_000_000, random: 9 },
        boot: BootId(7),
        boots: vec![
            Boot { id: BootId(6), ended_at: Some(LogPosition(4_096)) },
            Boot { id: BootId(7), ended_at: None },
        ],
        versions: Versions::SPOKEN,
        limits: PeerLimits::OWN,
        config_version: [8; 32],
        replica_scope: Scope::everything(),
        acceptance: [9; 32],
        rebootstrapping: false,
        must_rebootstrap: Some(RebootstrapReason::BehindWithinBoot),
        position: LogPosition(8_192),
        clock: ClockPage::of(&dots(&[("node-a", 7, 1), ("node-b", 3, 1), ("node-b", 3, 2)]), None),
        clock_wanted_after: Some(dot("node-b", 3, 9)),
        remembers: Some(PeerFact {
            store: StoreId { created_ms: 1_770_000_000_000, random: 4 },
            boot: BootId(3),
            position: LogPosition(77),
        }),
    }
}

fn push_answer() -> PushAnswer {
    let signature = AckSignature { key_id: key().id(), at: WallMs(1_790_000_000_123), signature: [7; 64] };
    let ack = |seq, outcome, note| OpAck {
        dot: Some(dot("node-a", 7, seq)),
        hash: OpHash([u8::try_from(seq).unwrap(); 32]),
        outcome,
        note,
        signature: None,
    };
    let refused = AckOutcome::Refused(OpRefusal::NamespaceOutOfScope);
    PushAnswer {
        position: LogPosition(123_456),
        acks: vec![
            ack(5, AckOutcome::Applied, Some(AckNote::VectorRefused(VectorRefusal::NotFinite))),
            OpAck { signature: Some(signature), ..ack(6, AckOutcome::Superseded, None) },
            OpAck { dot: None, ..ack(7, refused, None) },
        ],
        completion: Some(Completion::Incomplete { handled: 3 }),
    }
}

/// What an op's bytes say, written again; its own bytes if its vector was of no use and is left out.
fn op_again(bytes: &[u8]) -> Option<Vec<u8>> {
    let read = read_op(bytes).ok()?;
    Some(if read.vector_fault.is_some() { bytes.to_vec() } else { encode_op(&read.op).bytes.to_vec() })
}

fn header_again(bytes: &[u8]) -> Option<Vec<u8>> {
    let frame = ReceivedFrame::parse(bytes).ok()?;
    let header = codec::encode(frame.header());
    let prefix = [b"FED1".as_slice(), &u32::try_from(header.len()).ok()?.to_le_bytes(), &header].concat();
    let behind = bytes.get(prefix.len()..)?;
    Some([prefix.as_slice(), behind].concat())
}

pub(crate) fn samples() -> Vec<Sample> {
    let sealed = sealed();
    let page = Page {
        lane: Lane::Backfill { session: 11, page: 2 },
        receipts: vec![ReceiptAsk { index: 0, needed: 2 }, ReceiptAsk { index: 2, needed: 3 }],
        ops: sealed.iter().map(PageOp::of).collect(),
    };
    let complete = Complete {
        session: SessionId(11),
        pages: 3,
        claim: ClockPage::of(&dots(&[("node-a", 7, 1), ("node-a", 7, 3)]), None),
        replica_scope: Scope::everything(),
        grant: Scope::parse(["shared/*", "team/**"]).unwrap(),
    };
    let delivery = |bytes: &[u8]| Delivery::from_bytes(bytes).ok().map(|read| read.to_bytes());
    let hello = hello();
    let answer = HelloAnswer { hello: hello.clone(), granted: Scope::nothing() };
    let pull = PullRequest { clock: ClockPage::of(&dots(&[("node-b", 3, 4)]), None), bytes_max: 1 << 20 };
    let nack = Nack { current_boot: Some(BootId(3)), ..Nack::of(Slug::WrongBoot) };
    let sample = |name, bytes: Vec<u8>, again| Sample { name, bytes, again };
    vec![
        sample("op-put-vector", sealed[0].op.bytes.to_vec(), op_again),
        sample("op-put", sealed[1].op.bytes.to_vec(), op_again),
        sample("op-delete", sealed[2].op.bytes.to_vec(), op_again),
        sample("proof", sealed[2].proof.to_vec(), |bytes| {
            Proof::from_bytes(bytes).ok().map(|p| p.to_bytes())
        }),
        sample("frame", frame::seal(&key(), envelope(), b"body"), header_again),
        sample("page", page.to_bytes(), delivery),
        sample("page-live", Page { lane: Lane::Live, ..page }.to_bytes(), delivery),
        sample("complete", complete.to_bytes(), delivery),
        sample("hello", hello.to_bytes(), |bytes| Hello::from_bytes(bytes).ok().map(|read| read.to_bytes())),
        sample("hello-answer", answer.to_bytes(), |bytes| {
            HelloAnswer::from_bytes(bytes).ok().map(|read| read.to_bytes())
        }),
        sample("push-answer", push_answer().to_bytes(), |bytes| {
            PushAnswer::from_bytes(bytes).ok().map(|read| read.to_bytes())
        }),
        sample("pull-request", pull.to_bytes(), |bytes| {
            PullRequest::from_bytes(bytes).ok().map(|read| read.to_bytes())
        }),
        sample("nack", nack.to_bytes(), |bytes| Nack::from_bytes(bytes).ok().map(|read| read.to_bytes())),
    ]
}
