//! Who holds one write, and whether that is enough.

use std::collections::BTreeMap;

use crate::dot::Dot;
use crate::id::{NodeId, OpHash};
use crate::port::store::RefusalReason;
use crate::time::{DurationMs, MonoMs};

/// The acknowledgements of one write. Pure: time is an argument, and each event that settles the write
/// returns its verdict, once.
///
/// It counts the local commit and distinct peers of the set it was made with, and only acks that name the
/// write's dot and hash. Nothing is answered before the local commit. The verdict comes as soon as it is
/// certain:
///
/// * met: `needed` replicas hold the write, this node included (`needed` of 1: the local commit alone);
/// * not met: even if every peer still asked said yes it would not do, or the deadline has passed.
///
/// After the verdict further events go on to update [`AckTracker::outcomes`], and never the verdict. Before it,
/// nothing but an ack and a drift is final for a peer: one that failed or refused and then acks counts.
///
/// Why a write was not met is read from the peers that did not ack, the first line that fits:
///
/// | of the peers without an ack | reason |
/// | --- | --- |
/// | (the set is too small for `needed`) | [`Reason::InsufficientPeers`] |
/// | one named another hash | [`Reason::IdDrift`] |
/// | the deadline has passed and one has not answered | [`Reason::Timeout`] |
/// | one refused the op, the request, to sign, or to give the op back | [`Reason::Refused`] |
/// | one was reached and ran out of time | [`Reason::Timeout`] |
/// | none of these: all unreachable, cut off or no longer asked | [`Reason::Unreachable`] |
///
/// So what an operator must act on comes before what time may heal, and what a peer said before what it did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckTracker {
    needed: usize,
    dot: Dot,
    hash: OpHash,
    started_at: MonoMs,
    deadline: MonoMs,
    is_local: bool,
    is_expired: bool,
    peers: BTreeMap<NodeId, PeerOutcome>,
    verdict: Option<Verdict>,
}

impl AckTracker {
    /// The tracker of the op `dot` with `hash`, which needs `needed` replicas out of this node and `peers`: those
    /// that count in n when the write begins, without this node. What comes later changes neither.
    pub fn new(
        needed: usize,
        dot: Dot,
        hash: OpHash,
        peers: impl IntoIterator<Item = NodeId>,
        started_at: MonoMs,
        deadline: MonoMs,
    ) -> Self {
        let peers = peers.into_iter().map(|peer| (peer, PeerOutcome::Pending)).collect();
        Self {
            needed,
            dot,
            hash,
            started_at,
            deadline,
            is_local: false,
            is_expired: false,
            peers,
            verdict: None,
        }
    }

    /// The op is durable on this node.
    pub fn local_committed(&mut self, now: MonoMs) -> Option<Verdict> {
        self.is_local = true;
        self.is_expired |= now >= self.deadline;
        self.settle()
    }

    /// `peer` says that it holds the op `dot` with `hash` durably.
    pub fn ack(
        &mut self,
        peer: &NodeId,
        dot: &Dot,
        hash: &OpHash,
        status: AckStatus,
        now: MonoMs,
    ) -> Option<Verdict> {
        let outcome = match self.judge(peer, dot, hash) {
            AckJudgement::Counts => PeerOutcome::Acked { status, after: now.since(self.started_at) },
            AckJudgement::Drift => PeerOutcome::IdDrift,
            AckJudgement::Repeated | AckJudgement::OtherOp | AckJudgement::Stranger => return None,
        };
        // What a peer once named rightly it holds; a later contradiction is for `judge` and the alarm.
        self.change(peer, outcome, |old| !old.is_final())
    }

    /// What an ack of `peer` is worth, before [`AckTracker::ack`] takes it: for meters and alarms.
    pub fn judge(&self, peer: &NodeId, dot: &Dot, hash: &OpHash) -> AckJudgement {
        if *dot != self.dot {
            return AckJudgement::OtherOp;
        }
        match self.peers.get(peer) {
            None => AckJudgement::Stranger,
            Some(_) if *hash != self.hash => AckJudgement::Drift,
            // A peer that has named two hashes for one dot is believed for neither.
            Some(PeerOutcome::IdDrift) => AckJudgement::Drift,
            Some(PeerOutcome::Acked { .. }) => AckJudgement::Repeated,
            Some(_) => AckJudgement::Counts,
        }
    }

    /// `peer` refused the op.
    pub fn refused(&mut self, peer: &NodeId, refusal: Refusal) -> Option<Verdict> {
        self.change(peer, PeerOutcome::Refused(refusal), |old| {
            !old.is_final() && !matches!(old, PeerOutcome::Refused(Refusal::ForGood(_)))
        })
    }

    /// What was under way to `peer` came to nothing.
    pub fn failed(&mut self, peer: &NodeId, failure: PeerFailure) -> Option<Verdict> {
        // A refusal says more than the loss of the connection it came over.
        self.change(peer, PeerOutcome::Failed(failure), |old| {
            matches!(old, PeerOutcome::Pending | PeerOutcome::Failed(_))
        })
    }

    /// The op is under way to `peer` again, which had failed or refused it for now.
    pub fn pending_again(&mut self, peer: &NodeId) {
        // More hope never settles a write.
        let _none = self.change(peer, PeerOutcome::Pending, |old| {
            matches!(old, PeerOutcome::Failed(_) | PeerOutcome::Refused(Refusal::ForNow(_)))
        });
    }

    /// The deadline's timer has fired. Before the deadline, nothing happens; before the local commit, the
    /// verdict waits for it.
    pub fn deadline(&mut self, now: MonoMs) -> Option<Verdict> {
        if now < self.deadline {
            return None;
        }
        self.is_expired = true;
        self.settle()
    }

    /// The verdict, once there is one.
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// What each peer of the set came to, so far.
    pub fn outcomes(&self) -> &BTreeMap<NodeId, PeerOutcome> {
        &self.peers
    }

    /// Whether every peer of the set holds the op: nothing is left to track.
    pub fn is_everywhere(&self) -> bool {
        self.is_local && self.peers.values().all(|o| matches!(o, PeerOutcome::Acked { .. }))
    }

    /// Replicas that are known to hold the op, this node included.
    pub fn got(&self) -> usize {
        usize::from(self.is_local) + self.count(|o| matches!(o, PeerOutcome::Acked { .. }))
    }

    /// Replicas that must hold it.
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// Replicas that could, this node included.
    pub fn n(&self) -> usize {
        self.peers.len() + 1
    }

    /// The op.
    pub fn dot(&self) -> &Dot {
        &self.dot
    }

    /// Hash of its bytes.
    pub fn hash(&self) -> OpHash {
        self.hash
    }

    /// When the write began.
    pub fn started_at(&self) -> MonoMs {
        self.started_at
    }

    /// When it gives up waiting.
    pub fn deadline_at(&self) -> MonoMs {
        self.deadline
    }

    /// What must always hold; called after each event in tests and simulations.
    ///
    /// # Errors
    /// The first invariant that is broken.
    pub fn check_invariants(&self) -> Result<(), BrokenInvariant> {
        match self.verdict {
            Some(_) if !self.is_local => Err(BrokenInvariant::VerdictBeforeCommit),
            Some(Verdict::Met { got }) if got < self.needed || got > self.got() => {
                Err(BrokenInvariant::MetWithout { got, needed: self.needed })
            }
            Some(Verdict::NotMet { got, needed, .. }) if got >= needed || needed != self.needed => {
                Err(BrokenInvariant::NotMetWith { got, needed: self.needed })
            }
            None if self.is_local && self.decide().is_some() => Err(BrokenInvariant::Undecided),
            _ => Ok(()),
        }
    }

    fn change(
        &mut self,
        peer: &NodeId,
        outcome: PeerOutcome,
        is_open: impl Fn(&PeerOutcome) -> bool,
    ) -> Option<Verdict> {
        let old = self.peers.get_mut(peer).filter(|old| is_open(old))?;
        *old = outcome;
        self.settle()
    }

    /// The verdict, if this is the event that brings it.
    fn settle(&mut self) -> Option<Verdict> {
        if self.verdict.is_some() {
            return None;
        }
        self.verdict = self.decide();
        self.verdict
    }

    fn decide(&self) -> Option<Verdict> {
        if !self.is_local {
            return None;
        }
        let (got, needed) = (self.got(), self.needed);
        if got >= needed {
            return Some(Verdict::Met { got });
        }
        let pending = self.count(|o| matches!(o, PeerOutcome::Pending));
        let is_possible = got + pending >= needed;
        if is_possible && !self.is_expired {
            return None;
        }
        Some(Verdict::NotMet { got, needed, reason: self.reason() })
    }

    fn reason(&self) -> Reason {
        let any = |is: fn(&PeerOutcome) -> bool| self.peers.values().any(is);
        if self.n() < self.needed {
            Reason::InsufficientPeers
        } else if any(|o| matches!(o, PeerOutcome::IdDrift)) {
            Reason::IdDrift
        } else if self.is_expired && any(|o| matches!(o, PeerOutcome::Pending)) {
            Reason::Timeout
        } else if any(|o| {
            matches!(
                o,
                PeerOutcome::Refused(_)
                    | PeerOutcome::Failed(
                        PeerFailure::RequestRefused | PeerFailure::Unsigned | PeerFailure::Withheld
                    )
            )
        }) {
            Reason::Refused
        } else if any(|o| matches!(o, PeerOutcome::Failed(PeerFailure::TimedOut))) {
            Reason::Timeout
        } else {
            Reason::Unreachable
        }
    }

    fn count(&self, is: impl Fn(&PeerOutcome) -> bool) -> usize {
        self.peers.values().filter(|o| is(o)).count()
    }
}

/// Whether a write reached its quorum. Given once, never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did.
    Met {
        /// Replicas that held it at that moment, this node included.
        got: usize,
    },
    /// It did not: committed here, will reach the peers, was not promised.
    NotMet {
        /// Replicas that held it at that moment, this node included.
        got: usize,
        /// Replicas that had to.
        needed: usize,
        /// Why.
        reason: Reason,
    },
}

/// Why a quorum was not met, from the peers' own outcomes: the table is at [`AckTracker`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No peer that was missing could be reached.
    Unreachable,
    /// A peer did not answer in time.
    Timeout,
    /// A peer holds another op under this dot.
    IdDrift,
    /// A peer refused.
    Refused,
    /// The namespace has fewer replicas than the write needs.
    InsufficientPeers,
}

impl Reason {
    /// Stable, machine-readable: `reason` of the 503 body, label of the meters.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::IdDrift => "id_drift",
            Self::Refused => "refused",
            Self::InsufficientPeers => "insufficient_peers",
        }
    }
}

/// What became of an acked op at the peer; in each case it is durable there, or a version that had seen it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AckStatus {
    /// It is live there now.
    Applied,
    /// It had been there before.
    Duplicate,
    /// A version that is live there had seen it.
    Superseded,
}

/// What an ack is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckJudgement {
    /// It counts.
    Counts,
    /// The peer has acked before.
    Repeated,
    /// It names another hash, or the peer has named another before: never counted, to be alarmed.
    Drift,
    /// It names another op: not for this tracker.
    OtherOp,
    /// The peer is not in the set that counts.
    Stranger,
}

/// Why a peer did not take an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// It never will: the op goes to that peer's dead letters.
    ForGood(RefusalReason),
    /// It may later: delivery goes on.
    ForNow(Deferral),
}

/// Why a peer did not take an op for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Deferral {
    /// Its queue is full.
    Busy,
    /// It has no room.
    DiskFull,
    /// The op is ahead of its clock.
    ClockAhead,
}

/// Why what was under way to a peer came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerFailure {
    /// No connection could be made.
    Unreachable,
    /// The connection ended before the answer.
    ConnectionLost,
    /// The peer was reached and did not answer in time.
    TimedOut,
    /// The peer answered, but refused the request as a whole: caller unknown, frame not valid.
    RequestRefused,
    /// A signed ack was asked for, and the one that came is not signed, or by nobody who is enrolled.
    Unsigned,
    /// It holds the op, and does not grant this node its namespace: had this node lost its disk, it would not come back
    /// from there.
    Withheld,
    /// The op is no longer sent there: the peer was removed, or this node is stopping.
    Abandoned,
}

/// What one peer came to, for one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerOutcome {
    /// Asked, or about to be.
    Pending,
    /// It holds the op.
    Acked {
        /// What became of it there.
        status: AckStatus,
        /// From the beginning of the write to the ack.
        after: DurationMs,
    },
    /// It acked another hash under this dot.
    IdDrift,
    /// It did not take the op.
    Refused(Refusal),
    /// It was not reached, or did not answer.
    Failed(PeerFailure),
}

impl PeerOutcome {
    /// Stable, machine-readable: the value in the 503 body's `peers`.
    pub const fn slug(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Acked { status: AckStatus::Applied, .. } => "applied",
            Self::Acked { status: AckStatus::Duplicate, .. } => "duplicate",
            Self::Acked { status: AckStatus::Superseded, .. } => "superseded",
            Self::IdDrift => "id_drift",
            Self::Refused(Refusal::ForGood(RefusalReason::Forbidden)) => "forbidden",
            Self::Refused(Refusal::ForGood(RefusalReason::Invalid)) => "invalid",
            Self::Refused(Refusal::ForGood(RefusalReason::TooLarge)) => "too_large",
            Self::Refused(Refusal::ForNow(Deferral::Busy)) => "busy",
            Self::Refused(Refusal::ForNow(Deferral::DiskFull)) => "disk_full",
            Self::Refused(Refusal::ForNow(Deferral::ClockAhead)) => "clock_ahead",
            Self::Failed(PeerFailure::Unreachable) => "unreachable",
            Self::Failed(PeerFailure::ConnectionLost) => "connection_lost",
            Self::Failed(PeerFailure::TimedOut) => "timeout",
            Self::Failed(PeerFailure::RequestRefused) => "request_refused",
            Self::Failed(PeerFailure::Unsigned) => "unsigned",
            Self::Failed(PeerFailure::Withheld) => "withheld",
            Self::Failed(PeerFailure::Abandoned) => "abandoned",
        }
    }

    fn is_final(&self) -> bool {
        matches!(self, Self::Acked { .. } | Self::IdDrift)
    }
}

/// What [`AckTracker::check_invariants`] found broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenInvariant {
    /// A verdict before the op was durable here.
    #[error("a verdict was given before the local commit")]
    VerdictBeforeCommit,
    /// Met without enough replicas, or with some that have not acked.
    #[error("met with {got} of {needed}")]
    MetWithout {
        /// What the verdict claims.
        got: usize,
        /// What was needed.
        needed: usize,
    },
    /// Not met, although enough replicas held it.
    #[error("not met with {got} of {needed}")]
    NotMetWith {
        /// What the verdict claims.
        got: usize,
        /// What was needed.
        needed: usize,
    },
    /// Certain, but no verdict.
    #[error("the outcome is certain and no verdict was given")]
    Undecided,
}
