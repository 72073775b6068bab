//! What a write is answered, by what its peers do.

use federation_core::quorum::ack_tracker::Reason;
use federation_net::status::OpAtPeer;
use federation_tests::mock_peer::Manner;
use federation_wire::slug::Slug;
use federation_wire::v1::ack::OpRefusal;

use crate::bench::{ACK_TIMEOUT, Bench, eventually, words};

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_hold_a_write_before_it_is_answered() {
    let bench = Bench::with_peers_up(2, &["a", "b"]).await;
    let receipt = bench.write("r").await.met();
    let dot = &receipt.written.op.dot;
    assert_eq!((receipt.got, receipt.needed), (2, 2));
    let holders: Vec<_> = ["a", "b"].into_iter().filter(|name| bench.peer(name).holds(dot)).collect();
    assert!(!holders.is_empty(), "answered before a peer had it");
    assert!(words(&receipt.peers).values().any(|word| *word == "applied"), "{receipt:?}");
    for name in ["a", "b"] {
        bench.await_op(dot, name, OpAtPeer::Held).await;
        assert!(bench.peer(name).holds(dot));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_of_three_hold_a_write_before_it_is_answered() {
    let bench = Bench::with_peers_up(3, &["a", "b"]).await;
    let answered = bench.write("r").await;
    assert!(answered.after < ACK_TIMEOUT, "{:?}", answered.after);
    let receipt = answered.met();
    assert_eq!((receipt.got, receipt.needed), (3, 3));
    assert!(words(&receipt.peers).values().all(|word| *word == "applied"), "{receipt:?}");
    for name in ["a", "b"] {
        assert!(bench.peer(name).holds(&receipt.written.op.dot), "answered before {name} had it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_names_another_hash_is_alarmed_and_never_counted() {
    let bench = Bench::with_peers_up(2, &["a"]).await;
    bench.peer("a").answer_pushes(Manner::Drifting);
    let answered = bench.write("r").await;
    assert!(answered.after < ACK_TIMEOUT, "nothing is left to wait for: {:?}", answered.after);
    let dot = answered.not_met_with(Reason::IdDrift, 1, 2, &[("a", "id_drift")]);
    eventually("the alarm", || bench.alarms("id_drift") == 1).await;
    assert_eq!(bench.node.op_status(&dot).peers[bench.peer("a").id()], OpAtPeer::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_at_one_peer_leaves_the_quorum_to_the_other() {
    let bench = Bench::with_peers_up(2, &["a", "b"]).await;
    bench.peer("a").answer_pushes(Manner::Drifting);
    let receipt = bench.write("r").await.met();
    assert_eq!(receipt.got, 2);
    assert_eq!(words(&receipt.peers)["b"], "applied");
    eventually("the alarm", || bench.alarms("id_drift") > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_good_is_told_at_once_and_kept() {
    let bench = Bench::with_peers_up(2, &["a"]).await;
    bench.peer("a").answer_pushes(Manner::Refusing(OpRefusal::NamespaceOutOfScope));
    let answered = bench.write("r").await;
    assert!(answered.after < ACK_TIMEOUT, "{:?}", answered.after);
    let dot = answered.not_met_with(Reason::Refused, 1, 2, &[("a", "forbidden")]);
    bench.await_op(&dot, "a", OpAtPeer::Refused).await;

    bench.peer("a").answer_pushes(Manner::Obliging);
    let later = bench.write("later").await.met();
    bench.await_op(&later.written.op.dot, "a", OpAtPeer::Held).await;
    assert!(!bench.peer("a").holds(&dot), "what was refused for good is not sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_now_is_told_at_once_and_tried_again() {
    for manner in [Manner::Refusing(OpRefusal::Busy), Manner::Rejecting(Slug::Busy)] {
        let bench = Bench::with_peers_up(2, &["a"]).await;
        bench.peer("a").answer_pushes(manner);
        let answered = bench.write("r").await;
        assert!(answered.after < ACK_TIMEOUT, "{manner:?}: {:?}", answered.after);
        let dot = answered.not_met_with(Reason::Refused, 1, 2, &[("a", "busy")]);
        assert!(!bench.peer("a").holds(&dot));
        bench.peer("a").answer_pushes(Manner::Obliging);
        bench.await_op(&dot, "a", OpAtPeer::Held).await;
        assert!(bench.peer("a").holds(&dot));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_know_the_node_refuses() {
    let stranger = federation_wire::keys::NodeKey::from_seed(&[77; 32]);
    let bench = Bench::start(2, &["a"], |peer| {
        peer.enrol(&crate::bench::node_id("somebody-else"), stranger.public());
        peer.arrive();
    })
    .await;
    let answered = bench.write("r").await;
    assert!(answered.after < ACK_TIMEOUT, "{:?}", answered.after);
    let dot = answered.not_met_with(Reason::Refused, 1, 2, &[("a", "request_refused")]);

    bench.peer("a").enrol(&bench.node.status().node, bench.key.public());
    bench.await_op(&dot, "a", OpAtPeer::Held).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_refuses_leaves_the_quorum_to_the_other() {
    let bench = Bench::with_peers_up(2, &["a", "b"]).await;
    bench.peer("a").answer_pushes(Manner::Refusing(OpRefusal::RuleViolation));
    let receipt = bench.write("r").await.met();
    assert_eq!((receipt.got, receipt.needed), (2, 2));
    assert_eq!(words(&receipt.peers)["b"], "applied");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reason_to_act_comes_before_one_that_time_may_heal() {
    let mut bench = Bench::with_peers_up(3, &["a", "b"]).await;
    bench.peer_mut("b").leave().await;
    bench.peer("a").answer_pushes(Manner::Refusing(OpRefusal::Malformed));
    let answered = bench.write("r").await;
    assert!(answered.after < ACK_TIMEOUT, "{:?}", answered.after);
    let not_met = answered.not_met();
    assert_eq!((not_met.got, not_met.needed), (1, 3));
    let peers = words(&not_met.peers);
    // Whichever came first made the quorum impossible: the other may still have been asked.
    match not_met.reason {
        Reason::Refused => assert_eq!(peers["a"], "invalid"),
        Reason::Unreachable => assert_eq!((peers["a"], peers["b"]), ("pending", "unreachable")),
        other => panic!("{other:?}: {peers:?}"),
    }
}
