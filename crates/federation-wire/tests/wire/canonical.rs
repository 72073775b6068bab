//! Forms that say a value in another way than its one encoding are refused.

use federation_core::dot::Dot;
use federation_core::dot_set::DotSet;
use federation_core::id::NodeId;
use federation_core::op::Op;
use federation_core::scope::Scope;
use federation_wire::codec::{self, Blob, CodecError};
use federation_wire::v1::clock_page::ClockPage;
use federation_wire::v1::delivery::{Delivery, Lane, Page, PageOp, ReceiptAsk};
use federation_wire::v1::op::{OpError, decode_op, encode_op};
use federation_wire::v1::types::Wire;
use serde::{Deserialize, Serialize};

use crate::samples::{dot, embedding, op, put};

type RawOrigin = ((&'static str, u64), Vec<(u64, u64)>);

fn is_dot_set(raw: &[RawOrigin]) -> bool {
    codec::decode::<Wire<DotSet>>(&codec::encode(raw), 10_000).is_ok()
}

#[test]
fn sets_of_dots_have_one_form() {
    assert!(is_dot_set(&[]));
    assert!(is_dot_set(&[
        (("a", 1), vec![(1, 2), (4, 4)]),
        (("a", 2), vec![(1, 1)]),
        (("b", 0), vec![(3, 9)])
    ]));
    assert!(!is_dot_set(&[(("b", 1), vec![(1, 1)]), (("a", 1), vec![(1, 1)])]), "unsorted nodes");
    assert!(!is_dot_set(&[(("a", 2), vec![(1, 1)]), (("a", 1), vec![(1, 1)])]), "unsorted epochs");
    assert!(!is_dot_set(&[(("a", 1), vec![(1, 1)]), (("a", 1), vec![(3, 3)])]), "an origin twice");
    assert!(!is_dot_set(&[(("a", 1), vec![])]), "an origin without dots");
    assert!(!is_dot_set(&[(("a", 1), vec![(1, 2), (3, 3)])]), "adjacent ranges");
    assert!(!is_dot_set(&[(("a", 1), vec![(4, 4), (1, 2)])]), "unsorted ranges");
    assert!(!is_dot_set(&[(("a", 1), vec![(2, 1)])]), "a reversed range");
    assert!(!is_dot_set(&[(("a", 1), vec![(0, 1)])]), "zero");
    assert!(!is_dot_set(&[(("a/b", 1), vec![(1, 1)])]), "an invalid node id");
}

#[test]
fn dots_begin_at_one() {
    let read = |seq: u64| codec::decode::<Wire<Dot>>(&codec::encode(&(("a", 1_u64), seq)), 100).is_ok();
    assert!(read(1));
    assert!(!read(0));
}

#[test]
fn scopes_are_sorted() {
    let read = |globs: &[&str]| codec::decode::<Wire<Scope>>(&codec::encode(globs), 1_000).is_ok();
    assert!(read(&[]));
    assert!(read(&["a", "b/**"]));
    assert!(!read(&["b/**", "a"]));
    assert!(!read(&["a", "a"]));
    assert!(!read(&["**/a"]));
}

#[test]
fn pages_of_clocks_hold_what_they_say() {
    let page = |after: Option<Dot>, next: Option<Dot>| {
        let raw = (Wire(after), vec![(("b", 1_u64), vec![(5_u64, 7_u64)])], Wire(next));
        codec::decode::<ClockPage>(&codec::encode(&raw), 10_000).is_ok()
    };
    assert!(page(None, None));
    assert!(page(Some(dot("b", 1, 4)), Some(dot("b", 1, 7))));
    assert!(!page(Some(dot("b", 1, 5)), None), "a dot before its beginning");
    assert!(!page(Some(dot("c", 1, 1)), None), "a dot before its beginning");
    assert!(!page(None, Some(dot("b", 1, 8))), "an end behind its last dot");
    assert!(!page(None, Some(dot("b", 1, 6))), "an end before its last dot");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Choice {
    One,
    Two,
}

#[test]
fn the_codec_takes_one_encoding_of_each_value() {
    assert_eq!(codec::decode::<bool>(&[1], 1), Ok(true));
    assert!(codec::decode::<bool>(&[2], 1).is_err());
    assert_eq!(codec::decode::<Option<u8>>(&[1, 5], 2), Ok(Some(5)));
    assert!(codec::decode::<Option<u8>>(&[2, 5], 2).is_err());
    assert_eq!(codec::decode::<Choice>(&[1, 0, 0, 0], 4), Ok(Choice::Two));
    assert!(codec::decode::<Choice>(&[2, 0, 0, 0], 4).is_err());
    assert_eq!(codec::decode::<u16>(&[1, 0, 0], 3), Err(CodecError::Trailing { bytes: 1 }));
    assert!(codec::decode::<u16>(&[1], 3).is_err());
    assert_eq!(codec::decode::<u8>(&[1], 0), Err(CodecError::TooLarge { bytes: 1, limit_bytes: 0 }));
    assert!(codec::decode::<&str>(&[1, 0, 0, 0, 0, 0, 0, 0, 0xff], 9).is_err(), "UTF-8");
}

#[test]
fn a_blob_is_a_length_and_a_copy() {
    assert_eq!(codec::encode(&Blob(b"abc")), [3, 0, 0, 0, 0, 0, 0, 0, b'a', b'b', b'c']);
    assert_eq!(codec::decode(&[1, 0, 0, 0, 0, 0, 0, 0, 9], 9), Ok(Blob(&[9])));
}

#[test]
fn announced_lengths_are_not_believed() {
    for announced in [10, 1 << 20, u64::from(u32::MAX), u64::MAX / 2, u64::MAX] {
        let bytes = codec::encode(&announced);
        assert!(codec::decode::<Blob<'_>>(&bytes, 100).is_err());
        assert!(codec::decode::<&str>(&bytes, 100).is_err());
        assert!(codec::decode::<Wire<String>>(&bytes, 100).is_err());
        assert!(codec::decode::<Wire<NodeId>>(&bytes, 100).is_err());
        assert!(codec::decode::<Wire<DotSet>>(&bytes, 100).is_err());
        assert!(codec::decode::<Wire<Scope>>(&bytes, 100).is_err());
        assert!(codec::decode::<Wire<Vec<Dot>>>(&bytes, 100).is_err());
        assert!(codec::decode::<Vec<u64>>(&bytes, 100).is_err());
        assert!(codec::decode::<String>(&bytes, 100).is_err());
    }
}

/// An op with this vector, whose head is as the sample's but for what is written over it.
fn with_embedding_head(change: impl Fn(&mut [u8])) -> Result<Op, OpError> {
    let mut bytes = encode_op(&op(1, put(Some(embedding())))).bytes.to_vec();
    // Behind the model's text: dimension u32, normalisation u32, length u64, components; then `archived`.
    let head = bytes.len() - 1 - 3 * 4 - 8 - 4 - 4;
    change(&mut bytes[head..]);
    decode_op(&bytes)
}

#[test]
fn a_vector_has_the_dimension_that_it_names_and_a_known_normalisation() {
    assert!(with_embedding_head(|_| {}).is_ok());
    for dim in [0_u32, 2, 4, u32::MAX] {
        let changed = with_embedding_head(|head| head[..4].copy_from_slice(&dim.to_le_bytes()));
        assert!(changed.is_err(), "{dim} components are named and three are there");
    }
    assert!(with_embedding_head(|head| head[4] = 1).is_ok(), "scaled");
    assert!(with_embedding_head(|head| head[4] = 2).is_err(), "no such normalisation");
}

#[test]
fn receipts_are_asked_for_in_order_and_of_ops_that_are_there() {
    let read = |indices: &[u32]| {
        let receipts = indices.iter().map(|index| ReceiptAsk { index: *index, needed: 2 }).collect();
        let ops = vec![PageOp { op: b"o", proof: b"p" }; 3];
        Delivery::from_bytes(&Page { lane: Lane::Live, receipts, ops }.to_bytes()).is_ok()
    };
    assert!(read(&[]) && read(&[0, 2]) && read(&[0, 1, 2]));
    assert!(!read(&[1, 0]), "unsorted");
    assert!(!read(&[1, 1]), "twice");
    assert!(!read(&[3]), "of no op");
}
