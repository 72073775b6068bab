use federation_core::coordinator::{Coordinator, PeerAnswer, Settled};
use federation_core::quorum::ack_tracker::{AckStatus, AckTracker, PeerFailure, Reason, Verdict};
use federation_core::time::MonoMs;

use super::fixture::{dot, hash, node};

fn tracker(seq: u64, needed: usize) -> AckTracker {
    AckTracker::new(needed, dot(seq), hash(seq), [node("b"), node("c")], MonoMs(0), MonoMs(2_000))
}

fn ack(seq: u64) -> PeerAnswer {
    PeerAnswer::Ack { status: AckStatus::Applied, hash: hash(seq) }
}

/// Drives a coordinator and gives what each step settled.
struct Bench(Coordinator);

impl Bench {
    fn step(&mut self, run: impl FnOnce(&mut Coordinator, &mut Vec<Settled>)) -> Vec<Settled> {
        let mut out = Vec::new();
        run(&mut self.0, &mut out);
        assert_eq!(self.0.check_invariants(), Ok(()));
        out
    }
}

#[test]
fn a_write_settles_once_and_leaves() {
    let mut bench = Bench(Coordinator::new());
    assert!(bench.step(|c, out| c.committed(tracker(1, 2), MonoMs(1), out)).is_empty());
    assert_eq!(bench.0.open_writes(), 1);
    let settled = bench.step(|c, out| c.answered(&node("b"), &dot(1), &ack(1), MonoMs(2), out));
    assert!(matches!(settled[..], [Settled { verdict: Verdict::Met { got: 2 }, .. }]));
    assert_eq!(bench.0.open_writes(), 0);
    assert!(bench.step(|c, out| c.answered(&node("c"), &dot(1), &ack(1), MonoMs(3), out)).is_empty());
}

#[test]
fn a_write_of_one_never_opens() {
    let mut bench = Bench(Coordinator::new());
    let settled = bench.step(|c, out| c.committed(tracker(1, 1), MonoMs(1), out));
    assert!(matches!(settled[..], [Settled { verdict: Verdict::Met { got: 1 }, .. }]));
    assert_eq!(bench.0.open_writes(), 0);
}

#[test]
fn writes_whose_callers_have_gone_are_settled_by_their_deadline() {
    let mut bench = Bench(Coordinator::new());
    for seq in 1..=3 {
        bench.step(|c, out| c.committed(tracker(seq, 2), MonoMs(1), out));
    }
    assert!(bench.step(|c, out| c.tick(MonoMs(1_999), out)).is_empty());
    let settled = bench.step(|c, out| c.tick(MonoMs(2_000), out));
    assert_eq!(settled.len(), 3);
    let timed_out = Verdict::NotMet { got: 1, needed: 2, reason: Reason::Timeout };
    assert!(settled.iter().all(|write| write.verdict == timed_out));
}

#[test]
fn a_peer_that_is_down_fails_every_write_that_waits_for_it() {
    let mut bench = Bench(Coordinator::new());
    for seq in 1..=3 {
        bench.step(|c, out| c.committed(tracker(seq, 2), MonoMs(1), out));
    }
    let dots = [dot(1), dot(2), dot(3)];
    let down = PeerFailure::Unreachable;
    assert!(bench.step(|c, out| c.failed(&node("b"), &dots, down, out)).is_empty());
    let settled = bench.step(|c, out| c.failed(&node("c"), &dots, down, out));
    let unreachable = Verdict::NotMet { got: 1, needed: 2, reason: Reason::Unreachable };
    assert!(settled.len() == 3 && settled.iter().all(|write| write.verdict == unreachable));
}
