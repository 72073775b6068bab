//! Peers that are enrolled and do not keep the rules: each lie is refused, alarmed, counted and shown.

use federation_core::id::{LogPosition, NodeId, StoreId};
use federation_core::limits::STORE_AHEAD_MAX;
use federation_core::port::clock::WallClock as _;
use federation_core::port::store::PeerFact;
use federation_core::quorum::ack_tracker::Reason;
use federation_net::alarm::Alarm;
use federation_net::status::OpAtPeer;
use federation_tests::mock_peer::{MachineClock, Manner};
use federation_wire::frame::Route;
use federation_wire::slug::Slug;
use federation_wire::v1::hello::{Hello, HelloAnswer, RebootstrapReason};

use crate::bench::{Bench, Bounds, eventually};
use crate::frames::Caller;

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

/// The last store that there can be: whatever is created is older.
const LAST: StoreId = StoreId { created_ms: u64::MAX, random: u64::MAX };

/// A node, and the hello of its peer `a`.
async fn told() -> (Caller, Hello) {
    let caller = Caller::of(Bench::bounded(&["a"], Bounds::default()).await).await;
    let hello = caller.me().hello();
    (caller, hello)
}

async fn say(caller: &Caller, hello: &Hello) -> Result<HelloAnswer, Slug> {
    let answer = caller.asked_by(caller.me(), Route::Hello, &hello.to_bytes()).await?;
    Ok(HelloAnswer::from_bytes(&answer).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_remembers_a_store_of_the_end_of_time_is_not_believed() {
    let (caller, mut hello) = told().await;
    let (store, boot) = (caller.bench.node.status().store, caller.bench.node.status().boot);
    let remembering = |store| Some(PeerFact { store, boot, position: LogPosition(0) });
    hello.remembers = remembering(LAST);
    say(&caller, &hello).await.unwrap();
    assert_eq!(caller.bench.node.status().store, store, "it is this node's first store still");
    assert_eq!((caller.bench.alarms("hello_beyond"), caller.bench.alarms("new_mesh_void")), (1, 0));

    // That a node must re-bootstrap it heeds; how far its store goes ahead by it is bounded.
    hello.must_rebootstrap = Some(RebootstrapReason::OlderStore);
    say(&caller, &hello).await.unwrap();
    let begun = caller.bench.node.status().store;
    assert!(begun > store && begun.created_ms <= MachineClock.now().0, "{begun:?}");
    assert_eq!(caller.bench.alarms("hello_beyond"), 2);

    // What can be so is heeded as before: a store that was made when the clock was ahead.
    let ahead = StoreId { created_ms: MachineClock.now().0 + STORE_AHEAD_MAX.0, random: 0 };
    hello.remembers = remembering(ahead);
    say(&caller, &hello).await.unwrap();
    assert_eq!(caller.bench.node.status().store.created_ms, ahead.created_ms + 1);
    assert_eq!(caller.bench.alarms("hello_beyond"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_the_end_of_time_is_not_remembered_of_a_peer() {
    let (caller, honest) = told().await;
    let lie = Hello { store: LAST, ..honest.clone() };
    assert_eq!(say(&caller, &lie).await, Err(Slug::Stale));
    assert_eq!((caller.bench.alarms("hello_beyond"), caller.counted(Slug::Stale)), (1, 1));
    let answer = say(&caller, &honest).await.unwrap();
    assert_eq!(answer.hello.remembers.map(|seen| seen.store), Some(honest.store));
    assert_eq!(answer.hello.must_rebootstrap, None, "the peer is who it was");
}
