//! Whatever comes: no panic, and what is taken has one encoding. Whatever is sent: it comes out as it went in.

use std::sync::Arc;

use federation_core::dot::Dot;
use federation_core::dot_set::DotSet;
use federation_core::embedding::{Embedding, Normalisation};
use federation_core::hlc::Hlc;
use federation_core::id::{
    AgentId, BootId, KeyId, Kind, LogPosition, Namespace, OpHash, RecordId, RecordKey,
};
use federation_core::op::{Body, Op};
use federation_core::port::rules::RecordRules;
use federation_core::port::store::SessionId;
use federation_core::scope::Scope;
use federation_core::time::WallMs;
use federation_core::vector_clock::VectorClock;
use federation_wire::api::error::from_json;
use federation_wire::api::{CreateMemory, DotText, UpdateMemory};
use federation_wire::codec;
use federation_wire::embedding::{ShippedEmbedding, check_signed};
use federation_wire::frame::{self, ReceivedFrame, SenderProof};
use federation_wire::keys::{OwnKeys, PublicKey};
use federation_wire::memory::KindRules;
use federation_wire::receipt::AckSignature;
use federation_wire::v1::ack::{AckOutcome, OpAck, OpRefusal};
use federation_wire::v1::clock_page::ClockPage;
use federation_wire::v1::delivery::{Complete, Delivery, Lane, Page, PageOp, ReceiptAsk};
use federation_wire::v1::op::{decode_op, encode_op, op_hash, read_op};
use federation_wire::v1::push::PushAnswer;
use federation_wire::v1::types::Wire;
use proptest::prelude::*;

use crate::samples::{dot, op, samples};

fn a_dot() -> impl Strategy<Value = Dot> {
    (0_u8..4, 0_u64..3, 1_u64..50).prop_map(|(name, epoch, seq)| dot(&format!("n{name}"), epoch, seq))
}

fn a_dot_set() -> impl Strategy<Value = DotSet> {
    proptest::collection::vec(a_dot(), 0..40).prop_map(|dots| dots.into_iter().collect())
}

fn an_embedding() -> impl Strategy<Value = Embedding> {
    ("[a-z]{1,20}", proptest::collection::vec(-1e30_f32..1e30, 1..40))
        .prop_filter_map("a vector of use", |(model, vector)| {
            ShippedEmbedding { model, vector }.sanitize().ok()
        })
}

fn a_body() -> impl Strategy<Value = Body> {
    let payload = proptest::collection::vec(any::<u8>(), 0..200);
    let put = (payload, proptest::option::of(an_embedding()), any::<bool>()).prop_map(
        |(payload, embedding, archived)| Body::Put { payload: Arc::from(payload), embedding, archived },
    );
    prop_oneof![put, Just(Body::Delete)]
}

prop_compose! {
    fn an_op()(
        dot in a_dot(),
        hlc in any::<u64>(),
        namespace in "[a-z]{1,9}(/[a-zäöü0-9 ]{1,9}){0,3}",
        kind in "[a-z][a-z0-9_-]{0,9}",
        id in "[A-Za-z0-9_:@-][A-Za-z0-9._:@-]{0,39}",
        author in "[A-Za-z0-9._:@/-]{1,40}",
        context in a_dot_set(),
        body in a_body(),
    ) -> Op {
        let key = RecordKey {
            namespace: Namespace::new(&namespace).unwrap(),
            kind: Kind::new(&kind).unwrap(),
            id: RecordId::new(&id).unwrap(),
        };
        let author = AgentId::new(&author).unwrap();
        Op { dot, hlc: Hlc::from_bits(hlc), key, author, context: VectorClock::from(context), body }
    }
}

fn an_outcome() -> impl Strategy<Value = AckOutcome> {
    prop_oneof![
        Just(AckOutcome::Applied),
        Just(AckOutcome::Duplicate),
        Just(AckOutcome::Superseded),
        Just(AckOutcome::Refused(OpRefusal::Equivocation)),
        Just(AckOutcome::Refused(OpRefusal::StoreReadOnly)),
    ]
}

/// Feeds `bytes` to everything that reads bytes or text of others.
fn read_all(bytes: &[u8]) {
    for sample in samples() {
        (sample.again)(bytes);
    }
    let _ = frame::frame_len(bytes, SenderProof::Signature);
    let _ = from_json::<CreateMemory>(bytes);
    let _ = from_json::<UpdateMemory>(bytes);
    let payload = Body::Put { payload: Arc::from(bytes), embedding: None, archived: false };
    let _ = KindRules.check(&op(1, payload));
    let text = String::from_utf8_lossy(bytes);
    let _ = OwnKeys::from_file_text(&text);
    let _ = text.parse::<PublicKey>();
    let _ = text.parse::<DotText>();
    let _ = text.parse::<federation_wire::identity::PeerUrl>();
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read_all(&bytes);
        // Behind a valid beginning a decoder gets further.
        for sample in samples() {
            let cut = bytes.len() % (sample.bytes.len() + 1);
            read_all(&[&sample.bytes[..cut], &bytes].concat());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_taken_has_one_encoding(
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::weighted(0.1, any::<prop::sample::Index>()),
        more in proptest::collection::vec(any::<u8>(), 0..2),
    ) {
        let mut all = samples();
        let sample = all.swap_remove(which.index(all.len()));
        let mut bytes = sample.bytes;
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes.extend(more);
        if let Some(again) = (sample.again)(&bytes) {
            prop_assert_eq!(again, bytes, "{}", sample.name);
        }
    }
}

proptest! {
    #[test]
    fn ops_come_out_as_they_went_in(op in an_op()) {
        let encoded = encode_op(&op);
        prop_assert_eq!(encoded.hash, op_hash(&encoded.bytes));
        prop_assert_eq!(decode_op(&encoded.bytes), Ok(op));
        let longer = [&*encoded.bytes, &[0]].concat();
        prop_assert!(decode_op(&longer).is_err());
        prop_assert!(decode_op(&encoded.bytes[..encoded.bytes.len() - 1]).is_err());
    }

    #[test]
    fn a_signed_vector_is_kept_bit_for_bit_or_left_out(
        bits in proptest::collection::vec(any::<u32>(), 0..9),
        is_scaled in any::<bool>(),
        model in "[a-z]{0,3}",
    ) {
        let vector: Arc<[f32]> = bits.iter().map(|bits| f32::from_bits(*bits)).collect();
        let normalisation = if is_scaled { Normalisation::UnitL2Scaled } else { Normalisation::UnitL2 };
        let signed = Embedding { model: Arc::from(model), normalisation, vector };
        let is_of_use = check_signed(&signed).is_ok();
        let bytes = encode_op(&op(1, crate::samples::put(Some(signed)))).bytes;
        let read = read_op(&bytes).unwrap();
        prop_assert_eq!(read.vector_fault.is_none(), is_of_use);
        if is_of_use {
            prop_assert_eq!(encode_op(&read.op).bytes, bytes);
        } else {
            let Body::Put { embedding, .. } = read.op.body else { panic!("a Put") };
            prop_assert_eq!(embedding, None);
        }
    }

    #[test]
    fn sets_of_dots_come_out_as_they_went_in(dots in a_dot_set()) {
        let bytes = codec::encode(&Wire(&dots));
        let read: Result<Wire<DotSet>, _> = codec::decode(&bytes, bytes.len());
        prop_assert_eq!(read, Ok(Wire(dots)));
    }

    #[test]
    fn pages_come_out_as_they_went_in(
        parts in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..60), proptest::collection::vec(any::<u8>(), 0..60)),
            0..20,
        ),
        lane in prop_oneof![
            Just(Lane::Live),
            (any::<u64>(), any::<u64>()).prop_map(|(session, page)| Lane::Backfill { session, page }),
        ],
    ) {
        let ops: Vec<_> = parts.iter().map(|(op, proof)| PageOp { op, proof }).collect();
        let receipts = (0_u32..).zip(&ops).filter(|(_, op)| op.op.len() > 30);
        let receipts = receipts.map(|(index, op)| ReceiptAsk { index, needed: u16::try_from(op.proof.len()).unwrap() }).collect();
        let page = Delivery::Page(Page { lane, receipts, ops });
        let bytes = page.to_bytes();
        prop_assert_eq!(Delivery::from_bytes(&bytes), Ok(page));
    }

    #[test]
    fn completions_come_out_as_they_went_in(
        dots in a_dot_set(),
        session in any::<u64>(),
        pages in any::<u64>(),
        scopes in proptest::collection::vec("[a-z]{1,5}(/\\*\\*)?", 0..5),
    ) {
        let replica_scope = Scope::parse(scopes.iter().map(String::as_str)).unwrap();
        let complete = Delivery::Complete(Box::new(Complete {
            session: SessionId(session),
            pages,
            claim: ClockPage::of(&dots, None),
            replica_scope,
            grant: Scope::nothing(),
        }));
        let bytes = complete.to_bytes();
        prop_assert_eq!(Delivery::from_bytes(&bytes), Ok(complete));
    }

    #[test]
    fn push_answers_come_out_as_they_went_in(
        position in any::<u64>(),
        acks in proptest::collection::vec(
            (proptest::option::of(a_dot()), any::<[u8; 32]>(), an_outcome(), proptest::option::of(any::<u64>())), 0..30,
        ),
    ) {
        let acks = acks
            .into_iter()
            .map(|(dot, hash, outcome, signed)| {
                let signature = signed.map(|at| AckSignature {
                    key_id: KeyId(at.to_le_bytes()),
                    at: WallMs(at),
                    signature: [hash[0]; 64],
                });
                OpAck { dot, hash: OpHash(hash), outcome, note: None, signature }
            })
            .collect();
        let answer = PushAnswer { position: LogPosition(position), acks, completion: None };
        prop_assert_eq!(PushAnswer::from_bytes(&answer.to_bytes()), Ok(answer));
    }

    #[test]
    fn frames_come_out_as_they_went_in(
        body in proptest::collection::vec(any::<u8>(), 0..300),
        boot in any::<u64>(),
    ) {
        let key = crate::samples::key();
        let mut envelope = crate::samples::envelope();
        envelope.recipient_boot = BootId(boot);
        let bytes = frame::seal(&key, envelope.clone(), &body);
        prop_assert_eq!(frame::frame_len(&bytes, SenderProof::Signature), Ok(Some(bytes.len())));
        let frame = ReceivedFrame::parse(&bytes).unwrap().verify(key.public()).unwrap();
        prop_assert_eq!(&frame.header().envelope, &envelope);
        prop_assert_eq!(frame.body(), Ok(body.as_slice()));
        prop_assert_eq!(&bytes[frame.body_range()], body.as_slice());
    }
}
