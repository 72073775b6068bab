//! What may happen next.

use std::fmt;

use federation_core::dot::Dot;
use federation_core::id::BootId;
use federation_core::rejoin::DrainedPeer;

use super::{Mesh, NAMES, RECORDS};
use crate::bounds::{LiveLane, Refusal};
use crate::replica::key;
use crate::session::Way;

/// What a client says that it has seen when it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// All that is live at the node.
    Live,
    Nothing,
    /// What was read before, here or elsewhere.
    Read,
}

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Write {
        at: usize,
        record: usize,
        seen: Seen,
        is_refused: bool,
    },
    /// A client reads, and keeps the token.
    Read {
        at: usize,
        record: usize,
    },
    /// An op arrives as it was sent when it was made.
    Live {
        dot: Dot,
        to: usize,
    },
    Begin {
        from: usize,
        to: usize,
        way: Way,
    },
    Step {
        session: usize,
        what: &'static str,
    },
    Break {
        session: usize,
    },
    TimePasses,
    Restart {
        at: usize,
        is_answered: bool,
    },
    Image {
        at: usize,
    },
    Lose {
        at: usize,
    },
}

impl Mesh {
    /// Everything that may happen next, within the bounds.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let mut out = Vec::new();
        let nodes = self.distinguishable();
        for &at in &nodes {
            self.writes(at, &mut out);
            self.faults(at, &mut out);
            let begun = nodes.iter().filter(|to| **to != at && self.may_begin(at, **to));
            // Where nothing is refused, the two ways are one.
            let ways: &[Way] = if self.bounds.refusals > 0 { &[Way::Push, Way::Pull] } else { &[Way::Push] };
            out.extend(
                begun.flat_map(|to| ways.iter().map(|way| Action::Begin { from: at, to: *to, way: *way })),
            );
        }
        if self.bounds.live_lane == LiveLane::Open {
            self.arrivals(&nodes, &mut out);
        }
        for (session, (running, _)) in self.sessions.iter().enumerate() {
            out.push(Action::Step { session, what: running.next_step() });
            out.push(Action::Break { session });
        }
        let is_ahead =
            self.bounds.refusal == Refusal::ClockAhead && self.made().any(|(_, made)| made.is_refused);
        if is_ahead && !self.is_late {
            out.push(Action::TimePasses);
        }
        out
    }

    fn faults(&self, at: usize, out: &mut Vec<Action>) {
        let holds_data = !self.replica(at).clock.is_empty();
        if self.spent.restarts < self.bounds.restarts && self.is_whole(at) && !self.is_fresh(at) {
            out.extend([true, false].map(|is_answered| Action::Restart { at, is_answered }));
        }
        if self.bounds.losses > 0 && self.image.is_none() && holds_data {
            out.push(Action::Image { at });
        }
        let are_whole = (0..self.nodes.len()).all(|node| self.is_whole(node));
        if self.spent.losses < self.bounds.losses && are_whole && holds_data {
            out.push(Action::Lose { at });
        }
    }

    fn may_begin(&self, from: usize, to: usize) -> bool {
        let is_running = self.sessions.iter().any(|(s, _)| (s.from, s.to) == (from, to));
        self.sessions.len() < self.bounds.sessions && !is_running && self.is_needed(from, to)
    }

    /// Whether a hello between the two would find that a session is to run.
    pub(super) fn is_needed(&self, from: usize, to: usize) -> bool {
        let is_undrained = self.nodes[to].rebootstrap.as_ref().is_some_and(|drained| {
            drained.get(&from).is_none_or(|was| self.is_whole(from) && *was != DrainedPeer::Whole)
        });
        is_undrained || !self.replica(to).clock.contains_all(&self.replica(from).clock)
    }

    /// Ops as they were sent when they were made: what is under way from a boot that is over is refused.
    fn arrivals(&self, nodes: &[usize], out: &mut Vec<Action>) {
        for (dot, made) in self.made() {
            if self.replica(self.node_of(dot)).boot == made.boot && !self.refuses(made) {
                let takers = nodes.iter().filter(|to| !self.replica(**to).clock.contains(dot));
                out.extend(takers.map(|to| Action::Live { dot: dot.clone(), to: *to }));
            }
        }
    }

    fn writes(&self, at: usize, out: &mut Vec<Action>) {
        if !self.is_whole(at) {
            return;
        }
        for (record, name) in RECORDS.iter().enumerate().take(self.bounds.records) {
            let key = key(name);
            let live = self.replica(at).record(&key);
            if self.spent.reads < self.bounds.reads && !live.is_empty() {
                out.push(Action::Read { at, record });
            }
            if self.spent.writes == self.bounds.writes {
                continue;
            }
            let has_read = self.read.as_ref().is_some_and(|read| read.key == key);
            let seen = [
                Some(Seen::Live),
                (!live.is_empty()).then_some(Seen::Nothing),
                has_read.then_some(Seen::Read),
            ];
            for seen in seen.into_iter().flatten() {
                out.push(Action::Write { at, record, seen, is_refused: false });
                if self.spent.refusals < self.bounds.refusals {
                    out.push(Action::Write { at, record, seen, is_refused: true });
                }
            }
        }
    }

    /// The nodes worth telling apart: of those to which nothing has happened yet, one stands for all.
    fn distinguishable(&self) -> Vec<usize> {
        let mut has_fresh = false;
        (0..self.nodes.len())
            .filter(|at| !self.is_fresh(*at) || !std::mem::replace(&mut has_fresh, true))
            .collect()
    }

    fn is_fresh(&self, at: usize) -> bool {
        let replica = self.replica(at);
        replica.clock.is_empty()
            && replica.boot == BootId(at as u64 + 1)
            && self.is_whole(at)
            && !self.sessions.iter().any(|(s, _)| s.from == at || s.to == at)
            && !self
                .nodes
                .iter()
                .any(|n| n.rebootstrap.as_ref().is_some_and(|drained| drained.contains_key(&at)))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |at: &usize| NAMES[*at];
        match self {
            Self::Write { at, record, seen, is_refused } => {
                let refused = if *is_refused { ", to be refused elsewhere" } else { "" };
                write!(f, "{} writes {}, having seen {seen:?}{refused}", name(at), RECORDS[*record])
            }
            Self::Read { at, record } => write!(f, "a client reads {} at {}", RECORDS[*record], name(at)),
            Self::Live { dot, to } => write!(f, "{dot} arrives at {}", name(to)),
            Self::Begin { from, to, way } => {
                write!(f, "a session from {} to {} begins, by {way:?}", name(from), name(to))
            }
            Self::Step { session, what } => write!(f, "session {session} {what}"),
            Self::Break { session } => write!(f, "session {session} breaks off"),
            Self::TimePasses => f.write_str("the clocks come to where the one ahead was"),
            Self::Restart { at, is_answered } => {
                let peers = if *is_answered { "all peers" } else { "no peer" };
                write!(f, "{} restarts, and {peers} answers its hello", name(at))
            }
            Self::Image { at } => write!(f, "an image is taken of the disk of {}", name(at)),
            Self::Lose { at } => write!(f, "the disk of {} goes back to its image, or to nothing", name(at)),
        }
    }
}
