//! Peers that are enrolled and do not keep the rules: each lie is refused, alarmed, counted and shown.

use federation_core::id::NodeId;
use federation_core::quorum::ack_tracker::Reason;
use federation_net::alarm::Alarm;
use federation_net::status::OpAtPeer;
use federation_tests::mock_peer::Manner;

use crate::bench::{Bench, eventually};

/// Has the one peer answer a write in that manner: it is not counted, and the status says what the peer did.
async fn lie(manner: Manner, alarm: Alarm, reason: Reason, word: &str) {
    let bench = Bench::with_peers_up(2, &["a"]).await;
    bench.peer("a").answer_pushes(manner);
    let not_met = bench.write("r").await.not_met();
    assert_eq!((not_met.got, not_met.needed), (1, 2), "{manner:?}: {not_met:?}");
    assert_eq!((not_met.reason, not_met.peers[&node("a")].slug()), (reason, word), "{manner:?}");
    eventually("the alarm", || bench.alarms(alarm.slug()) > 0).await;
    let status = bench.node.status();
    let [shown] = status.alarms.as_slice() else { panic!("{manner:?}: {:?}", status.alarms) };
    assert_eq!((&shown.peer, shown.alarm), (&node("a"), alarm), "{manner:?}");
    assert!(shown.count > 0 && shown.last_at.0 > 0, "{shown:?}");
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_of_another_hash_counts_for_nothing() {
    lie(Manner::Drifting, Alarm::IdDrift, Reason::IdDrift, "id_drift").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_of_a_dot_that_was_not_sent_counts_for_nothing() {
    lie(Manner::Misnaming, Alarm::AckMismatch, Reason::Timeout, "pending").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_from_another_boot_than_was_asked_counts_for_nothing() {
    lie(Manner::OtherBoot, Alarm::AnswerForged, Reason::Refused, "request_refused").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_by_a_key_that_nobody_has_enrolled_counts_for_nothing() {
    lie(Manner::OtherKey, Alarm::AnswerForged, Reason::Refused, "request_refused").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_acks_than_ops_are_alarmed() {
    let bench = Bench::with_peers_up(2, &["a"]).await;
    bench.peer("a").answer_pushes(Manner::Repeating);
    // The one that names the op is an ack like any other.
    assert_eq!(bench.write("r").await.met().got, 2);
    eventually("the alarm", || bench.alarms(Alarm::AckMismatch.slug()) > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_with_dots_of_this_node_that_it_has_not_made_is_not_believed_of_them() {
    let mut bench = Bench::with_peers_up(1, &["a"]).await;
    let mut dot = bench.write("r").await.met().written.op.dot.clone();
    bench.await_op(&dot, "a", OpAtPeer::Held).await;
    dot.seq += 2;
    bench.peer("a").pretend(&dot);
    bench.peer_mut("a").leave().await;
    bench.peer_mut("a").arrive();
    // By it the connection is found to be gone; the next one begins with hello.
    bench.write("between").await.met();
    eventually("the alarm", || bench.alarms(Alarm::HelloBeyond.slug()) > 0).await;
    assert_eq!(bench.node.op_status(&dot).peers[&node("a")], OpAtPeer::Pending);
    let written = bench.write("next").await.met();
    assert_eq!(written.written.op.dot, dot, "no number is lost by it");
}
