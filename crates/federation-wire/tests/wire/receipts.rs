//! Quorum receipts: what each change of one makes of it.

use federation_core::id::{KeyId, LogPosition, NodeId, OpHash};
use federation_core::quorum::ack_tracker::AckStatus;
use federation_core::time::WallMs;
use federation_wire::api::QuorumReceipt;
use federation_wire::api::receipt::{AckFault, ReceiptError};
use federation_wire::identity::{Directory, Enrolment, KeyState};
use federation_wire::keys::NodeKey;
use federation_wire::receipt::{Held, SignedAck};

use crate::samples::{dot, node};

fn key_of(name: &str) -> NodeKey {
    NodeKey::from_seed(&[name.as_bytes()[0]; 32])
}

fn ack(name: &str, status: AckStatus) -> SignedAck {
    let held =
        Held { dot: dot("a", 7, 5), hash: OpHash([3; 32]), status, needed: 2, position: LogPosition(4_096) };
    SignedAck::sign(&key_of(name), &node(name), held, WallMs(1_790_000_000_000))
}

/// Of two nodes, as the node that took the write gives it.
pub(crate) fn receipt() -> QuorumReceipt {
    QuorumReceipt::of(&[ack("a", AckStatus::Applied), ack("b", AckStatus::Superseded)]).unwrap()
}

fn enrolled(name: &str, state: KeyState) -> Enrolment {
    let mut enrolment = Enrolment::full(name, &format!("http://{name}:1"), key_of(name).public());
    enrolment.keys[0].state = state;
    enrolment
}

/// Nodes proven, and what is wrong with the others; `b` has retired its key since.
fn check(receipt: &QuorumReceipt) -> Result<(usize, Vec<AckFault>), ReceiptError> {
    let entries =
        [enrolled("a", KeyState::Active), enrolled("b", KeyState::Retired), enrolled("c", KeyState::Active)];
    let directory = Directory::new(&entries).unwrap();
    let report = receipt.check(|node: &NodeId, key: KeyId| directory.key(node, key).cloned())?;
    let faults: Vec<_> = report.acks.iter().filter_map(|ack| ack.verdict.as_ref().err().copied()).collect();
    assert_eq!(report.holds(), report.proven() >= usize::from(receipt.needed));
    Ok((report.proven(), faults))
}

#[test]
fn a_receipt_holds_after_a_round_trip_through_text_and_the_rotation_of_a_key() {
    let text = serde_json::to_string(&receipt()).unwrap();
    let again: QuorumReceipt = serde_json::from_str(&text).unwrap();
    assert_eq!(again, receipt());
    assert_eq!(check(&again), Ok((2, vec![])));
}

#[test]
fn each_changed_field_of_an_ack_is_named_and_proves_nothing() {
    let changed = |change: fn(&mut federation_wire::api::receipt::ReceiptAck), fault| {
        let mut receipt = receipt();
        change(&mut receipt.acks[1]);
        assert_eq!(check(&receipt), Ok((1, vec![fault])), "{:?}", receipt.acks[1]);
    };
    changed(|ack| ack.node = "c".into(), AckFault::UnknownKey { key_id: key_of("b").id() });
    changed(|ack| ack.node = "nobody".into(), AckFault::UnknownKey { key_id: key_of("b").id() });
    changed(|ack| ack.node = "a b".into(), AckFault::Malformed { field: "node" });
    changed(|ack| ack.key = key_of("c").id().to_string(), AckFault::UnknownKey { key_id: key_of("c").id() });
    changed(|ack| ack.key.truncate(14), AckFault::Malformed { field: "key" });
    changed(|ack| ack.dot.0.seq += 1, AckFault::OtherDot);
    changed(|ack| ack.hash = "04".repeat(32), AckFault::OtherHash);
    changed(|ack| ack.hash = "04".repeat(31), AckFault::Malformed { field: "hash" });
    changed(|ack| ack.status = "applied".into(), AckFault::SignatureInvalid);
    changed(|ack| ack.status = "busy".into(), AckFault::Malformed { field: "status" });
    changed(|ack| ack.needed = 1, AckFault::OtherNeeded);
    changed(|ack| ack.position += 1, AckFault::SignatureInvalid);
    changed(|ack| ack.at_ms += 1, AckFault::SignatureInvalid);
    changed(|ack| ack.signature.replace_range(..1, "_"), AckFault::SignatureInvalid);
    changed(|ack| ack.signature.truncate(85), AckFault::Malformed { field: "signature" });
    // Another enrolled node's word cannot be put under this name, nor its own key beside it.
    changed(
        |ack| (ack.node, ack.key) = ("c".into(), key_of("c").id().to_string()),
        AckFault::SignatureInvalid,
    );
}

#[test]
fn each_changed_field_of_the_whole_takes_every_ack_from_it() {
    let both = |fault| Ok((0, vec![fault, fault]));
    let changed = |change: fn(&mut QuorumReceipt)| {
        let mut receipt = receipt();
        change(&mut receipt);
        check(&receipt)
    };
    assert_eq!(changed(|receipt| receipt.dot.0.seq += 1), both(AckFault::OtherDot));
    assert_eq!(changed(|receipt| receipt.hash = "04".repeat(32)), both(AckFault::OtherHash));
    assert_eq!(changed(|receipt| receipt.hash = "x".into()), both(AckFault::OtherHash));
    assert_eq!(changed(|receipt| receipt.needed = 1), both(AckFault::OtherNeeded));
    assert_eq!(changed(|receipt| receipt.needed = 0), Err(ReceiptError::Needed { needed: 0, limit: 64 }));
    assert_eq!(changed(|receipt| receipt.version = 2), Err(ReceiptError::Version { found: 2 }));
    assert_eq!(changed(|receipt| receipt.acks.truncate(1)), Ok((1, vec![])), "too few");
    assert_eq!(changed(|receipt| receipt.acks.clear()), Ok((0, vec![])), "too few");
    let many = changed(|receipt| receipt.acks = vec![receipt.acks[0].clone(); 65]);
    assert_eq!(many, Err(ReceiptError::TooMany { count: 65, limit: 64 }));
}

#[test]
fn what_a_revoked_key_signed_proves_nothing() {
    let entries = [enrolled("a", KeyState::Active), enrolled("b", KeyState::Revoked)];
    let directory = Directory::new(&entries).unwrap();
    let report = receipt().check(|node: &NodeId, key: KeyId| directory.key(node, key).cloned()).unwrap();
    let verdict = report.acks[1].verdict.clone();
    assert_eq!(verdict, Err(AckFault::RevokedKey { key_id: key_of("b").id() }));
    assert!(!report.holds());
}

#[test]
fn a_node_counts_once_whatever_it_signs() {
    let twice = QuorumReceipt::of(&[ack("a", AckStatus::Applied), ack("a", AckStatus::Duplicate)]).unwrap();
    assert_eq!(check(&twice), Ok((1, vec![AckFault::DoubledSigner])));
}

#[test]
fn what_was_signed_for_a_frame_is_no_ack() {
    let mut forged = receipt();
    let golden = receipt().acks[1].signature.clone();
    let frame = federation_wire::frame::seal(&key_of("b"), crate::samples::envelope(), b"");
    let of_frame: [u8; 64] = frame[frame.len() - 64..].try_into().unwrap();
    let mut signed = ack("b", AckStatus::Superseded);
    signed.signature.signature = of_frame;
    forged.acks[1] = QuorumReceipt::of(&[signed]).unwrap().acks.remove(0);
    assert_ne!(forged.acks[1].signature, golden);
    assert_eq!(check(&forged), Ok((1, vec![AckFault::SignatureInvalid])));
}
