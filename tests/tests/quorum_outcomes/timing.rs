//! When a write is answered: as soon as it is certain, or at its deadline; neither sooner nor later.

use std::time::Duration;

use federation_core::quorum::ack_tracker::Reason;
use federation_net::status::{LinkState, OpAtPeer};
use federation_tests::mock_peer::Manner;

use crate::bench::{ACK_TIMEOUT, Answered, Bench, LATENESS_MAX, SOON, words};

/// Times that a check may be repeated where the machine was too slow. What comes too soon fails at once.
const ATTEMPTS: usize = 3;

/// Whether the answer came at the deadline; false if later.
fn is_at_deadline(answered: &Answered) -> bool {
    assert!(answered.after >= ACK_TIMEOUT, "answered before the deadline: {answered:?}");
    answered.after <= ACK_TIMEOUT + LATENESS_MAX
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nothing_listening_a_write_fails_at_once() {
    for attempt in 1.. {
        let bench = Bench::start(2, &["a", "b"], |_| {}).await;
        let answered = bench.write("r").await;
        let is_soon = answered.after < SOON;
        assert!(is_soon || attempt < ATTEMPTS, "{answered:?}");
        answered.not_met_with(Reason::Unreachable, 1, 2, &[("a", "unreachable"), ("b", "unreachable")]);
        if is_soon {
            // Nor does the backoff that has grown meanwhile hold up a write.
            bench.await_state("a", LinkState::Down).await;
            let again = bench.write("again").await;
            assert!(again.after < ACK_TIMEOUT, "{again:?}");
            again.not_met_with(Reason::Unreachable, 1, 2, &[("a", "unreachable"), ("b", "unreachable")]);
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_peers_have_gone_a_write_fails_at_once() {
    for attempt in 1.. {
        let mut bench = Bench::with_peers_up(3, &["a", "b"]).await;
        bench.write("before").await.met();
        bench.peer_mut("a").leave().await;
        bench.peer_mut("b").leave().await;
        let answered = bench.write("r").await;
        let is_soon = answered.after < SOON;
        assert!(is_soon || attempt < ATTEMPTS, "{answered:?}");
        let not_met = answered.not_met();
        assert_eq!((not_met.reason, not_met.got, not_met.needed), (Reason::Unreachable, 1, 3));
        // Of three needed one that is gone is too many: the other may still have been asked.
        let peers = words(&not_met.peers);
        assert!(peers.values().all(|word| matches!(*word, "unreachable" | "pending")), "{peers:?}");
        assert!(peers.values().any(|word| *word == "unreachable"), "{peers:?}");
        if is_soon {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hung_of_two_needed_is_a_timeout_at_the_deadline() {
    for attempt in 1.. {
        let bench = Bench::with_peers_up(3, &["a", "b"]).await;
        bench.peer("b").answer_all(Manner::Hanging);
        let answered = bench.write("r").await;
        let is_in_time = is_at_deadline(&answered);
        assert!(is_in_time || attempt < ATTEMPTS, "{answered:?}");
        let dot = answered.not_met_with(Reason::Timeout, 2, 3, &[("a", "applied"), ("b", "pending")]);
        assert!(bench.peer("a").holds(&dot) && !bench.peer("b").holds(&dot));
        if is_in_time {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_peer_hung_is_a_timeout_at_the_deadline() {
    for attempt in 1.. {
        let bench = Bench::with_peers_up(2, &["a"]).await;
        bench.peer("a").answer_pushes(Manner::Hanging);
        let answered = bench.write("r").await;
        let is_in_time = is_at_deadline(&answered);
        assert!(is_in_time || attempt < ATTEMPTS, "{answered:?}");
        answered.not_met_with(Reason::Timeout, 1, 2, &[("a", "pending")]);
        if is_in_time {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_began_before_a_write_does_not_end_it_before_its_deadline() {
    let bench = Bench::start(2, &["a"], |peer| {
        peer.answer_all(Manner::Hanging);
        peer.arrive();
    })
    .await;
    // Hellos hang one after the other meanwhile: some write begins in the middle of one.
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..12 {
        let node = bench.node.clone();
        writes.spawn(async move {
            let begun = std::time::Instant::now();
            let result = node.write(crate::bench::mutation(&format!("r{number}")), None).await;
            Answered { after: begun.elapsed(), result }
        });
        tokio::time::sleep(Duration::from_millis(130)).await;
    }
    while let Some(answered) = writes.join_next().await {
        let answered = answered.unwrap();
        assert!(answered.after >= ACK_TIMEOUT, "answered before the deadline: {answered:?}");
        answered.not_met_with(Reason::Timeout, 1, 2, &[("a", "pending")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_peer_does_not_hold_up_a_quorum_that_does_not_need_it() {
    let bench = Bench::with_peers_up(1, &["a", "b"]).await;
    bench.peer("a").answer_all(Manner::Hanging);
    bench.peer("b").answer_all(Manner::Hanging);
    let answered = bench.write("alone").await;
    assert!(answered.after < ACK_TIMEOUT / 2, "{answered:?}");
    let receipt = answered.met();
    assert_eq!((receipt.got, receipt.needed), (1, 1));

    let bench = Bench::with_peers_up(2, &["a", "b"]).await;
    bench.peer("a").answer_all(Manner::Hanging);
    let answered = bench.write("with-one").await;
    assert!(answered.after < ACK_TIMEOUT / 2, "{answered:?}");
    let receipt = answered.met();
    assert_eq!((receipt.got, receipt.needed), (2, 2));
    let peers = words(&receipt.peers);
    assert_eq!((peers["a"], peers["b"]), ("pending", "applied"));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_gone_a_write_that_needs_all_does_not_wait_for_one_that_hangs() {
    for attempt in 1.. {
        let mut bench = Bench::with_peers_up(3, &["a", "b"]).await;
        bench.peer("a").answer_all(Manner::Hanging);
        bench.peer_mut("b").leave().await;
        let answered = bench.write("r").await;
        let is_soon = answered.after < SOON;
        assert!(is_soon || attempt < ATTEMPTS, "{answered:?}");
        let dot = answered.not_met_with(Reason::Unreachable, 1, 3, &[("a", "pending"), ("b", "unreachable")]);
        assert_eq!(bench.node.op_status(&dot).peers[bench.peer("a").id()], OpAtPeer::Pending);
        if is_soon {
            break;
        }
    }
}
