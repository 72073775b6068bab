//! The task that drives a link: feeds it events, carries out its commands.

use std::sync::Arc;
use std::time::Duration;

use federation_core::id::BootId;
use federation_core::link::{Link, LinkCommand, LinkEvent, LinkPhase, SessionEnd};
use federation_core::port::store::Written;
use federation_core::quorum::ack_tracker::PeerFailure;
use federation_core::time::DurationMs;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::hello::{HelloOutcome, say_hello};
use super::pull::run_pull;
use super::push::{run_push, send_live};
use super::{LinkReport, Peer, PeerMessage};
use crate::exchange::ExchangeError;
use crate::inner::Inner;
use crate::status::LinkState;
use crate::transport::Connection;

/// Messages handled before the link is pumped: more than a group, so that a group shares a page.
const MESSAGES_PER_TURN: usize = 2_048;

/// A connection with the token that ends what runs on it.
#[derive(Clone)]
pub(crate) struct Active {
    pub(crate) connection: Arc<dyn Connection>,
    /// The boot of the peer that answered hello on it.
    pub(crate) boot: BootId,
    pub(crate) stop: CancellationToken,
}

/// What a job of the driver came to.
enum JobDone {
    Hello(Result<HelloOutcome, ExchangeError>),
    Event(LinkEvent),
}

struct Driver {
    inner: Arc<Inner>,
    peer: Arc<Peer>,
    link: Link,
    active: Option<Active>,
    jobs: JoinSet<JobDone>,
    last_error: Option<&'static str>,
}

/// Drives the link to `peer` until the node stops.
pub(crate) async fn run(inner: Arc<Inner>, peer: Arc<Peer>, mut messages: mpsc::Receiver<PeerMessage>) {
    let interval = inner.config.catchup_interval;
    let interval = interval.map(|every| DurationMs(u64::try_from(every.as_millis()).unwrap_or(u64::MAX)));
    let stop = peer.stop.clone();
    let mut driver = Driver {
        inner,
        peer,
        link: Link::new(interval),
        active: None,
        jobs: JoinSet::new(),
        last_error: None,
    };
    driver.feed(LinkEvent::Start);
    loop {
        driver.report();
        let wake = driver.link.wake_at();
        let wake_at = driver.inner.started + wake.map_or(Duration::ZERO, |at| Duration::from_millis(at.0));
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(done) = driver.jobs.join_next(), if !driver.jobs.is_empty() => match done {
                Ok(done) => driver.job_done(done),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            },
            Some(first) = messages.recv() => driver.take(first, &mut messages),
            () = tokio::time::sleep_until(wake_at), if wake.is_some() => driver.feed(LinkEvent::Tick),
        }
        if driver.peer.take_overflow() {
            driver.feed(LinkEvent::Overflow);
        }
        // Under a flood of messages the timer's branch is never reached: what is due is due all the same.
        if driver.link.wake_at().is_some_and(|at| at <= driver.inner.now()) {
            driver.feed(LinkEvent::Tick);
        }
    }
    // What waits for the peer gives up; what has committed something does what follows from it, unless the node ends.
    driver.disconnect();
    let node_stop = driver.inner.tasks.stop().clone();
    while let Some(Some(done)) = node_stop.run_until_cancelled(driver.jobs.join_next()).await {
        if let Err(error) = done
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    driver.jobs.shutdown().await;
}

impl Driver {
    /// Takes what has come by now; the ops of one moment go to the link together.
    fn take(&mut self, first: PeerMessage, messages: &mut mpsc::Receiver<PeerMessage>) {
        let mut ops = Vec::new();
        let mut next = Some(first);
        for _ in 0..MESSAGES_PER_TURN {
            match next {
                Some(PeerMessage::Op(op)) => ops.push(op),
                Some(PeerMessage::Event(event)) => self.feed(event),
                None => break,
            }
            next = messages.try_recv().ok();
        }
        match next {
            Some(PeerMessage::Op(op)) => ops.push(op),
            Some(PeerMessage::Event(event)) => self.feed(event),
            None => {}
        }
        if !ops.is_empty() {
            self.feed(LinkEvent::Offer(ops));
        }
    }

    fn job_done(&mut self, done: JobDone) {
        match done {
            JobDone::Event(event) => self.feed(event),
            JobDone::Hello(Ok(outcome)) => {
                let (lacks, offers) = (outcome.lacks, outcome.offers);
                if self.active.as_ref().is_none_or(|active| active.boot != outcome.boot) {
                    self.disconnect();
                    let stop = self.peer.stop.child_token();
                    let HelloOutcome { connection, boot, .. } = outcome;
                    self.active = Some(Active { connection, boot, stop });
                }
                self.last_error = None;
                self.feed(LinkEvent::HelloAnswered { lacks, offers });
            }
            JobDone::Hello(Err(error)) => {
                let before = self.last_error.replace(error.word());
                self.feed(LinkEvent::HelloFailed(error.failure()));
                // Not at each attempt: every burst of writes makes one.
                let is_news = self.link.failed_attempts() == 1 || before != self.last_error;
                if self.link.phase() == LinkPhase::Down && is_news {
                    tracing::info!(peer = %self.peer.id, error = error.word(), "the peer is down");
                }
            }
        }
    }

    fn feed(&mut self, event: LinkEvent) {
        let mut commands = Vec::new();
        let was = self.link.phase();
        self.link.on_event(self.inner.now(), self.inner.gate.draw(), event, &mut commands);
        if was != LinkPhase::Up && self.link.phase() == LinkPhase::Up {
            tracing::info!(peer = %self.peer.id, "the peer is up");
        }
        for command in commands {
            self.carry_out(command);
        }
    }

    fn carry_out(&mut self, command: LinkCommand) {
        let (inner, peer) = (Arc::clone(&self.inner), Arc::clone(&self.peer));
        match command {
            LinkCommand::Hello => {
                let active = self.active.clone();
                self.jobs.spawn(async move { JobDone::Hello(say_hello(&inner, &peer, active).await) });
            }
            LinkCommand::Disconnect => self.disconnect(),
            LinkCommand::SendLive { page, ops } => match self.active.clone() {
                Some(active) => {
                    self.jobs.spawn(async move {
                        JobDone::Event(send_live(&inner, &peer, &active, page, &ops).await)
                    });
                }
                None => self.defer(LinkEvent::PageFailed { page, failure: PeerFailure::ConnectionLost }),
            },
            LinkCommand::StartPush => match self.active.clone() {
                Some(active) => {
                    self.jobs.spawn(async move {
                        JobDone::Event(LinkEvent::PushEnded(run_push(&inner, &peer, &active).await))
                    });
                }
                None => self.defer(LinkEvent::PushEnded(SessionEnd::Broken)),
            },
            LinkCommand::StartPull => match self.active.clone() {
                Some(active) => {
                    self.jobs.spawn(async move {
                        JobDone::Event(LinkEvent::PullEnded(run_pull(&inner, &peer, &active).await))
                    });
                }
                None => self.defer(LinkEvent::PullEnded(SessionEnd::Broken)),
            },
            LinkCommand::CountOut { ops, failure } => count_out(&inner, &peer, &ops, failure),
        }
    }

    /// Feeds an event after the commands under way.
    fn defer(&mut self, event: LinkEvent) {
        self.jobs.spawn(std::future::ready(JobDone::Event(event)));
    }

    fn disconnect(&mut self) {
        if let Some(active) = self.active.take() {
            active.stop.cancel();
        }
    }

    fn report(&self) {
        self.peer.state().link = LinkReport {
            state: match self.link.phase() {
                LinkPhase::Up => LinkState::Up,
                LinkPhase::Connecting => LinkState::Connecting,
                LinkPhase::Down => LinkState::Down,
            },
            lane_ops: self.link.lane_ops(),
            session: self.link.push_running(),
            last_error: self.last_error,
        };
    }
}

fn count_out(inner: &Inner, peer: &Peer, ops: &[Arc<Written>], failure: PeerFailure) {
    // A peer that hangs counts until the write's own deadline, which is not that of an attempt.
    if failure == PeerFailure::TimedOut {
        return;
    }
    inner.with_open_writes(|open, _, out| {
        open.coordinator.failed(&peer.id, ops.iter().map(|op| &op.op.dot), failure, out);
    });
}
