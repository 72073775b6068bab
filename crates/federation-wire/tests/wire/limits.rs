//! Each limit: what is at it passes, what is past it is refused.

use std::sync::Arc;

use federation_core::dot_set::DotSet;
use federation_core::embedding::{Embedding, Normalisation};
use federation_core::id::{BootId, KeyId, LogPosition, OpHash};
use federation_core::limits::{
    BOOTS_MAX, CLOCK_RANGES_PER_PAGE_MAX, CONTEXT_RANGES_MAX, EMBEDDING_DIM_MAX, EMBEDDING_MODEL_BYTES_MAX,
    FRAME_BYTES_MAX, FRAME_HEADER_BYTES_MAX, GROUP_BYTES_MAX, GROUP_OPS_MAX, OP_BYTES_MAX, PAYLOAD_BYTES_MAX,
};
use federation_core::node_clock::NodeClock;
use federation_core::op::{Body, Op};
use federation_core::port::rules::RecordRules;
use federation_core::port::store::Boot;
use federation_core::seq_ranges::SeqRange;
use federation_core::time::WallMs;
use federation_core::vector_clock::VectorClock;
use federation_wire::codec::{self, CodecError};
use federation_wire::embedding::VectorFault;
use federation_wire::frame::{self, FrameError, ReceivedFrame, SenderProof};
use federation_wire::memory::KindRules;
use federation_wire::receipt::AckSignature;
use federation_wire::v1::ack::{AckNote, AckOutcome, OpAck, OpRefusal, VectorRefusal};
use federation_wire::v1::clock_page::ClockPage;
use federation_wire::v1::delivery::{Delivery, Lane, Page, PageOp};
use federation_wire::v1::hello::Hello;
use federation_wire::v1::op::{OpError, decode_op, encode_op, read_op};
use federation_wire::v1::push::PushAnswer;
use federation_wire::v1::types::Wire;

use crate::samples::{dot, envelope, key, op, origin, put, samples};

fn ranges(count: usize) -> DotSet {
    let mut out = DotSet::new();
    for at in 0..count as u64 {
        out.insert_range(&origin("a", 1), SeqRange::new(2 * at + 1, 2 * at + 1).unwrap());
    }
    out
}

fn unit_vector(dim: usize) -> Arc<[f32]> {
    (0..dim).map(|at| if at == 0 { 1.0 } else { 0.0 }).collect()
}

#[test]
fn payload() {
    let sized = |bytes: usize| {
        encode_op(&op(1, Body::Put { payload: vec![0; bytes].into(), embedding: None, archived: true }))
    };
    assert!(decode_op(&sized(PAYLOAD_BYTES_MAX).bytes).is_ok());
    assert_eq!(
        decode_op(&sized(PAYLOAD_BYTES_MAX + 1).bytes),
        Err(OpError::PayloadTooLarge { bytes: PAYLOAD_BYTES_MAX + 1, limit_bytes: PAYLOAD_BYTES_MAX })
    );
    let too_large = vec![0; OP_BYTES_MAX + 1];
    let expect = CodecError::TooLarge { bytes: OP_BYTES_MAX + 1, limit_bytes: OP_BYTES_MAX };
    assert_eq!(decode_op(&too_large), Err(OpError::Codec(expect)));
}

#[test]
fn the_largest_op_fits() {
    let context = VectorClock::from(ranges(CONTEXT_RANGES_MAX));
    let vector = unit_vector(EMBEDDING_DIM_MAX);
    let body = Body::Put {
        payload: vec![0; PAYLOAD_BYTES_MAX].into(),
        embedding: Some(Embedding {
            model: "m".repeat(EMBEDDING_MODEL_BYTES_MAX).into(),
            normalisation: Normalisation::UnitL2,
            vector,
        }),
        archived: false,
    };
    let largest = Op { context, ..op(1, body) };
    let bytes = encode_op(&largest).bytes;
    assert!(bytes.len() <= OP_BYTES_MAX, "{}", bytes.len());
    assert_eq!(decode_op(&bytes), Ok(largest));
}

#[test]
fn context_and_clock() {
    let context = |count| Op { context: ranges(count).into(), ..op(1, Body::Delete) };
    assert!(decode_op(&encode_op(&context(CONTEXT_RANGES_MAX)).bytes).is_ok());
    assert!(decode_op(&encode_op(&context(CONTEXT_RANGES_MAX + 1)).bytes).is_err());
    let clock = |count| {
        let bytes = codec::encode(&Wire(ranges(count)));
        codec::decode::<Wire<NodeClock>>(&bytes, FRAME_BYTES_MAX).is_ok()
    };
    assert!(clock(CLOCK_RANGES_PER_PAGE_MAX));
    assert!(!clock(CLOCK_RANGES_PER_PAGE_MAX + 1));
    let pages = ClockPage::all(&ranges(CLOCK_RANGES_PER_PAGE_MAX + 1));
    assert_eq!(pages.len(), 2);
    assert!(pages.iter().all(|page| codec::encode(page).len() < GROUP_BYTES_MAX));
}

#[test]
fn a_bad_vector_is_left_out_and_the_record_stays() {
    let with = |model: &str, vector: &[f32]| {
        let normalisation = Normalisation::UnitL2Scaled;
        let embedding = Embedding { model: model.into(), normalisation, vector: vector.into() };
        let read = read_op(&encode_op(&op(1, put(Some(embedding)))).bytes).unwrap();
        assert_eq!(read.op.dot, dot("node-a", 7, 1));
        let Body::Put { embedding, .. } = read.op.body else { panic!("a Put") };
        assert_eq!(embedding.is_some(), read.vector_fault.is_none());
        read.vector_fault
    };
    assert_eq!(with("m", &unit_vector(EMBEDDING_DIM_MAX)), None);
    let (dim, limit) = (EMBEDDING_DIM_MAX + 1, EMBEDDING_DIM_MAX);
    assert_eq!(with("m", &unit_vector(dim)), Some(VectorFault::TooLong { dim, limit }));
    assert_eq!(with("m", &[]), Some(VectorFault::Empty));
    assert_eq!(with("m", &[0.0, 0.0]), Some(VectorFault::Zero));
    assert_eq!(with("m", &[3.0, 4.0]), Some(VectorFault::NotUnit));
    assert_eq!(with("m", &[1.0, f32::NAN]), Some(VectorFault::NotFinite { index: 1 }));
    assert_eq!(with("m", &[f32::INFINITY]), Some(VectorFault::NotFinite { index: 0 }));
    let limit_bytes = EMBEDDING_MODEL_BYTES_MAX;
    assert_eq!(with("", &[1.0]), Some(VectorFault::Model { bytes: 0, limit_bytes }));
    let bytes = limit_bytes + 1;
    assert_eq!(with(&"m".repeat(bytes), &[1.0]), Some(VectorFault::Model { bytes, limit_bytes }));
}

#[test]
fn page() {
    let read = |ops: Vec<PageOp<'_>>| {
        Delivery::from_bytes(&Page { lane: Lane::Live, receipts: Vec::new(), ops }.to_bytes()).map(|_| ())
    };
    let small = PageOp { op: b"o", proof: b"p" };
    assert_eq!(read(vec![small; GROUP_OPS_MAX]), Ok(()));
    let expect = CodecError::TooMany { count: GROUP_OPS_MAX + 1, limit: GROUP_OPS_MAX };
    assert_eq!(read(vec![small; GROUP_OPS_MAX + 1]), Err(expect));
    let large = vec![0; GROUP_BYTES_MAX - 8];
    assert_eq!(read(vec![PageOp { op: &large, proof: &[] }]), Ok(()));
    let expect = CodecError::TooLarge { bytes: GROUP_BYTES_MAX + 1, limit_bytes: GROUP_BYTES_MAX };
    assert_eq!(read(vec![PageOp { op: &large, proof: &[0] }]), Err(expect));
}

#[test]
fn acks_and_boots() {
    let ack = OpAck {
        dot: Some(dot(&"n".repeat(64), u64::MAX, u64::MAX)),
        hash: OpHash([255; 32]),
        outcome: AckOutcome::Refused(OpRefusal::StoreReadOnly),
        note: Some(AckNote::VectorRefused(VectorRefusal::NotUnit)),
        signature: Some(AckSignature { key_id: KeyId([9; 8]), at: WallMs(u64::MAX), signature: [7; 64] }),
    };
    let answer =
        |count| PushAnswer { position: LogPosition(1), acks: vec![ack.clone(); count], completion: None };
    assert!(PushAnswer::from_bytes(&answer(GROUP_OPS_MAX).to_bytes()).is_ok());
    let expect = CodecError::TooMany { count: GROUP_OPS_MAX + 1, limit: GROUP_OPS_MAX };
    assert_eq!(PushAnswer::from_bytes(&answer(GROUP_OPS_MAX + 1).to_bytes()), Err(expect));

    let sample = samples().into_iter().find(|sample| sample.name == "hello").unwrap();
    let mut hello = Hello::from_bytes(&sample.bytes).unwrap();
    hello.boots = vec![Boot { id: BootId(1), ended_at: None }; BOOTS_MAX];
    assert!(Hello::from_bytes(&hello.to_bytes()).is_ok());
    hello.boots.push(Boot { id: BootId(1), ended_at: None });
    let expect = CodecError::TooMany { count: BOOTS_MAX + 1, limit: BOOTS_MAX };
    assert_eq!(Hello::from_bytes(&hello.to_bytes()), Err(expect));
}

#[test]
fn frame_and_header() {
    let head = frame::seal(&key(), envelope(), &[]).len();
    let largest = vec![0; FRAME_BYTES_MAX - head];
    let bytes = frame::seal(&key(), envelope(), &largest);
    assert_eq!(frame::frame_len(&bytes, SenderProof::Signature), Ok(Some(FRAME_BYTES_MAX)));
    assert!(ReceivedFrame::parse(&bytes).is_ok());
    let bytes = frame::seal(&key(), envelope(), &vec![0; largest.len() + 1]);
    let expect = FrameError::TooLarge { bytes: FRAME_BYTES_MAX + 1, limit_bytes: FRAME_BYTES_MAX };
    // From its head alone, before the body is there.
    assert_eq!(frame::frame_len(&bytes[..head], SenderProof::Signature), Err(expect));
    assert_eq!(ReceivedFrame::parse(&bytes).map(|_| ()), Err(expect));

    let over = u32::try_from(FRAME_HEADER_BYTES_MAX + 1).unwrap();
    let bytes = [b"FED1".as_slice(), &over.to_le_bytes()].concat();
    let expect =
        FrameError::TooLarge { bytes: FRAME_HEADER_BYTES_MAX + 1, limit_bytes: FRAME_HEADER_BYTES_MAX };
    assert_eq!(frame::frame_len(&bytes, SenderProof::Signature), Err(expect));
}

#[test]
fn memory_and_opaque_payloads() {
    let check = |kind: &str, payload: &[u8]| {
        let mut op = op(1, Body::Put { payload: payload.into(), embedding: None, archived: false });
        op.key.kind = federation_core::id::Kind::new(kind).unwrap();
        KindRules.check(&op).err().map(|violation| violation.slug)
    };
    let memory = br#"{"title":"t","content":"c","unknown":{"kept":[1]}}"#;
    assert_eq!(check("memory", memory), None);
    assert_eq!(check("memory", b"{}"), Some("missing_field"));
    assert_eq!(check("memory", b"\xff"), Some("malformed_json"));
    assert_eq!(check("memory", b"[]"), Some("not_an_object"));
    assert_eq!(check("memory", br#"{"title":"t","content":"c","a":1,"a":1}"#), Some("malformed_json"));
    assert_eq!(check("memory", br#"{"title":"t","content":"c","id":"other"}"#), Some("key_mismatch"));
    assert_eq!(check("memory", br#"{"title":"t","content":"c","namespace":"other"}"#), Some("key_mismatch"));
    assert_eq!(check("link", b"\xff"), None);
    assert_eq!(check("blob", &vec![0; PAYLOAD_BYTES_MAX]), None);
    assert_eq!(check("blob", &vec![0; PAYLOAD_BYTES_MAX + 1]), Some("payload_too_large"));
    assert_eq!(KindRules.check(&op(1, Body::Delete)), Ok(()));
}
