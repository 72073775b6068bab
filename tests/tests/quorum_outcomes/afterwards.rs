//! What becomes of a write after its answer.

use std::collections::BTreeSet;

use federation_core::quorum::ack_tracker::Reason;
use federation_net::status::{LinkState, OpAtPeer};
use federation_tests::mock_peer::Manner;
use federation_wire::v1::ack::OpRefusal;

use crate::bench::{ACK_TIMEOUT, Bench, eventually, node_id};

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_that_is_lost_is_found_out_later() {
    let bench = Bench::with_peers_up(2, &["a"]).await;
    bench.peer("a").answer_pushes(Manner::Forgetful);
    let answered = bench.write("r").await;
    assert!(answered.after >= ACK_TIMEOUT, "{answered:?}");
    let dot = answered.not_met_with(Reason::Timeout, 1, 2, &[("a", "pending")]);
    assert!(bench.peer("a").holds(&dot), "the request was handled");

    // No push is ever answered: that the peer has it, it says in its next hello.
    bench.await_op(&dot, "a", OpAtPeer::Held).await;
    assert!(bench.node.op_status(&dot).here);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_that_comes_after_the_answer_shows_in_the_state_of_the_op() {
    let bench = Bench::with_peers_up(2, &["a"]).await;
    bench.peer("a").answer_pushes(Manner::Late(ACK_TIMEOUT * 3 / 2));
    let answered = bench.write("r").await;
    assert!(answered.after >= ACK_TIMEOUT, "{answered:?}");
    let dot = answered.not_met_with(Reason::Timeout, 1, 2, &[("a", "pending")]);
    bench.await_op(&dot, "a", OpAtPeer::Held).await;
    assert_eq!(bench.node.status().open_writes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_missed_reaches_it_by_itself_when_it_returns() {
    let mut bench = Bench::with_peers_up(2, &["a", "b"]).await;
    let before = bench.write("before").await.met().written.op.dot.clone();
    bench.await_op(&before, "b", OpAtPeer::Held).await;
    bench.peer_mut("b").leave().await;
    let mut missed = BTreeSet::new();
    for number in 0..40 {
        missed.insert(bench.write(&format!("r{number}")).await.met().written.op.dot.clone());
    }
    bench.await_state("b", LinkState::Down).await;
    assert!(missed.iter().all(|dot| bench.node.op_status(dot).peers[&node_id("b")] == OpAtPeer::Pending));

    bench.peer_mut("b").arrive();
    for dot in &missed {
        bench.await_op(dot, "b", OpAtPeer::Held).await;
        assert!(bench.peer("b").holds(dot));
    }
    eventually("nothing is owed", || bench.node.status().peers.iter().all(|p| p.backlog_ops == 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_during_a_total_outage_reach_every_peer_afterwards() {
    let mut bench = Bench::start(2, &["a", "b"], |_| {}).await;
    let mut dots = Vec::new();
    for number in 0..10 {
        dots.push(bench.write(&format!("r{number}")).await.not_met().dot);
    }
    for name in ["a", "b"] {
        bench.peer_mut(name).arrive();
    }
    for name in ["a", "b"] {
        for dot in &dots {
            bench.await_op(dot, name, OpAtPeer::Held).await;
            assert!(bench.peer(name).holds(dot));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hung_peer_missed_reaches_it_when_it_answers_again() {
    let bench = Bench::with_peers_up(2, &["a"]).await;
    bench.peer("a").answer_all(Manner::Hanging);
    let dot = bench.write("r").await.not_met_with(Reason::Timeout, 1, 2, &[("a", "pending")]);
    assert!(!bench.peer("a").holds(&dot));
    bench.peer("a").answer_all(Manner::Obliging);
    bench.await_op(&dot, "a", OpAtPeer::Held).await;
    assert!(bench.peer("a").holds(&dot));
    bench.write("after").await.met();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_refused_for_good_is_not_sent_again() {
    let mut bench = Bench::with_peers_up(2, &["a"]).await;
    bench.peer("a").answer_pushes(Manner::Refusing(OpRefusal::KindNotAllowed));
    let dot = bench.write("refused").await.not_met_with(Reason::Refused, 1, 2, &[("a", "forbidden")]);
    bench.await_op(&dot, "a", OpAtPeer::Refused).await;

    // A session runs at its return, and a live page after it.
    bench.peer("a").answer_pushes(Manner::Obliging);
    bench.peer_mut("a").leave().await;
    bench.write("away").await.not_met_with(Reason::Unreachable, 1, 2, &[("a", "unreachable")]);
    bench.peer_mut("a").arrive();
    bench.await_state("a", LinkState::Up).await;
    let after = bench.write("after").await.met().written.op.dot.clone();
    bench.await_op(&after, "a", OpAtPeer::Held).await;
    eventually("the session has ended", || {
        let ended = |end| bench.node.metrics().sessions.get(end).copied().unwrap_or(0);
        ended("push_complete") + ended("push_broken") > 0
    })
    .await;
    assert!(!bench.peer("a").holds(&dot), "it was sent again");
    assert_eq!(bench.node.op_status(&dot).peers[&node_id("a")], OpAtPeer::Refused, "and not claimed either");
}
