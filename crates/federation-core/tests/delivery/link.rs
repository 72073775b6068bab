use std::sync::Arc;

use federation_core::limits::{GROUP_OPS_MAX, LIVE_LANE_OPS_MAX, LIVE_PAGES_IN_FLIGHT_MAX};
use federation_core::link::{Link, LinkCommand, LinkEvent, LinkPhase, RELAY_DELAY, SessionEnd};
use federation_core::port::store::Written;
use federation_core::quorum::ack_tracker::PeerFailure;
use federation_core::time::{DurationMs, MonoMs};
use proptest::prelude::*;

use super::fixture::{op, op_of};

/// A link under test, at a time of its own.
struct Bench {
    link: Link,
    now: MonoMs,
}

/// What a command is, without what it carries.
#[derive(Debug, PartialEq, Eq)]
enum Did {
    Hello,
    Disconnect,
    Live(u64, usize),
    Push,
    Pull,
    CountOut(usize),
}

impl Bench {
    fn new() -> Self {
        Self { link: Link::new(None), now: MonoMs(0) }
    }

    fn every(interval: u64) -> Self {
        Self { link: Link::new(Some(DurationMs(interval))), now: MonoMs(0) }
    }

    fn up() -> Self {
        let mut bench = Self::new();
        bench.tell(LinkEvent::Start);
        bench.tell(LinkEvent::HelloAnswered { lacks: false, offers: false });
        bench
    }

    fn tell(&mut self, event: LinkEvent) -> Vec<Did> {
        let mut out = Vec::new();
        self.link.on_event(self.now, 0, event, &mut out);
        assert_eq!(self.link.check_invariants(), Ok(()));
        out.into_iter().map(did).collect()
    }

    fn offer(&mut self, seqs: std::ops::RangeInclusive<u64>) -> Vec<Did> {
        self.tell(LinkEvent::Offer(seqs.map(op).collect()))
    }

    fn after(&mut self, span: u64) -> Vec<Did> {
        self.now = self.now.saturating_add(DurationMs(span));
        self.tell(LinkEvent::Tick)
    }
}

fn did(command: LinkCommand) -> Did {
    match command {
        LinkCommand::Hello => Did::Hello,
        LinkCommand::Disconnect => Did::Disconnect,
        LinkCommand::SendLive { page, ops } => Did::Live(page, ops.len()),
        LinkCommand::StartPush => Did::Push,
        LinkCommand::StartPull => Did::Pull,
        LinkCommand::CountOut { ops, .. } => Did::CountOut(ops.len()),
    }
}

const LOST: PeerFailure = PeerFailure::ConnectionLost;

#[test]
fn a_start_says_hello_and_compares() {
    let mut bench = Bench::new();
    assert_eq!(bench.tell(LinkEvent::Start), [Did::Hello]);
    assert_eq!(bench.tell(LinkEvent::HelloAnswered { lacks: true, offers: true }), [Did::Push, Did::Pull]);
    assert_eq!(bench.link.phase(), LinkPhase::Up);
}

#[test]
fn ops_of_one_moment_share_a_page_and_pages_under_way_are_bounded() {
    let mut bench = Bench::up();
    assert_eq!(bench.offer(1..=3), [Did::Live(1, 3)]);
    for page in 2..=LIVE_PAGES_IN_FLIGHT_MAX as u64 {
        assert_eq!(bench.offer(10 * page..=10 * page), [Did::Live(page, 1)]);
    }
    assert_eq!(bench.offer(100..=150), [], "it waits");
    assert_eq!(bench.link.lane_ops(), 3 + LIVE_PAGES_IN_FLIGHT_MAX - 1 + 51);
    let answered = LinkEvent::PageAnswered { page: 1, retry: false };
    assert_eq!(bench.tell(answered), [Did::Live(LIVE_PAGES_IN_FLIGHT_MAX as u64 + 1, 51)]);
}

#[test]
fn a_page_holds_a_group_and_no_more() {
    let mut bench = Bench::up();
    let ops = (1..=GROUP_OPS_MAX as u64 + 1).map(op).collect();
    assert_eq!(bench.tell(LinkEvent::Offer(ops)), [Did::Live(1, GROUP_OPS_MAX), Did::Live(2, 1)]);
    bench.tell(LinkEvent::PageAnswered { page: 1, retry: false });
    bench.tell(LinkEvent::PageAnswered { page: 2, retry: false });
    let large: Vec<Arc<Written>> = (1..=5).map(|seq| op_of(seq, 1_000_000)).collect();
    assert_eq!(bench.tell(LinkEvent::Offer(large)), [Did::Live(3, 4), Did::Live(4, 1)]);
}

#[test]
fn a_write_to_a_peer_in_backoff_gets_one_attempt_and_only_its_failure_counts_the_peer_out() {
    let mut bench = Bench::new();
    bench.tell(LinkEvent::Start);
    assert_eq!(bench.tell(LinkEvent::HelloFailed(PeerFailure::Unreachable)), [Did::Disconnect]);
    bench.now = MonoMs(60);
    assert_eq!(bench.offer(1..=2), [Did::Hello]);
    let failed = bench.tell(LinkEvent::HelloFailed(PeerFailure::Unreachable));
    assert_eq!(failed, [Did::Disconnect, Did::CountOut(2)]);
    assert_eq!(bench.offer(3..=3), [], "not at once again");
    assert_eq!(bench.offer(4..=4), [], "the attempt to come is shared");
    assert_eq!(bench.after(50), [Did::Hello], "but very soon");
    let failed = bench.tell(LinkEvent::HelloFailed(PeerFailure::Unreachable));
    assert_eq!(failed, [Did::Disconnect, Did::CountOut(2)]);
}

#[test]
fn an_attempt_that_began_before_a_write_does_not_count_the_peer_out_for_it() {
    let refused = || LinkEvent::HelloFailed(PeerFailure::RequestRefused);
    let mut bench = Bench::new();
    bench.tell(LinkEvent::Start);
    assert_eq!(bench.offer(1..=2), []);
    assert_eq!(bench.tell(refused()), [Did::Disconnect], "what was refused was said before the write");
    assert_eq!(bench.link.lane_ops(), 2);
    assert_eq!(bench.after(50), [Did::Hello], "an attempt of its own, not at the end of the backoff");
    assert_eq!(bench.offer(3..=3), []);
    assert_eq!(bench.tell(refused()), [Did::Disconnect, Did::CountOut(2)]);
    assert_eq!(bench.after(50), [Did::Hello]);
    let answered = bench.tell(LinkEvent::HelloAnswered { lacks: false, offers: false });
    assert_eq!(answered, [Did::Push, Did::Live(1, 1)]);

    // The same with the pages of a peer that answers hello and nothing else.
    for page in 1..=2 {
        assert_eq!(bench.tell(LinkEvent::PageFailed { page, failure: LOST }), [Did::Disconnect, Did::Hello]);
        bench.tell(LinkEvent::HelloAnswered { lacks: false, offers: false });
    }
    bench.offer(4..=4);
    bench.offer(5..=6);
    let third = bench.tell(LinkEvent::PageFailed { page: 3, failure: LOST });
    assert_eq!(third, [Did::Disconnect, Did::CountOut(2)], "what went out; the rest waits");
    assert_eq!(bench.after(50), [Did::Hello]);
}

#[test]
fn a_lost_connection_is_tried_again_before_anything_is_counted_out() {
    let mut bench = Bench::up();
    bench.offer(1..=2);
    bench.offer(3..=3);
    assert_eq!(bench.tell(LinkEvent::PageFailed { page: 1, failure: LOST }), [Did::Disconnect, Did::Hello]);
    assert_eq!(bench.tell(LinkEvent::PageFailed { page: 2, failure: LOST }), [], "it failed with the first");
    let answered = LinkEvent::HelloAnswered { lacks: false, offers: false };
    assert_eq!(
        bench.tell(answered),
        [Did::Push, Did::Live(3, 3)],
        "all of it again, and a session to be sure"
    );
}

#[test]
fn a_hello_that_fails_on_an_open_connection_counts_nobody_out_before_a_fresh_one_has_failed() {
    let mut bench = Bench::every(30_000);
    bench.tell(LinkEvent::Start);
    bench.tell(LinkEvent::HelloAnswered { lacks: false, offers: false });
    assert_eq!(bench.after(30_000), [Did::Hello], "on the connection that is open, and dead");
    bench.offer(1..=2);
    let timed_out = || LinkEvent::HelloFailed(PeerFailure::TimedOut);
    assert_eq!(bench.tell(timed_out()), [Did::Disconnect, Did::Hello], "nobody has tried anew yet");
    assert_eq!(bench.offer(3..=3), [], "after that attempt began");
    assert_eq!(bench.tell(timed_out()), [Did::Disconnect, Did::CountOut(2)]);
    assert_eq!(bench.link.failed_attempts(), 1);

    // The same with a page that fails while the hello is under way: the hello is that of the dropped connection.
    let mut bench = Bench::every(30_000);
    bench.tell(LinkEvent::Start);
    bench.tell(LinkEvent::HelloAnswered { lacks: false, offers: false });
    assert_eq!(bench.after(30_000), [Did::Hello]);
    bench.offer(1..=2);
    assert_eq!(bench.tell(LinkEvent::PageFailed { page: 1, failure: LOST }), [Did::Disconnect]);
    assert_eq!(bench.tell(timed_out()), [Did::Disconnect, Did::Hello]);
    let answered = bench.tell(LinkEvent::HelloAnswered { lacks: false, offers: false });
    assert_eq!(answered, [Did::Push, Did::Live(2, 2)]);
}

#[test]
fn a_peer_that_answers_hello_and_no_page_backs_off() {
    let mut bench = Bench::up();
    bench.offer(1..=1);
    for page in 1..=2 {
        assert_eq!(bench.tell(LinkEvent::PageFailed { page, failure: LOST }), [Did::Disconnect, Did::Hello]);
        bench.tell(LinkEvent::HelloAnswered { lacks: false, offers: false });
    }
    let third = bench.tell(LinkEvent::PageFailed { page: 3, failure: LOST });
    assert_eq!(third, [Did::Disconnect, Did::CountOut(1)]);
    assert_eq!(bench.link.phase(), LinkPhase::Down);
    assert!(bench.link.wake_at().is_some());
}

#[test]
fn backoff_grows_and_any_call_from_the_peer_ends_it() {
    let mut bench = Bench::new();
    bench.tell(LinkEvent::Start);
    let mut waits = Vec::new();
    for _ in 0..12 {
        bench.tell(LinkEvent::HelloFailed(PeerFailure::Unreachable));
        let at = bench.link.wake_at().unwrap();
        waits.push(at.since(bench.now).0);
        bench.now = at;
        assert_eq!(bench.tell(LinkEvent::Tick), [Did::Hello]);
    }
    assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
    assert_eq!((waits[0], waits[11]), (50, 1_000), "half of the step at the least");
    bench.tell(LinkEvent::HelloFailed(PeerFailure::Unreachable));
    assert_eq!(bench.tell(LinkEvent::Contact), [Did::Hello]);
    bench.tell(LinkEvent::HelloFailed(PeerFailure::Unreachable));
    assert_eq!(bench.link.wake_at().unwrap().since(bench.now).0, 50, "it begins from the shortest");
}

#[test]
fn without_room_a_session_delivers() {
    let mut bench = Bench::new();
    bench.tell(LinkEvent::Start);
    let ops = (1..=LIVE_LANE_OPS_MAX as u64 + 10).map(op).collect();
    bench.tell(LinkEvent::Offer(ops));
    assert_eq!(bench.link.lane_ops(), LIVE_LANE_OPS_MAX);
    let answered = bench.tell(LinkEvent::HelloAnswered { lacks: false, offers: false });
    assert_eq!(answered.first(), Some(&Did::Push));
    let mut bench = Bench::up();
    assert_eq!(bench.tell(LinkEvent::Overflow), []);
    assert_eq!(bench.after(100), [Did::Hello]);
    assert_eq!(bench.tell(LinkEvent::HelloAnswered { lacks: false, offers: false }), [Did::Push]);
}

#[test]
fn without_an_interval_nothing_is_asked_and_with_one_it_is() {
    assert_eq!(Bench::up().link.wake_at(), None);
    let mut bench = Bench::every(30_000);
    bench.tell(LinkEvent::Start);
    bench.tell(LinkEvent::HelloAnswered { lacks: false, offers: false });
    assert_eq!(bench.after(29_999), []);
    assert_eq!(bench.after(1), [Did::Hello]);
    bench.tell(LinkEvent::HelloAnswered { lacks: false, offers: true });
    assert_eq!(bench.after(30_000), [Did::Hello], "again, and again");
}

#[test]
fn each_foreign_op_is_followed_by_a_look_whether_to_pass_it_on() {
    let delay = RELAY_DELAY.0;
    let mut bench = Bench::up();
    bench.tell(LinkEvent::ForeignApplied);
    bench.now = MonoMs(delay - 1);
    bench.tell(LinkEvent::ForeignApplied);
    assert_eq!(bench.after(1), [Did::Hello], "for the first");
    bench.tell(LinkEvent::HelloAnswered { lacks: false, offers: false });
    assert_eq!(bench.after(delay), [Did::Hello], "for the second");
    bench.tell(LinkEvent::HelloAnswered { lacks: false, offers: false });
    assert_eq!(bench.after(10 * delay), [], "and then no more");
}

#[test]
fn a_broken_session_is_repeated_later_each_time() {
    let mut bench = Bench::up();
    bench.tell(LinkEvent::Overflow);
    let mut waits = Vec::new();
    bench.after(100);
    for _ in 0..5 {
        assert_eq!(bench.tell(LinkEvent::HelloAnswered { lacks: true, offers: false }), [Did::Push]);
        bench.tell(LinkEvent::PushEnded(SessionEnd::Broken));
        let at = bench.link.wake_at().unwrap();
        waits.push(at.since(bench.now).0);
        bench.now = at;
        assert_eq!(bench.tell(LinkEvent::Tick), [Did::Hello]);
    }
    assert!(waits.windows(2).all(|pair| pair[0] < pair[1]), "{waits:?}");
    bench.tell(LinkEvent::HelloAnswered { lacks: true, offers: false });
    assert_eq!(bench.tell(LinkEvent::PushEnded(SessionEnd::Complete)), []);
    assert_eq!(bench.link.wake_at(), None);
}

#[test]
fn what_came_up_while_a_session_ran_gets_one_of_its_own() {
    let mut bench = Bench::up();
    bench.tell(LinkEvent::Overflow);
    bench.after(100);
    bench.tell(LinkEvent::HelloAnswered { lacks: true, offers: false });
    bench.tell(LinkEvent::ForeignApplied);
    assert_eq!(bench.after(RELAY_DELAY.0), [Did::Hello]);
    assert_eq!(bench.tell(LinkEvent::HelloAnswered { lacks: true, offers: false }), [], "one at a time");
    bench.tell(LinkEvent::PushEnded(SessionEnd::Complete));
    assert_eq!(bench.after(0), [Did::Hello]);
    assert_eq!(bench.tell(LinkEvent::HelloAnswered { lacks: false, offers: false }), [Did::Push]);
}

#[test]
fn a_pull_that_the_peer_s_push_made_needless_is_looked_at_again() {
    let mut bench = Bench::new();
    bench.tell(LinkEvent::Start);
    bench.tell(LinkEvent::HelloAnswered { lacks: false, offers: true });
    assert_eq!(bench.tell(LinkEvent::PullEnded(SessionEnd::Elsewhere)), []);
    assert_eq!(bench.after(500), [Did::Hello], "also without an interval: a re-bootstrap waits for it");
    assert_eq!(bench.tell(LinkEvent::HelloAnswered { lacks: false, offers: true }), [Did::Pull]);
}

fn event() -> impl Strategy<Value = LinkEvent> {
    let failure = prop_oneof![Just(PeerFailure::Unreachable), Just(PeerFailure::TimedOut), Just(LOST)];
    let end = prop_oneof![Just(SessionEnd::Complete), Just(SessionEnd::Broken), Just(SessionEnd::Elsewhere)];
    prop_oneof![
        4 => (1_u64..1_000, 1_usize..40).prop_map(|(seq, n)| {
            LinkEvent::Offer((seq..seq + n as u64).map(op).collect())
        }),
        1 => Just(LinkEvent::Overflow),
        1 => Just(LinkEvent::ForeignApplied),
        1 => Just(LinkEvent::Contact),
        1 => Just(LinkEvent::Resync),
        3 => any::<(bool, bool)>().prop_map(|(lacks, offers)| LinkEvent::HelloAnswered { lacks, offers }),
        2 => failure.clone().prop_map(LinkEvent::HelloFailed),
        3 => (1_u64..20, any::<bool>()).prop_map(|(page, retry)| LinkEvent::PageAnswered { page, retry }),
        2 => (1_u64..20, failure).prop_map(|(page, failure)| LinkEvent::PageFailed { page, failure }),
        1 => end.clone().prop_map(LinkEvent::PushEnded),
        1 => end.prop_map(LinkEvent::PullEnded),
        3 => Just(LinkEvent::Tick),
    ]
}

proptest! {
    /// The driver answers each hello and each session once, so the model holds back answers nobody asked for.
    #[test]
    fn any_history_keeps_the_invariants_and_the_same_history_gives_the_same_commands(
        events in proptest::collection::vec((event(), 0_u64..5_000, any::<u64>()), 1..200),
    ) {
        let run = || {
            let mut link = Link::new(Some(DurationMs(10_000)));
            let (mut now, mut hello) = (MonoMs(0), false);
            let mut trace = Vec::new();
            let mut told = vec![(LinkEvent::Start, 0, 0)];
            told.extend(events.iter().cloned());
            for (event, span, draw) in told {
                let is_hello = matches!(event, LinkEvent::HelloAnswered { .. } | LinkEvent::HelloFailed(_));
                if is_hello && !std::mem::take(&mut hello) {
                    continue;
                }
                now = now.saturating_add(DurationMs(span));
                let mut out = Vec::new();
                link.on_event(now, draw, event, &mut out);
                assert_eq!(link.check_invariants(), Ok(()));
                for command in out {
                    hello |= matches!(command, LinkCommand::Hello);
                    trace.push(did(command));
                }
            }
            trace
        };
        prop_assert_eq!(run(), run());
    }
}
