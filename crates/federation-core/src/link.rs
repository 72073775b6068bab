//! Delivery to one peer, as a pure state machine: when to connect, what to send, when to run a session.
//!
//! The driver feeds events with the time and a random draw, and carries out the commands in order. The link
//! holds no clock of the peer and no session state: the driver compares clocks when a hello is answered and
//! tells the outcome.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::limits::{
    BACKOFF_MAX, BACKOFF_MIN, GROUP_BYTES_MAX, GROUP_OPS_MAX, LIVE_LANE_BYTES_MAX, LIVE_LANE_OPS_MAX,
    LIVE_PAGES_IN_FLIGHT_MAX,
};
use crate::port::store::Written;
use crate::quorum::ack_tracker::PeerFailure;
use crate::time::{DurationMs, MonoMs};

/// How long ops from elsewhere may take to reach a peer by their own way before this node looks whether to
/// pass them on.
pub const RELAY_DELAY: DurationMs = DurationMs(3_000);
/// Shortest time between two attempts that open writes ask for: a burst of writes is one attempt.
pub const ATTEMPT_SPACING: DurationMs = DurationMs(50);

/// Pages that may fail in a row before the peer is taken for down.
const QUICK_RETRIES: u32 = 2;

/// Step of the backoff after a pull that the peer's own push had made needless: a quarter to half a second.
const PULL_AGAIN_STEP: u32 = 2;

/// What a link is told.
#[derive(Clone, Debug)]
pub enum LinkEvent {
    /// The node has started.
    Start,
    /// Own ops are durable here, oldest first: those of one moment come together, to share a page.
    Offer(Vec<Arc<Written>>),
    /// Own ops were not offered for want of room.
    Overflow,
    /// An op of another origin was applied here.
    ForeignApplied,
    /// The peer called, and was authenticated.
    Contact,
    /// Something is to be fetched from the peer or told to it: say hello again.
    Resync,
    /// Hello was answered, and both clocks compared.
    HelloAnswered {
        /// The peer lacks something of what this node has, beside what the live lane carries.
        lacks: bool,
        /// The peer has something that this node lacks.
        offers: bool,
    },
    /// Hello was not answered, or refused.
    HelloFailed(PeerFailure),
    /// A live page was answered.
    PageAnswered {
        /// The page.
        page: u64,
        /// Whether the peer refused an op of it for now.
        retry: bool,
    },
    /// A live page was not answered, or refused as a whole.
    PageFailed {
        /// The page.
        page: u64,
        /// Why.
        failure: PeerFailure,
    },
    /// The session to the peer ended.
    PushEnded(SessionEnd),
    /// The session from the peer ended.
    PullEnded(SessionEnd),
    /// Time has passed.
    Tick,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// All delivered and claimed.
    Complete,
    /// The other side runs one for the same purpose.
    Elsewhere,
    /// Broken off, or something was refused for now: to be repeated.
    Broken,
}

/// What the driver is to do, in order.
#[derive(Clone, Debug)]
pub enum LinkCommand {
    /// Connect if needed, and say hello.
    Hello,
    /// Drop the connection.
    Disconnect,
    /// Send a live page.
    SendLive {
        /// Names it for the answer.
        page: u64,
        /// What it carries, at most one group.
        ops: Vec<Arc<Written>>,
    },
    /// Run a session to the peer.
    StartPush,
    /// Run a session from the peer.
    StartPull,
    /// These ops could not be delivered now: a write that waits for this peer counts it out.
    CountOut {
        /// The ops.
        ops: Vec<Arc<Written>>,
        /// Why.
        failure: PeerFailure,
    },
}

/// How a link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkPhase {
    /// The last attempt failed, or none was made.
    Down,
    /// The first hello of a connection is under way.
    Connecting,
    /// Hello was answered on this connection.
    Up,
}

/// Delivery to one peer.
#[derive(Clone, Debug)]
pub struct Link {
    catchup_interval: Option<DurationMs>,
    phase: LinkPhase,
    hello: Option<HelloOn>,
    failed_attempts: u32,
    failed_pages: u32,
    lane: VecDeque<Arc<Written>>,
    lane_bytes: usize,
    /// Ops at the front of the lane that the attempt under way began with, or that went to the peer before it: its
    /// failure counts the peer out for these alone.
    attempted: usize,
    in_flight: BTreeMap<u64, Vec<Arc<Written>>>,
    last_page: u64,
    sessions: Sessions,
    /// An op of another origin came after the one for which the relay timer runs.
    relay_again: bool,
    timers: Timers,
    last_failed_at: Option<MonoMs>,
}

/// What a hello that is under way goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HelloOn {
    /// The connection that was up when it began: dead perhaps, without anyone having noticed.
    Open,
    /// A connection of its own.
    Fresh,
}

/// The sessions with the peer, in both directions.
#[derive(Clone, Copy, Debug, Default)]
struct Sessions {
    push_wanted: bool,
    push_running: bool,
    pull_running: bool,
    /// Broken ones since the last that completed.
    broken: u32,
}

/// When something falls due; none: not scheduled.
#[derive(Clone, Copy, Debug, Default)]
struct Timers {
    attempt: Option<MonoMs>,
    catch_up: Option<MonoMs>,
    relay: Option<MonoMs>,
    session_retry: Option<MonoMs>,
}

impl Link {
    /// A link that has not begun. `catchup_interval`: how often to look for what was missed; none: only on a reason.
    pub fn new(catchup_interval: Option<DurationMs>) -> Self {
        Self {
            catchup_interval,
            phase: LinkPhase::Down,
            hello: None,
            failed_attempts: 0,
            failed_pages: 0,
            lane: VecDeque::new(),
            lane_bytes: 0,
            attempted: 0,
            in_flight: BTreeMap::new(),
            last_page: 0,
            sessions: Sessions::default(),
            relay_again: false,
            timers: Timers::default(),
            last_failed_at: None,
        }
    }

    /// How the link stands.
    pub fn phase(&self) -> LinkPhase {
        self.phase
    }

    /// Attempts that failed since the peer last answered.
    pub fn failed_attempts(&self) -> u32 {
        self.failed_attempts
    }

    /// Ops in the live lane, waiting or under way.
    pub fn lane_ops(&self) -> usize {
        self.lane.len() + self.in_flight.values().map(Vec::len).sum::<usize>()
    }

    /// The ops in the live lane, waiting or under way.
    pub fn lane(&self) -> impl Iterator<Item = &Arc<Written>> {
        self.in_flight.values().flatten().chain(&self.lane)
    }

    /// Whether a session to the peer runs.
    pub fn push_running(&self) -> bool {
        self.sessions.push_running
    }

    /// When the next [`LinkEvent::Tick`] is due.
    pub fn wake_at(&self) -> Option<MonoMs> {
        let when_up = match self.phase {
            LinkPhase::Up if self.hello.is_none() => {
                [self.timers.catch_up, self.timers.relay, self.timers.session_retry]
            }
            _ => [None; 3],
        };
        let when_down = self.timers.attempt.filter(|_| self.phase == LinkPhase::Down);
        when_up.into_iter().chain([when_down]).flatten().min()
    }

    /// Handles one event. `draw` is a uniform random number, for jitter.
    pub fn on_event(&mut self, now: MonoMs, draw: u64, event: LinkEvent, out: &mut Vec<LinkCommand>) {
        match event {
            LinkEvent::Start => self.connect(out),
            LinkEvent::Offer(ops) => self.offer(now, ops, out),
            LinkEvent::Overflow => self.want_push(now),
            LinkEvent::ForeignApplied => match self.timers.relay {
                Some(_) => self.relay_again = true,
                None => self.timers.relay = Some(now.saturating_add(jittered(RELAY_DELAY, draw))),
            },
            LinkEvent::Contact => {
                self.failed_attempts = 0;
                if self.phase == LinkPhase::Down {
                    self.connect(out);
                }
            }
            LinkEvent::Resync => match self.phase {
                LinkPhase::Down => self.connect(out),
                LinkPhase::Connecting => {}
                LinkPhase::Up => {
                    self.timers.session_retry.get_or_insert(now);
                }
            },
            LinkEvent::HelloAnswered { lacks, offers } => self.hello_answered(now, draw, lacks, offers, out),
            LinkEvent::HelloFailed(failure) => self.hello_failed(now, draw, failure, out),
            LinkEvent::PageAnswered { page, retry } => {
                self.in_flight.remove(&page);
                self.failed_pages = 0;
                if retry {
                    self.retry_session(now, draw);
                }
                self.pump(out);
            }
            LinkEvent::PageFailed { page, failure } => self.page_failed(now, draw, page, failure, out),
            LinkEvent::PushEnded(end) => {
                self.sessions.push_running = false;
                self.session_ended(now, draw, end);
            }
            LinkEvent::PullEnded(end) => {
                self.sessions.pull_running = false;
                match end {
                    SessionEnd::Complete => {}
                    // What the peer pushes meanwhile may be all there is: to be seen when it has had the time.
                    SessionEnd::Elsewhere => {
                        let wait = backoff(PULL_AGAIN_STEP, draw);
                        self.timers.session_retry.get_or_insert(now.saturating_add(wait));
                    }
                    SessionEnd::Broken => self.retry_session(now, draw),
                }
            }
            LinkEvent::Tick => self.tick(now, draw, out),
        }
        debug_assert_eq!(self.check_invariants(), Ok(()));
    }

    /// What must hold between events; the text names what does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        let bytes: usize = self.lane.iter().map(|op| op.sealed.size_bytes()).sum();
        let checks = [
            (bytes == self.lane_bytes, "the lane's bytes are counted"),
            (
                self.lane.len() <= LIVE_LANE_OPS_MAX + LIVE_PAGES_IN_FLIGHT_MAX * GROUP_OPS_MAX,
                "the lane is bounded",
            ),
            (self.attempted <= self.lane.len(), "what was attempted waits"),
            (self.phase != LinkPhase::Up || self.attempted == 0, "an attempt ends when up"),
            (self.in_flight.len() <= LIVE_PAGES_IN_FLIGHT_MAX, "pages under way are bounded"),
            (self.phase == LinkPhase::Up || self.in_flight.is_empty(), "pages are under way only when up"),
            (self.phase != LinkPhase::Connecting || self.hello.is_some(), "connecting means hello"),
            (self.phase != LinkPhase::Down || self.hello.is_none(), "down means no hello"),
            (
                self.phase != LinkPhase::Down || self.lane.is_empty() || self.timers.attempt.is_some(),
                "an op that waits while down has an attempt coming",
            ),
        ];
        checks.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, text)| Err(*text))
    }

    fn offer(&mut self, now: MonoMs, ops: Vec<Arc<Written>>, out: &mut Vec<LinkCommand>) {
        for op in ops {
            let bytes = op.sealed.size_bytes();
            if self.lane.len() >= LIVE_LANE_OPS_MAX || self.lane_bytes + bytes > LIVE_LANE_BYTES_MAX {
                self.want_push(now);
                continue;
            }
            self.lane_bytes += bytes;
            self.lane.push_back(op);
        }
        match self.phase {
            LinkPhase::Up => self.pump(out),
            LinkPhase::Down if !self.lane.is_empty() => self.attempt_soon(now, out),
            LinkPhase::Down | LinkPhase::Connecting => {}
        }
    }

    /// A peer in backoff gets one attempt for the writes that wait now; a burst of writes shares it.
    fn attempt_soon(&mut self, now: MonoMs, out: &mut Vec<LinkCommand>) {
        let earliest = self.last_failed_at.map_or(now, |at| at.saturating_add(ATTEMPT_SPACING));
        if earliest <= now {
            self.connect(out);
        } else {
            self.timers.attempt = Some(self.timers.attempt.map_or(earliest, |at| at.min(earliest)));
        }
    }

    fn connect(&mut self, out: &mut Vec<LinkCommand>) {
        self.phase = LinkPhase::Connecting;
        self.timers.attempt = None;
        self.hello(out);
    }

    fn hello(&mut self, out: &mut Vec<LinkCommand>) {
        if self.hello.is_none() {
            self.hello = Some(if self.phase == LinkPhase::Up {
                HelloOn::Open
            } else {
                self.attempted = self.lane.len();
                HelloOn::Fresh
            });
            out.push(LinkCommand::Hello);
        }
    }

    fn hello_answered(
        &mut self,
        now: MonoMs,
        draw: u64,
        lacks: bool,
        offers: bool,
        out: &mut Vec<LinkCommand>,
    ) {
        self.hello = None;
        self.phase = LinkPhase::Up;
        self.attempted = 0;
        self.failed_attempts = 0;
        self.timers.attempt = None;
        self.timers.catch_up = self.catchup_interval.map(|every| now.saturating_add(jittered(every, draw)));
        self.sessions.push_wanted |= lacks;
        if self.sessions.push_wanted && !self.sessions.push_running {
            self.sessions.push_wanted = false;
            self.sessions.push_running = true;
            self.timers.session_retry = None;
            out.push(LinkCommand::StartPush);
        }
        if !self.sessions.pull_running && offers {
            self.sessions.pull_running = true;
            out.push(LinkCommand::StartPull);
        }
        self.pump(out);
    }

    /// A hello on a connection that was up says that this connection is of no more use, and nothing of the peer:
    /// that takes a fresh one.
    fn hello_failed(&mut self, now: MonoMs, draw: u64, failure: PeerFailure, out: &mut Vec<LinkCommand>) {
        match self.hello.take() {
            Some(HelloOn::Open) => self.reconnect(out),
            Some(HelloOn::Fresh) | None => self.down(now, draw, failure, out),
        }
    }

    /// The peer counts out for the ops that the attempt was for. One that was written since waits for the next, which comes
    /// soon: what failed may be of before whatever has ended by now.
    fn down(&mut self, now: MonoMs, draw: u64, failure: PeerFailure, out: &mut Vec<LinkCommand>) {
        self.hello = None;
        self.failed_pages = 0;
        self.requeue_in_flight();
        self.phase = LinkPhase::Down;
        self.last_failed_at = Some(now);
        let wait = backoff(self.failed_attempts, draw);
        self.failed_attempts = self.failed_attempts.saturating_add(1);
        self.timers.attempt = Some(now.saturating_add(wait));
        self.sessions.push_wanted = true;
        out.push(LinkCommand::Disconnect);
        let ops: Vec<_> = self.lane.drain(..std::mem::take(&mut self.attempted)).collect();
        self.lane_bytes -= ops.iter().map(|op| op.sealed.size_bytes()).sum::<usize>();
        if !ops.is_empty() {
            out.push(LinkCommand::CountOut { ops, failure });
        }
        if !self.lane.is_empty() {
            self.attempt_soon(now, out);
        }
    }

    /// The connection is of no more use. What was under way waits for the next one, which is tried at once:
    /// only its failure counts the peer out. A peer that answers hello and no page is in backoff like any other.
    fn page_failed(
        &mut self,
        now: MonoMs,
        draw: u64,
        page: u64,
        failure: PeerFailure,
        out: &mut Vec<LinkCommand>,
    ) {
        if !self.in_flight.contains_key(&page) {
            return;
        }
        self.failed_pages = self.failed_pages.saturating_add(1);
        if self.failed_pages > QUICK_RETRIES {
            self.down(now, draw, failure, out);
            return;
        }
        self.reconnect(out);
    }

    /// Drops the connection and tries a fresh one: at once, or when the hello that is under way on the dropped one
    /// has failed.
    fn reconnect(&mut self, out: &mut Vec<LinkCommand>) {
        self.requeue_in_flight();
        self.sessions.push_wanted = true;
        out.push(LinkCommand::Disconnect);
        self.phase = LinkPhase::Connecting;
        self.hello(out);
    }

    fn requeue_in_flight(&mut self) {
        for (_, ops) in std::mem::take(&mut self.in_flight).into_iter().rev() {
            self.attempted += ops.len();
            for op in ops.into_iter().rev() {
                self.lane_bytes += op.sealed.size_bytes();
                self.lane.push_front(op);
            }
        }
    }

    fn session_ended(&mut self, now: MonoMs, draw: u64, end: SessionEnd) {
        match end {
            SessionEnd::Complete => {
                self.sessions.broken = 0;
                if self.sessions.push_wanted {
                    self.timers.session_retry = Some(now);
                }
            }
            SessionEnd::Elsewhere | SessionEnd::Broken => self.retry_session(now, draw),
        }
    }

    fn want_push(&mut self, now: MonoMs) {
        self.sessions.push_wanted = true;
        if !self.sessions.push_running {
            self.timers.session_retry.get_or_insert(now.saturating_add(BACKOFF_MIN));
        }
    }

    fn retry_session(&mut self, now: MonoMs, draw: u64) {
        self.sessions.push_wanted = true;
        self.sessions.broken = self.sessions.broken.saturating_add(1);
        let wait = backoff(self.sessions.broken, draw);
        self.timers.session_retry.get_or_insert(now.saturating_add(wait));
    }

    fn tick(&mut self, now: MonoMs, draw: u64, out: &mut Vec<LinkCommand>) {
        if self.wake_at().is_none_or(|at| now < at) {
            return;
        }
        match self.phase {
            LinkPhase::Down => self.connect(out),
            LinkPhase::Connecting => {}
            LinkPhase::Up => {
                let due = |at: &MonoMs| *at <= now;
                self.timers.catch_up.take_if(|at| due(at));
                self.timers.session_retry.take_if(|at| due(at));
                if self.timers.relay.take_if(|at| due(at)).is_some() && std::mem::take(&mut self.relay_again)
                {
                    self.timers.relay = Some(now.saturating_add(jittered(RELAY_DELAY, draw)));
                }
                self.hello(out);
            }
        }
    }

    fn pump(&mut self, out: &mut Vec<LinkCommand>) {
        while self.phase == LinkPhase::Up
            && self.in_flight.len() < LIVE_PAGES_IN_FLIGHT_MAX
            && !self.lane.is_empty()
        {
            let mut ops = Vec::new();
            let mut page_bytes = 0;
            while let Some(op) = self.lane.pop_front_if(|op| {
                ops.len() < GROUP_OPS_MAX
                    && (ops.is_empty() || page_bytes + op.sealed.size_bytes() <= GROUP_BYTES_MAX)
            }) {
                page_bytes += op.sealed.size_bytes();
                ops.push(op);
            }
            self.lane_bytes -= page_bytes;
            self.last_page += 1;
            self.in_flight.insert(self.last_page, ops.clone());
            out.push(LinkCommand::SendLive { page: self.last_page, ops });
        }
    }
}

/// Exponential backoff with full jitter over the upper half: between half and all of the step.
fn backoff(failed_attempts: u32, draw: u64) -> DurationMs {
    let step = BACKOFF_MIN.0.saturating_mul(1 << failed_attempts.min(16)).min(BACKOFF_MAX.0);
    DurationMs(step / 2 + draw % (step / 2 + 1))
}

/// Between three quarters and all of `span`.
fn jittered(span: DurationMs, draw: u64) -> DurationMs {
    DurationMs(span.0 - draw % (span.0 / 4 + 1))
}
