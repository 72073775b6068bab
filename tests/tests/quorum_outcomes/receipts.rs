//! Writes that want signed acks.

use std::collections::BTreeMap;

use federation_core::id::{KeyId, NodeId};
use federation_core::quorum::ack_tracker::Reason;
use federation_net::{Proof, WriteReceipt};
use federation_tests::mock_peer::Manner;
use federation_wire::api::QuorumReceipt;
use federation_wire::identity::{EnrolledKey, KeyState};

use crate::bench::{ACK_TIMEOUT, Bench};

/// Whose word the receipt of a write has, each checked under the key of who is said to have signed.
fn signers(bench: &Bench, write: &WriteReceipt) -> Vec<String> {
    let own = bench.node.status().node;
    let key = |node: &NodeId, id: KeyId| {
        let is_own = *node == own;
        let public = if is_own {
            bench.key.public().clone()
        } else {
            bench.peer(node.as_str()).key().public().clone()
        };
        (public.id() == id).then_some(EnrolledKey {
            public,
            state: KeyState::Active,
            accepted: BTreeMap::new(),
        })
    };
    let receipt = QuorumReceipt::of(&write.acks).unwrap();
    assert_eq!(receipt.dot.0, write.written.op.dot);
    let report = receipt.check(key).unwrap();
    assert!(report.holds(), "{report:?}");
    report.acks.into_iter().map(|ack| ack.node).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_sign_as_must_hold_a_write_and_nobody_signs_unasked() {
    let bench = Bench::with_peers_up(3, &["a", "b"]).await;
    assert_eq!(bench.write("plain").await.met().acks, []);
    let proven = bench.write_proven("proven", Proof::SignedAcks).await.met();
    let own = bench.node.status().node.to_string();
    assert_eq!(signers(&bench, &proven), [own.as_str(), "a", "b"]);
    assert_eq!(bench.peer("a").acks_signed(), 1, "the plain write cost no signature");
}

#[tokio::test(flavor = "multi_thread")]
async fn this_node_alone_signs_where_it_alone_must_hold_a_write() {
    let bench = Bench::with_peers_up(1, &["a"]).await;
    let proven = bench.write_proven("proven", Proof::SignedAcks).await.met();
    assert_eq!(signers(&bench, &proven), [bench.node.status().node.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_sign_counts_for_a_write_without_a_receipt_alone() {
    let bench = Bench::with_peers_up(2, &["a"]).await;
    bench.peer("a").answer_pushes(Manner::Unsigning);
    bench.write("plain").await.met();
    let answered = bench.write_proven("proven", Proof::SignedAcks).await;
    assert!(answered.after < ACK_TIMEOUT, "{:?}", answered.after);
    answered.not_met_with(Reason::Refused, 1, 2, &[("a", "unsigned")]);
    assert_eq!(bench.alarms("receipt_forged"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_signs_something_else_is_alarmed_and_left_out() {
    let bench = Bench::with_peers_up(2, &["a"]).await;
    bench.peer("a").answer_pushes(Manner::Forging);
    let answered = bench.write_proven("proven", Proof::SignedAcks).await;
    answered.not_met_with(Reason::Refused, 1, 2, &[("a", "unsigned")]);
    assert_eq!(bench.alarms("receipt_forged"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_signs_something_else_leaves_the_receipt_to_the_other() {
    let bench = Bench::with_peers_up(2, &["a", "b"]).await;
    bench.peer("a").answer_pushes(Manner::Forging);
    let proven = bench.write_proven("proven", Proof::SignedAcks).await.met();
    assert_eq!(signers(&bench, &proven)[1..], ["b"]);
}
