use std::sync::Arc;

use federation_core::attest::Claimable;
use federation_core::dot::Dot;
use federation_core::dot_set::DotSet;
use federation_core::node_clock::NodeClock;
use federation_core::port::store::{SessionId, SessionStart};
use federation_core::session::{IncompleteSession, SessionReceiver, SessionSender};
use federation_core::vector_clock::VectorClock;

use super::fixture::dot;

fn dots(seqs: impl IntoIterator<Item = u64>) -> DotSet {
    seqs.into_iter().map(dot).collect()
}

fn sender(clock: impl IntoIterator<Item = u64>, withheld: impl IntoIterator<Item = u64>) -> SessionSender {
    let start = SessionStart {
        session: SessionId(1),
        clock: NodeClock::from(dots(clock)),
        withheld: VectorClock::from(dots(withheld)),
        facts: Arc::default(),
        own: None,
    };
    SessionSender::new(start, Claimable::Everything)
}

#[test]
fn counterexample_01_a_claim_leaves_out_what_was_refused() {
    let mut sender = sender(1..=5, []);
    sender.refused(&dot(3), &VectorClock::new());
    assert_eq!(*sender.complete_to(), dots([1, 2, 4, 5]));
}

#[test]
fn counterexample_01b_and_what_the_refused_op_had_replaced() {
    let mut sender = sender(1..=5, []);
    sender.refused(&dot(3), &VectorClock::from(dots([1, 2])));
    assert_eq!(*sender.complete_to(), dots([4, 5]));
}

#[test]
fn a_claim_leaves_out_the_dead_letters_of_the_receiver() {
    assert_eq!(*sender(1..=5, [2]).complete_to(), dots([1, 3, 4, 5]));
}

#[test]
fn the_receiver_takes_out_what_it_refused_itself() {
    let mut receiver = SessionReceiver::new();
    receiver.handled(0);
    receiver.refused(&dot(3), &VectorClock::from(dots([1])));
    let taken = receiver.complete(1, &dots(1..=4)).unwrap();
    assert_eq!(*taken, dots([2, 4]));
}

#[test]
fn nothing_is_claimed_before_every_page_was_handled() {
    let mut receiver = SessionReceiver::new();
    receiver.handled(0);
    receiver.handled(2);
    assert_eq!(receiver.complete(3, &dots([1])), Err(IncompleteSession { handled: 2, pages: 3 }));
    receiver.handled(1);
    assert!(receiver.complete(3, &dots([1])).is_ok());
}

#[test]
fn a_session_without_a_page_claims_at_once() {
    let claimed: Vec<Dot> = [dot(1)].into();
    assert!(SessionReceiver::new().complete(0, &claimed.into_iter().collect()).is_ok());
}

#[test]
fn a_sender_that_leaves_gaps_takes_no_memory_and_gets_no_completion() {
    let mut receiver = SessionReceiver::new();
    for page in 0..10_000 {
        receiver.handled(2 * page);
    }
    assert_eq!(receiver.complete(20_000, &dots([1])), Err(IncompleteSession { handled: 64, pages: 20_000 }));
}
