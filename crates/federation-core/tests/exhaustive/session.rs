//! A session on its way: what each end knows, and what is between them.

use std::hash::Hash;
use std::sync::Arc;

use federation_core::attest::Claimable;
use federation_core::decide::{Admission, Received};
use federation_core::dot::Dot;
use federation_core::id::{BootId, RecordKey};
use federation_core::node_clock::NodeClock;
use federation_core::port::store::{SessionId, SessionStart};
use federation_core::session::{SessionReceiver, SessionSender};
use federation_core::vector_clock::VectorClock;

use crate::mesh::Mesh;
use crate::replica::Replica;

/// A session from one node to another, with pages of one op each.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) from: usize,
    pub(crate) to: usize,
    way: Way,
    pub(crate) boots: (BootId, BootId),
    /// Whether the sender was whole when it began.
    was_whole: bool,
    sender: SessionSender,
    receiver: SessionReceiver,
    /// K: what the receiver had at hello.
    known: NodeClock,
    /// What is still to be read. The record is remembered, for dots that are replaced meanwhile.
    todo: Vec<(Dot, RecordKey)>,
    /// What was refused so far, in order.
    refused: Vec<Dot>,
    phase: Phase,
}

/// Who asked for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    /// The sender: it hears what became of each op.
    Push,
    /// The receiver: the sender hears nothing, and claims as if all had been taken.
    Pull,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// The sender reads its next page from its store.
    Reading,
    /// A page is on its way.
    Page { number: u64, ops: Vec<Dot> },
    /// The completion is on its way.
    Claim,
}

/// Whether a session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goes {
    On,
    /// It ended with its completion merged.
    Merged,
    /// It ended without.
    Dropped,
}

impl Session {
    /// The hello and the instant in the sender's writer.
    pub(crate) fn begin(mesh: &Mesh, from: usize, to: usize, way: Way) -> Self {
        let (sender, receiver) = (mesh.replica(from), mesh.replica(to));
        let letters = sender.dead_letters.get(&receiver.node).cloned().unwrap_or_default();
        let mut withheld = VectorClock::new();
        for (dot, context) in letters.iter().filter(|(dot, _)| sender.ops.contains_key(dot)) {
            withheld.cover(dot, context);
        }
        let lacked = |dot: &Dot| !receiver.clock.contains(dot) && !letters.contains_key(dot);
        let mut todo: Vec<_> = sender
            .ops
            .iter()
            .filter(|(dot, _)| lacked(dot))
            .map(|(dot, op)| (dot.clone(), op.op.key.clone()))
            .collect();
        todo.reverse();
        let (clock, facts) = (sender.clock.clone(), Arc::default());
        let start = SessionStart { session: SessionId(0), clock, withheld, facts, own: None };
        let mut session = Self {
            from,
            to,
            way,
            boots: (sender.boot, receiver.boot),
            was_whole: mesh.is_whole(from),
            sender: SessionSender::new(start, Claimable::Everything),
            receiver: SessionReceiver::new(),
            known: receiver.clock.clone(),
            todo,
            refused: Vec::new(),
            phase: Phase::Reading,
        };
        session.go_on();
        session
    }

    /// Whether its end is a step of the receiver's re-bootstrap.
    pub(crate) fn drains_whole(&self, mesh: &Mesh) -> bool {
        self.was_whole && mesh.is_whole(self.from)
    }

    /// What tells this session from another: the state of both ends follows from it.
    pub(crate) fn essence(&self) -> impl Hash + '_ {
        let start = self.sender.start();
        (
            (self.from, self.to, self.way, self.boots, self.was_whole),
            (&start.clock, &start.withheld, &self.known),
            (&self.todo, &self.refused, self.sender.pages(), &self.phase),
        )
    }

    /// Whether its completion is on the way and leaves something out.
    pub(crate) fn withholds(&self) -> bool {
        let start = self.sender.start();
        self.phase == Phase::Claim && !(self.refused.is_empty() && start.withheld.is_empty())
    }

    /// Whether an op that it is to send has been replaced meanwhile.
    pub(crate) fn is_overtaken(&self, mesh: &Mesh) -> bool {
        self.todo.iter().any(|(dot, _)| !mesh.replica(self.from).ops.contains_key(dot))
    }

    /// How it would be told.
    pub(crate) fn next_step(&self) -> &'static str {
        match self.phase {
            Phase::Reading => "reads a page",
            Phase::Page { .. } => "delivers a page",
            Phase::Claim => "is completed",
        }
    }

    /// One step: a page is read, or arrives and is answered, or the completion arrives.
    pub(crate) fn step(&mut self, mesh: &mut Mesh) -> Goes {
        match std::mem::replace(&mut self.phase, Phase::Reading) {
            Phase::Reading => self.read(mesh),
            Phase::Page { number, ops } => {
                for dot in &ops {
                    self.deliver(mesh, dot);
                }
                self.receiver.handled(number);
                self.go_on();
            }
            Phase::Claim => {
                let claimed = self.sender.complete_to();
                let Ok(merged) = self.receiver.complete(self.sender.pages(), &claimed) else {
                    return Goes::Dropped;
                };
                mesh.change(self.to, |replica| replica.complete(merged));
                return Goes::Merged;
            }
        }
        Goes::On
    }

    fn read(&mut self, mesh: &Mesh) {
        if let Some((dot, key)) = self.todo.pop() {
            let sender = mesh.replica(self.from);
            let ops: Vec<Dot> = if sender.ops.contains_key(&dot) {
                vec![dot]
            } else {
                let still_to_come = |dot: &Dot| self.todo.iter().any(|(later, _)| later == dot);
                let present = sender.live(&key).into_iter();
                present.filter(|dot| !self.known.contains(dot) && !still_to_come(dot)).collect()
            };
            if !ops.is_empty() {
                self.phase = Phase::Page { number: self.sender.next_page(), ops };
                return;
            }
        }
        self.go_on();
    }

    fn deliver(&mut self, mesh: &mut Mesh, dot: &Dot) {
        let context = mesh.op(dot).op.op.context.clone();
        if mesh.deliver(dot, self.to).is_err() {
            self.receiver.refused(dot, &context);
            self.refused.push(dot.clone());
            if self.way == Way::Push {
                self.sender.refused(dot, &context);
                mesh.dead_letter(dot, self.from, self.to);
            }
        }
    }

    fn go_on(&mut self) {
        self.phase = if self.todo.is_empty() { Phase::Claim } else { Phase::Reading };
    }
}

/// Admits an op as the node would from a page.
pub(crate) fn admit(replica: &mut Replica, op: Received) -> Result<(), ()> {
    match replica.admit(op) {
        Admission::Applied { .. } | Admission::Duplicate { .. } | Admission::Superseded => Ok(()),
        Admission::ClockAhead | Admission::Equivocation { .. } => Err(()),
    }
}
