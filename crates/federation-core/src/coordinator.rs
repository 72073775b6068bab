//! The writes of this node whose quorum is open, as a pure state machine.

use std::collections::BTreeMap;

use crate::dot::Dot;
use crate::id::{NodeId, OpHash};
use crate::limits::OPEN_WRITES_MAX;
use crate::quorum::ack_tracker::{AckStatus, AckTracker, PeerFailure, PeerOutcome, Refusal, Verdict};
use crate::time::MonoMs;

/// What came of a write, once it is certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The op.
    pub dot: Dot,
    /// Whether its quorum was met.
    pub verdict: Verdict,
    /// Replicas needed.
    pub needed: usize,
    /// What each peer came to by then.
    pub peers: BTreeMap<NodeId, PeerOutcome>,
}

/// What a peer said of an op in its answer to a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAnswer {
    /// It holds the op with this hash.
    Ack {
        /// What became of it there.
        status: AckStatus,
        /// Hash of what it holds.
        hash: OpHash,
    },
    /// It did not take it.
    Refused(Refusal),
}

/// The writes of this node whose quorum is open. A write leaves when it is settled; where it is afterwards is
/// read from the peers' clocks.
#[derive(Clone, Debug, Default)]
pub struct Coordinator {
    open: BTreeMap<Dot, AckTracker>,
}

impl Coordinator {
    /// No open write.
    pub const fn new() -> Self {
        Self { open: BTreeMap::new() }
    }

    /// How many writes are open.
    pub fn open_writes(&self) -> usize {
        self.open.len()
    }

    /// Whether one more may be opened.
    pub fn has_room(&self) -> bool {
        self.open.len() < OPEN_WRITES_MAX
    }

    /// An own op is durable here, and waits for its quorum as `tracker` has it.
    pub fn committed(&mut self, mut tracker: AckTracker, now: MonoMs, out: &mut Vec<Settled>) {
        let dot = tracker.dot().clone();
        match tracker.local_committed(now) {
            Some(verdict) => out.push(settled(&tracker, verdict)),
            None => {
                self.open.insert(dot, tracker);
            }
        }
        debug_assert_eq!(self.check_invariants(), Ok(()));
    }

    /// A peer answered for an op.
    pub fn answered(
        &mut self,
        peer: &NodeId,
        dot: &Dot,
        answer: &PeerAnswer,
        now: MonoMs,
        out: &mut Vec<Settled>,
    ) {
        let Some(tracker) = self.open.get_mut(dot) else { return };
        let verdict = match answer {
            PeerAnswer::Ack { status, hash } => tracker.ack(peer, dot, hash, *status, now),
            PeerAnswer::Refused(refusal) => tracker.refused(peer, *refusal),
        };
        self.close(dot, verdict, out);
    }

    /// Ops could not be delivered to a peer now.
    pub fn failed<'a>(
        &mut self,
        peer: &NodeId,
        dots: impl IntoIterator<Item = &'a Dot>,
        failure: PeerFailure,
        out: &mut Vec<Settled>,
    ) {
        for dot in dots {
            let verdict = self.open.get_mut(dot).and_then(|tracker| tracker.failed(peer, failure));
            self.close(dot, verdict, out);
        }
    }

    /// A peer takes part no more: writes that wait for it count it out.
    pub fn left(&mut self, peer: &NodeId, out: &mut Vec<Settled>) {
        let dots: Vec<Dot> = self.open.keys().cloned().collect();
        self.failed(peer, &dots, PeerFailure::Abandoned, out);
    }

    /// The deadline of one write has come.
    pub fn deadline(&mut self, dot: &Dot, now: MonoMs, out: &mut Vec<Settled>) {
        let verdict = self.open.get_mut(dot).and_then(|tracker| tracker.deadline(now));
        self.close(dot, verdict, out);
    }

    /// Settles every write whose deadline has passed: those whose caller has gone away.
    pub fn tick(&mut self, now: MonoMs, out: &mut Vec<Settled>) {
        let due: Vec<Dot> =
            self.open.iter().filter(|(_, t)| t.deadline_at() <= now).map(|(dot, _)| dot.clone()).collect();
        for dot in due {
            self.deadline(&dot, now, out);
        }
    }

    /// What must hold between events; the text names what does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        if self.open.iter().any(|(dot, tracker)| tracker.dot() != dot) {
            return Err("a tracker stands under its own dot");
        }
        if self.open.values().any(|tracker| tracker.verdict().is_some()) {
            return Err("a settled write has left");
        }
        Ok(())
    }

    fn close(&mut self, dot: &Dot, verdict: Option<Verdict>, out: &mut Vec<Settled>) {
        if let Some(verdict) = verdict
            && let Some(tracker) = self.open.remove(dot)
        {
            out.push(settled(&tracker, verdict));
        }
    }
}

fn settled(tracker: &AckTracker, verdict: Verdict) -> Settled {
    Settled {
        dot: tracker.dot().clone(),
        verdict,
        needed: tracker.needed(),
        peers: tracker.outcomes().clone(),
    }
}
