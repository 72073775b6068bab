//! What is done by hand about ops that a peer refused for good.

use federation_core::dot::Dot;
use federation_core::quorum::ack_tracker::Reason;
use federation_net::error::LetterError;
use federation_net::status::{LinkState, OpAtPeer};
use federation_tests::mock_peer::Manner;
use federation_wire::v1::ack::OpRefusal;

use crate::bench::{Bench, eventually, node_id};

/// A node whose one peer has refused an op, and takes what comes from here on.
async fn refused(refusal: OpRefusal, word: &str) -> (Bench, Dot) {
    let bench = Bench::with_peers_up(2, &["a"]).await;
    bench.peer("a").answer_pushes(Manner::Refusing(refusal));
    let dot = bench.write("refused").await.not_met_with(Reason::Refused, 1, 2, &[("a", word)]);
    bench.await_op(&dot, "a", OpAtPeer::Refused).await;
    bench.peer("a").answer_pushes(Manner::Obliging);
    (bench, dot)
}

/// A session to the peer runs to its end.
async fn session(bench: &mut Bench) {
    let ended = |bench: &Bench| {
        let sessions = bench.node.metrics().sessions;
        sessions.get("push_complete").copied().unwrap_or_default()
    };
    let before = ended(bench);
    bench.peer_mut("a").leave().await;
    bench.write("away").await.not_met_with(Reason::Unreachable, 1, 2, &[("a", "unreachable")]);
    bench.peer_mut("a").arrive();
    bench.await_state("a", LinkState::Up).await;
    eventually("a session has ended", || ended(bench) > before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_refused_goes_to_it_once_more_when_it_is_asked_for() {
    for (refusal, word) in [(OpRefusal::RuleViolation, "invalid"), (OpRefusal::TooLarge, "too_large")] {
        let (mut bench, dot) = refused(refusal, word).await;
        // Before it is asked for, a whole session has left it out.
        session(&mut bench).await;
        assert!(!bench.peer("a").holds(&dot), "sent or claimed");
        bench.node.retry_dead_letter(&node_id("a"), &dot).await.unwrap();
        bench.await_op(&dot, "a", OpAtPeer::Held).await;
        assert!(bench.peer("a").holds(&dot));
        let metrics = bench.node.metrics();
        assert_eq!((metrics.dead_letters[word], metrics.dead_letters_retried), (1, 1));
        assert!(bench.node.dead_letter_counts().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_a_peer_refused_goes_to_it_once_more_but_for_what_is_given_up() {
    let (bench, first) = refused(OpRefusal::KindNotAllowed, "forbidden").await;
    bench.peer("a").answer_pushes(Manner::Refusing(OpRefusal::RuleViolation));
    let second = bench.write("second").await.not_met_with(Reason::Refused, 1, 2, &[("a", "invalid")]);
    bench.await_op(&second, "a", OpAtPeer::Refused).await;
    bench.node.discard_dead_letter(&node_id("a"), &first).await.unwrap();
    bench.peer("a").answer_pushes(Manner::Obliging);
    assert_eq!(bench.node.retry_dead_letters(&node_id("a")).await, Ok(1));
    bench.await_op(&second, "a", OpAtPeer::Held).await;
    assert!(!bench.peer("a").holds(&first), "it is given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_refuses_again_is_listed_again() {
    let (bench, dot) = refused(OpRefusal::KindNotAllowed, "forbidden").await;
    bench.peer("a").answer_pushes(Manner::Refusing(OpRefusal::RuleViolation));
    bench.node.retry_dead_letter(&node_id("a"), &dot).await.unwrap();
    bench.await_op(&dot, "a", OpAtPeer::Refused).await;
    eventually("it is listed with the new reason", || {
        bench.node.dead_letter_counts().contains_key(&(node_id("a"), "invalid"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_is_neither_sent_nor_claimed_until_it_is_asked_for_by_name() {
    let (mut bench, dot) = refused(OpRefusal::KindNotAllowed, "forbidden").await;
    bench.node.discard_dead_letter(&node_id("a"), &dot).await.unwrap();
    bench.await_op(&dot, "a", OpAtPeer::Discarded).await;
    assert!(bench.node.dead_letter_counts().is_empty());
    // What else it refused would be sent again now.
    bench.peer("a").accept_otherwise();
    session(&mut bench).await;
    assert!(!bench.peer("a").holds(&dot), "sent or claimed");
    assert_eq!(bench.node.op_status(&dot).peers[&node_id("a")], OpAtPeer::Discarded);
    bench.node.discard_dead_letter(&node_id("a"), &dot).await.unwrap();
    assert_eq!(bench.node.metrics().dead_letters_discarded, 1, "it is given up once");

    bench.node.retry_dead_letter(&node_id("a"), &dot).await.unwrap();
    bench.await_op(&dot, "a", OpAtPeer::Held).await;
    assert!(bench.peer("a").holds(&dot));
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_listed_in_pages_and_nothing_is_done_about_others() {
    let (bench, dot) = refused(OpRefusal::KindNotAllowed, "forbidden").await;
    bench.peer("a").answer_pushes(Manner::Refusing(OpRefusal::KindNotAllowed));
    for id in ["second", "third"] {
        bench.write(id).await.not_met_with(Reason::Refused, 1, 2, &[("a", "forbidden")]);
    }
    let all = || bench.node.dead_letter_counts().values().sum::<u64>();
    eventually("three are refused", || all() == 3).await;
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = bench.node.dead_letters(None, after.as_ref(), 2).await.unwrap();
        assert!(page.letters.len() <= 2);
        found.extend(page.letters.into_iter().map(|letter| letter.key.unwrap().id.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, ["refused", "second", "third"]);
    let of_nobody = bench.node.dead_letters(Some(&node_id("nobody")), None, 9).await.unwrap();
    assert!(of_nobody.letters.is_empty());
    let read = bench.node.dead_letter(&node_id("a"), &dot).await.unwrap();
    assert_eq!(
        (read.version.dot, read.status.key.unwrap().id.to_string()),
        (dot.clone(), "refused".to_owned())
    );

    let other = Dot { seq: dot.seq + 100, ..dot.clone() };
    let none = Err(LetterError::NoSuchLetter);
    assert_eq!(bench.node.retry_dead_letter(&node_id("a"), &other).await, none);
    assert_eq!(bench.node.discard_dead_letter(&node_id("a"), &other).await, none);
    assert_eq!(bench.node.discard_dead_letter(&node_id("nobody"), &dot).await, none);
    let elsewhere = bench.node.retry_dead_letters(&node_id("nobody")).await;
    assert_eq!(elsewhere, Err(LetterError::NotDialled));
}
