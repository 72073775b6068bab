//! The quorum arithmetic, every case of it for up to seven nodes, against an oracle that reads the log of events
//! from the beginning each time and keeps no state.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test says what went wrong by panicking")]

use proptest::prelude::*;

use federation_core::dot::{Dot, Origin};
use federation_core::id::{BootId, NodeId, OpHash};
use federation_core::port::store::RefusalReason;
use federation_core::quorum::ack_tracker::{
    AckJudgement, AckStatus, AckTracker, Deferral, PeerFailure, PeerOutcome, Reason, Refusal, Verdict,
};
use federation_core::quorum::policy::{WriteLevel, majority};
use federation_core::time::{DurationMs, MonoMs};

const START: MonoMs = MonoMs(1_000);
const DEADLINE: MonoMs = MonoMs(3_000);
const BEFORE: MonoMs = MonoMs(1_500);
const HASH: OpHash = OpHash([7; 32]);
const OTHER_HASH: OpHash = OpHash([8; 32]);

/// What can happen to a write. Peers are numbers; those from n - 1 on are strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Local,
    Deadline,
    Ack(usize),
    WrongHash(usize),
    WrongOp(usize),
    Refused(usize, Refusal),
    Failed(usize, PeerFailure),
    PendingAgain(usize),
}

const FOR_GOOD: Refusal = Refusal::ForGood(RefusalReason::Forbidden);
const FOR_NOW: Refusal = Refusal::ForNow(Deferral::Busy);

fn peer(number: usize) -> NodeId {
    NodeId::new(&format!("p{number}")).unwrap()
}

fn dot(seq: u64) -> Dot {
    Dot { origin: Origin { node: NodeId::new("me").unwrap(), epoch: BootId(1) }, seq }
}

fn tracker(n: usize, needed: usize) -> AckTracker {
    AckTracker::new(needed, dot(1), HASH, (0..n - 1).map(peer), START, DEADLINE)
}

fn play(tracker: &mut AckTracker, event: Event) -> Option<Verdict> {
    let ack = |t: &mut AckTracker, p: usize, seq, hash| {
        t.ack(&peer(p), &dot(seq), &hash, AckStatus::Applied, BEFORE)
    };
    let verdict = match event {
        Event::Local => tracker.local_committed(BEFORE),
        Event::Deadline => tracker.deadline(DEADLINE),
        Event::Ack(p) => ack(tracker, p, 1, HASH),
        Event::WrongHash(p) => ack(tracker, p, 1, OTHER_HASH),
        Event::WrongOp(p) => ack(tracker, p, 2, HASH),
        Event::Refused(p, refusal) => tracker.refused(&peer(p), refusal),
        Event::Failed(p, failure) => tracker.failed(&peer(p), failure),
        Event::PendingAgain(p) => {
            tracker.pending_again(&peer(p));
            None
        }
    };
    assert_eq!(tracker.check_invariants(), Ok(()), "after {event:?}: {tracker:?}");
    verdict
}

/// What one peer came to by the end of the log, read backwards from what may not change any more.
fn outcome_of(number: usize, log: &[Event]) -> &'static str {
    let mut is = "pending";
    for event in log {
        is = match (is, event) {
            ("acked" | "drift", _) => is,
            (_, Event::Ack(p)) if *p == number => "acked",
            (_, Event::WrongHash(p)) if *p == number => "drift",
            ("refused for good", _) => is,
            (_, Event::Refused(p, r)) if *p == number => {
                if *r == FOR_GOOD {
                    "refused for good"
                } else {
                    "refused for now"
                }
            }
            (_, Event::PendingAgain(p)) if *p == number => "pending",
            ("refused for now", _) => is,
            (_, Event::Failed(p, PeerFailure::TimedOut)) if *p == number => "timed out",
            (_, Event::Failed(p, PeerFailure::RequestRefused)) if *p == number => "request refused",
            (_, Event::Failed(p, PeerFailure::Withheld)) if *p == number => "withheld",
            (_, Event::Failed(p, _)) if *p == number => "down",
            _ => is,
        };
    }
    is
}

/// The verdict after `log`, or none: the first beginning of the log that makes it certain decides.
fn oracle(n: usize, needed: usize, log: &[Event]) -> Option<Verdict> {
    (0..=log.len()).find_map(|end| certain(n, needed, &log[..end]))
}

fn certain(n: usize, needed: usize, log: &[Event]) -> Option<Verdict> {
    if !log.contains(&Event::Local) {
        return None;
    }
    let outcomes: Vec<_> = (0..n - 1).map(|p| outcome_of(p, log)).collect();
    let count = |of: &str| outcomes.iter().filter(|o| **o == of).count();
    let got = 1 + count("acked");
    if got >= needed {
        return Some(Verdict::Met { got });
    }
    let late = log.contains(&Event::Deadline);
    if got + count("pending") >= needed && !late {
        return None;
    }
    let reason = if needed > n {
        Reason::InsufficientPeers
    } else if count("drift") > 0 {
        Reason::IdDrift
    } else if late && count("pending") > 0 {
        Reason::Timeout
    } else if ["refused for good", "refused for now", "request refused", "withheld"]
        .iter()
        .any(|o| count(o) > 0)
    {
        Reason::Refused
    } else if count("timed out") > 0 {
        Reason::Timeout
    } else {
        Reason::Unreachable
    };
    Some(Verdict::NotMet { got, needed, reason })
}

/// Every way in which a write can go on from `log`, each peer having at most one event: peers are alike, so
/// they come in order. `budget` holds the events that may still happen once.
fn every_way_on(
    n: usize,
    needed: usize,
    tracker: &AckTracker,
    log: &mut Vec<Event>,
    peers: usize,
    once: &[Event],
) {
    let verdict = oracle(n, needed, log);
    assert_eq!(tracker.verdict(), verdict, "n {n} needed {needed} after {log:?}");
    let mut next: Vec<Event> = once.to_vec();
    if peers < n - 1 {
        next.extend([
            Event::Ack(peers),
            Event::WrongHash(peers),
            Event::Refused(peers, FOR_NOW),
            Event::Failed(peers, PeerFailure::Unreachable),
            Event::Failed(peers, PeerFailure::TimedOut),
        ]);
    }
    for event in next {
        let mut after = tracker.clone();
        let given = play(&mut after, event);
        log.push(event);
        let is_first = tracker.verdict().is_none();
        assert_eq!(
            given,
            after.verdict().filter(|_| is_first),
            "a verdict is given once, by the event that brings it"
        );
        let left: Vec<Event> = once.iter().copied().filter(|e| *e != event).collect();
        let peers = if left.len() == once.len() { peers + 1 } else { peers };
        every_way_on(n, needed, &after, log, peers, &left);
        log.pop();
    }
}

#[test]
fn every_history_of_up_to_five_nodes() {
    for n in 1..=5 {
        for needed in 1..=n + 1 {
            let begin = tracker(n, needed);
            every_way_on(n, needed, &begin, &mut Vec::new(), 0, &[Event::Local, Event::Deadline]);
        }
    }
}

#[test]
fn every_history_of_six_and_seven_nodes_after_the_local_commit() {
    for n in 6..=7 {
        for needed in 1..=n + 1 {
            let mut begin = tracker(n, needed);
            play(&mut begin, Event::Local);
            every_way_on(n, needed, &begin, &mut vec![Event::Local], 0, &[Event::Deadline]);
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    let p = || 0..7_usize;
    let refusal = prop_oneof![Just(FOR_GOOD), Just(FOR_NOW)];
    let failure = prop_oneof![
        Just(PeerFailure::Unreachable),
        Just(PeerFailure::ConnectionLost),
        Just(PeerFailure::TimedOut),
        Just(PeerFailure::RequestRefused),
        Just(PeerFailure::Withheld),
        Just(PeerFailure::Abandoned),
    ];
    prop_oneof![
        1 => Just(Event::Local),
        1 => Just(Event::Deadline),
        5 => p().prop_map(Event::Ack),
        1 => p().prop_map(Event::WrongHash),
        1 => p().prop_map(Event::WrongOp),
        3 => (p(), refusal).prop_map(|(p, r)| Event::Refused(p, r)),
        4 => (p(), failure).prop_map(|(p, f)| Event::Failed(p, f)),
        3 => p().prop_map(Event::PendingAgain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn any_events_in_any_order(n in 1..8_usize, needed in 1..9_usize, log in prop::collection::vec(event(), 0..40)) {
        let mut tracker = tracker(n, needed);
        let mut verdicts = Vec::new();
        for (i, event) in log.iter().enumerate() {
            verdicts.extend(play(&mut tracker, *event));
            prop_assert_eq!(tracker.verdict(), oracle(n, needed, &log[..=i]), "{:?}", &log[..=i]);
        }
        prop_assert!(verdicts.len() <= 1, "given once");
        prop_assert_eq!(tracker.outcomes().len(), n - 1, "nobody joins the set");
        for p in 0..n - 1 {
            let expect = match outcome_of(p, &log) {
                "acked" => "applied",
                "drift" => "id_drift",
                "refused for good" => "forbidden",
                "refused for now" => "busy",
                "timed out" => "timeout",
                "request refused" => "request_refused",
                "down" => tracker.outcomes()[&peer(p)].slug(),
                other => other,
            };
            prop_assert_eq!(tracker.outcomes()[&peer(p)].slug(), expect, "also after the verdict");
        }
    }
}

/// Plays the events on a write that is durable here, and expects what comes of the last one.
fn check(n: usize, needed: usize, events: &[Event], expect: Option<Verdict>) {
    let mut tracker = tracker(n, needed);
    let mut last = play(&mut tracker, Event::Local);
    for event in events {
        assert_eq!(last, None, "a verdict before {event:?}");
        last = play(&mut tracker, *event);
    }
    assert_eq!(last, expect, "{events:?}");
}

#[expect(clippy::unnecessary_wraps, reason = "what events return")]
fn not_met(got: usize, needed: usize, reason: Reason) -> Option<Verdict> {
    Some(Verdict::NotMet { got, needed, reason })
}

const DOWN: PeerFailure = PeerFailure::Unreachable;

#[test]
fn a_quorum_of_one_is_met_by_the_local_commit() {
    check(1, 1, &[], Some(Verdict::Met { got: 1 }));
    check(3, 1, &[], Some(Verdict::Met { got: 1 }));
}

#[test]
fn a_majority_is_met_by_its_last_ack() {
    check(3, 2, &[Event::Ack(1)], Some(Verdict::Met { got: 2 }));
    check(3, 3, &[Event::Ack(1), Event::Ack(0)], Some(Verdict::Met { got: 3 }));
    check(5, 3, &[Event::Failed(0, DOWN), Event::Ack(3), Event::Ack(2)], Some(Verdict::Met { got: 3 }));
}

#[test]
fn one_peer_counts_once_and_strangers_never() {
    check(3, 3, &[Event::Ack(1), Event::Ack(1), Event::Ack(2), Event::Ack(9)], None);
    check(3, 2, &[Event::WrongOp(1)], None);
}

#[test]
fn with_all_peers_down_the_last_failure_decides() {
    check(3, 2, &[Event::Failed(0, DOWN)], None);
    let both = [Event::Failed(0, DOWN), Event::Failed(1, DOWN)];
    check(3, 2, &both, not_met(1, 2, Reason::Unreachable));
    let lost = [Event::Failed(0, PeerFailure::ConnectionLost), Event::Failed(1, DOWN)];
    check(3, 2, &lost, not_met(1, 2, Reason::Unreachable));
    check(3, 3, &[Event::Failed(0, DOWN)], not_met(1, 3, Reason::Unreachable));
}

#[test]
fn a_hung_peer_is_a_timeout_at_the_deadline() {
    check(3, 3, &[Event::Ack(0), Event::Deadline], not_met(2, 3, Reason::Timeout));
    check(3, 2, &[Event::Failed(0, DOWN), Event::Deadline], not_met(1, 2, Reason::Timeout));
    check(3, 2, &[Event::Refused(0, FOR_NOW), Event::Deadline], not_met(1, 2, Reason::Timeout));
    let mut early = tracker(3, 2);
    early.local_committed(BEFORE);
    assert_eq!(early.deadline(MonoMs(DEADLINE.0 - 1)), None, "a timer that fires early decides nothing");
    assert_eq!(early.deadline(DEADLINE), not_met(1, 2, Reason::Timeout));
}

#[test]
fn what_an_operator_must_act_on_comes_first() {
    let drift = Event::WrongHash(0);
    check(3, 2, &[drift, Event::Deadline], not_met(1, 2, Reason::IdDrift));
    check(3, 2, &[drift, Event::Failed(1, DOWN)], not_met(1, 2, Reason::IdDrift));
    check(3, 2, &[drift, Event::Refused(1, FOR_GOOD)], not_met(1, 2, Reason::IdDrift));
    check(3, 2, &[Event::Refused(0, FOR_GOOD), Event::Failed(1, DOWN)], not_met(1, 2, Reason::Refused));
    let timed_out = PeerFailure::TimedOut;
    check(3, 2, &[Event::Failed(0, timed_out), Event::Failed(1, DOWN)], not_met(1, 2, Reason::Timeout));
    check(3, 2, &[Event::Refused(0, FOR_NOW), Event::Failed(1, timed_out)], not_met(1, 2, Reason::Refused));
}

#[test]
fn a_namespace_with_too_few_replicas_fails_at_once_and_does_not_shrink() {
    check(2, 3, &[], not_met(1, 3, Reason::InsufficientPeers));
    check(1, WriteLevel::Count(2).needed(1), &[], not_met(1, 2, Reason::InsufficientPeers));
    check(4, WriteLevel::Majority.needed(4), &[Event::Ack(0), Event::Ack(1)], Some(Verdict::Met { got: 3 }));
    assert_eq!(majority(4), 3);
}

#[test]
fn an_ack_with_another_hash_never_counts_nor_does_what_that_peer_says_later() {
    check(2, 2, &[Event::WrongHash(0)], not_met(1, 2, Reason::IdDrift));
    check(3, 2, &[Event::WrongHash(0), Event::Ack(0)], None);
    let mut tracker = tracker(3, 2);
    play(&mut tracker, Event::WrongHash(0));
    assert_eq!(tracker.judge(&peer(0), &dot(1), &HASH), AckJudgement::Drift);
    assert_eq!(tracker.judge(&peer(1), &dot(1), &HASH), AckJudgement::Counts);
    assert_eq!(tracker.judge(&peer(1), &dot(1), &OTHER_HASH), AckJudgement::Drift);
    assert_eq!(tracker.judge(&peer(1), &dot(2), &HASH), AckJudgement::OtherOp);
    assert_eq!(tracker.judge(&peer(5), &dot(1), &HASH), AckJudgement::Stranger);
    play(&mut tracker, Event::Ack(1));
    assert_eq!(tracker.judge(&peer(1), &dot(1), &HASH), AckJudgement::Repeated);
}

#[test]
fn a_peer_that_failed_and_then_acks_counts_until_the_verdict() {
    check(3, 2, &[Event::Failed(0, DOWN), Event::Ack(0)], Some(Verdict::Met { got: 2 }));
    let again = [Event::Failed(0, DOWN), Event::PendingAgain(0), Event::Failed(1, DOWN)];
    check(3, 2, &again, None);
    check(
        3,
        2,
        &[Event::Refused(0, FOR_GOOD), Event::PendingAgain(0), Event::Failed(1, DOWN)],
        not_met(1, 2, Reason::Refused),
    );
}

#[test]
fn the_verdict_stays_while_the_outcomes_go_on() {
    let mut tracker = tracker(3, 2);
    play(&mut tracker, Event::Local);
    play(&mut tracker, Event::Failed(0, DOWN));
    let verdict = play(&mut tracker, Event::Failed(1, DOWN));
    assert_eq!(verdict, not_met(1, 2, Reason::Unreachable));
    let late = tracker.ack(&peer(0), &dot(1), &HASH, AckStatus::Duplicate, MonoMs(9_000));
    assert_eq!((late, tracker.verdict()), (None, verdict));
    let acked = PeerOutcome::Acked { status: AckStatus::Duplicate, after: DurationMs(8_000) };
    assert_eq!(tracker.outcomes()[&peer(0)], acked);
    assert!(!tracker.is_everywhere());
    play(&mut tracker, Event::Ack(1));
    assert!(tracker.is_everywhere());
    assert_eq!((tracker.got(), tracker.n()), (3, 3));
}

#[test]
fn nothing_is_answered_before_the_local_commit() {
    let mut tracker = tracker(3, 2);
    for event in [Event::Ack(0), Event::Ack(1), Event::Deadline] {
        assert_eq!(play(&mut tracker, event), None);
    }
    assert_eq!(play(&mut tracker, Event::Local), Some(Verdict::Met { got: 3 }));

    let mut slow_disk = self::tracker(3, 2);
    play(&mut slow_disk, Event::Deadline);
    assert_eq!(play(&mut slow_disk, Event::Local), not_met(1, 2, Reason::Timeout));
    let mut slower = self::tracker(3, 2);
    assert_eq!(slower.local_committed(DEADLINE), not_met(1, 2, Reason::Timeout), "before its timer fired");
}

#[test]
fn slugs_are_distinct_and_stable() {
    let outcomes = [
        (PeerOutcome::Pending, "pending"),
        (PeerOutcome::Acked { status: AckStatus::Applied, after: DurationMs(0) }, "applied"),
        (PeerOutcome::Acked { status: AckStatus::Duplicate, after: DurationMs(0) }, "duplicate"),
        (PeerOutcome::Acked { status: AckStatus::Superseded, after: DurationMs(0) }, "superseded"),
        (PeerOutcome::IdDrift, "id_drift"),
        (PeerOutcome::Refused(Refusal::ForGood(RefusalReason::Forbidden)), "forbidden"),
        (PeerOutcome::Refused(Refusal::ForGood(RefusalReason::Invalid)), "invalid"),
        (PeerOutcome::Refused(Refusal::ForGood(RefusalReason::TooLarge)), "too_large"),
        (PeerOutcome::Refused(Refusal::ForNow(Deferral::Busy)), "busy"),
        (PeerOutcome::Refused(Refusal::ForNow(Deferral::DiskFull)), "disk_full"),
        (PeerOutcome::Refused(Refusal::ForNow(Deferral::ClockAhead)), "clock_ahead"),
        (PeerOutcome::Failed(PeerFailure::Unreachable), "unreachable"),
        (PeerOutcome::Failed(PeerFailure::ConnectionLost), "connection_lost"),
        (PeerOutcome::Failed(PeerFailure::TimedOut), "timeout"),
        (PeerOutcome::Failed(PeerFailure::RequestRefused), "request_refused"),
        (PeerOutcome::Failed(PeerFailure::Withheld), "withheld"),
        (PeerOutcome::Failed(PeerFailure::Abandoned), "abandoned"),
    ];
    for (outcome, slug) in outcomes {
        assert_eq!(outcome.slug(), slug);
    }
    let reasons = [
        (Reason::Unreachable, "unreachable"),
        (Reason::Timeout, "timeout"),
        (Reason::IdDrift, "id_drift"),
        (Reason::Refused, "refused"),
        (Reason::InsufficientPeers, "insufficient_peers"),
    ];
    for (reason, slug) in reasons {
        assert_eq!(reason.slug(), slug);
    }
}
