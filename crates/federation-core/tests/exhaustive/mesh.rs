//! The nodes of a history, what is between them, and what a step makes of them.

mod actions;
mod reached;

pub(crate) use actions::{Action, Seen};

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use federation_core::decide::{Change, Received};
use federation_core::dot::Dot;
use federation_core::epoch::{PeerKnowledge, settle};
use federation_core::id::{BootId, RecordKey};
use federation_core::limits::CLOCK_DRIFT_MAX;
use federation_core::op::Body;
use federation_core::planted::{Defect, is_planted};
use federation_core::rejoin::{DrainedPeer, may_serve};
use federation_core::time::DurationMs;
use federation_core::vector_clock::VectorClock;

use crate::bounds::{Bounds, Loss, Refusal, W};
use crate::replica::{Replica, key, put};
use crate::search::Fingerprint;
use crate::session::{Goes, Session, Way, admit};

/// A state.
#[derive(Clone, Debug)]
pub(crate) struct Mesh {
    pub(crate) bounds: Bounds,
    pub(crate) nodes: Vec<Node>,
    /// Every op ever made, also those that a disk has lost.
    pub(crate) made: Arc<BTreeMap<Dot, (Arc<Made>, Fingerprint)>>,
    pub(crate) sessions: Vec<(Arc<Session>, Fingerprint)>,
    /// An image of one node's disk.
    image: Option<(usize, Arc<Replica>)>,
    /// What a client has read and not written on yet.
    read: Option<Read>,
    /// Whether the clocks of all nodes have come to where the one ahead was.
    is_late: bool,
    /// Whether what was forbidden is allowed now.
    is_lifted: bool,
    spent: Spent,
    boots: u64,
}

/// What of the bounds a history has used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Spent {
    writes: usize,
    refusals: usize,
    reads: usize,
    restarts: usize,
    losses: usize,
}

/// A node: its disk, and what of its state the disk does not show.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    replica: Arc<Replica>,
    /// Of the replica: of its clock and records, and of all that matters besides.
    digest: (Fingerprint, Fingerprint),
    /// While it re-bootstraps: the peers that were drained, and in which state.
    rebootstrap: Option<BTreeMap<usize, DrainedPeer>>,
    /// Whether its own epoch is settled in this boot.
    is_settled: bool,
}

/// An op, with the truth about it that no node keeps.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) op: Received,
    pub(crate) saw: BTreeSet<Dot>,
    boot: BootId,
    is_refused: bool,
    /// The nodes that have it durably, live or covered, and have not lost it.
    pub(crate) at: BTreeSet<usize>,
    /// The most nodes that had it at one time.
    at_most: usize,
}

#[derive(Clone, Debug)]
struct Read {
    key: RecordKey,
    token: VectorClock,
    saw: BTreeSet<Dot>,
}

impl Made {
    /// Whether as many had it at one time as W: then its writer may have been told so.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.at_most >= W
    }
}

impl Mesh {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let node = |at: usize| {
            let mut replica = Replica::new(NAMES[at], at as u64 + 1);
            replica.own_origin = None;
            replica.facts.own_epoch = None;
            Node {
                digest: digest(&replica),
                replica: Arc::new(replica),
                rebootstrap: None,
                is_settled: false,
            }
        };
        Self {
            bounds,
            nodes: (0..bounds.nodes).map(node).collect(),
            made: Arc::default(),
            sessions: Vec::new(),
            image: None,
            read: None,
            is_late: false,
            is_lifted: false,
            spent: Spent::default(),
            boots: bounds.nodes as u64,
        }
    }

    pub(crate) fn replica(&self, at: usize) -> &Replica {
        &self.nodes[at].replica
    }

    pub(crate) fn is_whole(&self, at: usize) -> bool {
        self.nodes[at].rebootstrap.is_none()
    }

    /// Changes what a node holds.
    pub(crate) fn change<T>(&mut self, at: usize, change: impl FnOnce(&mut Replica) -> T) -> T {
        let node = &mut self.nodes[at];
        let out = change(Arc::make_mut(&mut node.replica));
        node.digest = digest(&node.replica);
        self.note_what_it_has(at);
        out
    }

    /// Takes one step.
    ///
    /// # Errors
    /// What was seen in the step itself that must not be.
    pub(crate) fn step(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Write { at, record, seen, is_refused } => {
                return self.write(*at, &key(RECORDS[*record]), *seen, *is_refused);
            }
            Action::Read { at, record } => {
                self.spent.reads += 1;
                let key = key(RECORDS[*record]);
                let (token, saw) = self.seen(*at, &key);
                self.read = Some(Read { key, token, saw });
            }
            Action::Live { dot, to } => {
                if self.deliver(dot, *to).is_err() {
                    self.dead_letter(dot, self.node_of(dot), *to);
                }
            }
            Action::Begin { from, to, way } => self.begin_session(*from, *to, *way),
            Action::Step { session, .. } => self.step_session(*session),
            Action::Break { session } => drop(self.sessions.remove(*session)),
            Action::TimePasses => self.is_late = true,
            Action::Restart { at, is_answered } => {
                self.spent.restarts += 1;
                self.change(*at, Replica::close);
                self.restart(*at);
                self.settle_epoch(*at, *is_answered);
            }
            Action::Image { at } => self.image = Some((*at, Arc::clone(&self.nodes[*at].replica))),
            Action::Lose { at } => self.lose(*at),
        }
        Ok(())
    }

    fn write(&mut self, at: usize, key: &RecordKey, seen: Seen, is_refused: bool) -> Result<(), String> {
        self.spent.writes += 1;
        self.spent.refusals += usize::from(is_refused);
        if !self.nodes[at].is_settled {
            self.settle_epoch(at, true);
        }
        let (token, saw) = match seen {
            Seen::Live => (None, self.seen(at, key).1),
            Seen::Nothing => (Some(VectorClock::new()), BTreeSet::new()),
            Seen::Read => {
                let read = self.read.take().unwrap();
                (Some(read.token), read.saw)
            }
        };
        let body = if self.spent.writes == 2 { Body::Delete } else { put("x") };
        let is_ahead = is_refused && self.bounds.refusal == Refusal::ClockAhead;
        let late = self.is_late;
        let boot = self.replica(at).boot;
        let op = self.change(at, |replica| {
            let now = replica.now;
            if is_ahead || late {
                replica.now = now.saturating_add(CLOCK_DRIFT_MAX).saturating_add(DurationMs(1));
            }
            let op = replica.write(key, body, token);
            replica.now = now;
            op.unwrap()
        });
        let dot = op.op.dot.clone();
        for (other, known) in self.made().filter(|(_, known)| known.op.op.key == *key) {
            if op.op.context.contains(other) != saw.contains(other) {
                return Err(format!("the context of {dot} and what its writer had seen differ on {other}"));
            }
            if known.op.op.context.contains(&dot) {
                return Err(format!("{other}, made before, covers {dot}"));
            }
        }
        let made = Made { op, saw, boot, is_refused, at: BTreeSet::from([at]), at_most: 1 };
        let entry = (Arc::new(made), Fingerprint::default());
        let before = Arc::make_mut(&mut self.made).insert(dot.clone(), entry);
        self.renew(&dot);
        if before.is_some() { Err(format!("the dot {dot} was given twice")) } else { Ok(()) }
    }

    /// What a client that reads a record sees: its token, and the truth behind it.
    fn seen(&self, at: usize, key: &RecordKey) -> (VectorClock, BTreeSet<Dot>) {
        let (mut token, mut saw) = (VectorClock::new(), BTreeSet::new());
        for version in self.replica(at).record(key).versions() {
            token.cover(&version.dot, &version.context);
            saw.extend(self.op(&version.dot).saw.iter().cloned());
            saw.insert(version.dot.clone());
        }
        (token, saw)
    }

    /// Hands an op to a node, as part of a page.
    pub(crate) fn deliver(&mut self, dot: &Dot, to: usize) -> Result<(), ()> {
        let made = Arc::clone(&self.made[dot].0);
        if self.bounds.refusal == Refusal::Forbidden && self.refuses(&made) {
            return Err(());
        }
        let late = self.is_late;
        self.change(to, |replica| {
            let now = replica.now;
            if late {
                replica.now = now.saturating_add(CLOCK_DRIFT_MAX).saturating_add(DurationMs(1));
            }
            let admitted = admit(replica, made.op.clone());
            replica.now = now;
            admitted
        })
    }

    /// The sender of an op has heard that it is refused.
    pub(crate) fn dead_letter(&mut self, dot: &Dot, from: usize, to: usize) {
        if self.bounds.refusal == Refusal::Forbidden {
            let (peer, context) = (self.replica(to).node.clone(), self.op(dot).op.op.context.clone());
            self.change(from, |sender| {
                sender.dead_letters.entry(peer).or_default().insert(dot.clone(), context)
            });
        }
    }

    fn refuses(&self, made: &Made) -> bool {
        made.is_refused
            && match self.bounds.refusal {
                Refusal::ClockAhead => !self.is_late,
                Refusal::Forbidden => !self.is_lifted,
            }
    }

    fn begin_session(&mut self, from: usize, to: usize, way: Way) {
        let session = Session::begin(self, from, to, way);
        let digest = Fingerprint::of(&session.essence());
        self.sessions.push((Arc::new(session), digest));
    }

    fn step_session(&mut self, index: usize) {
        let (session, _) = self.sessions.remove(index);
        let mut session = Arc::unwrap_or_clone(session);
        match session.step(self) {
            Goes::On => {
                let digest = Fingerprint::of(&session.essence());
                self.sessions.insert(index, (Arc::new(session), digest));
            }
            Goes::Merged => self.drained(&session),
            Goes::Dropped => {}
        }
    }

    /// A session ended whole: a step of the receiver's re-bootstrap, if it is in one.
    fn drained(&mut self, session: &Session) {
        let state =
            if session.drains_whole(self) { DrainedPeer::Whole } else { DrainedPeer::Rebootstrapping };
        let n = self.nodes.len();
        let node = &mut self.nodes[session.to];
        if let Some(drained) = &mut node.rebootstrap {
            drained.insert(session.from, state);
            if may_serve(n, W, n - 1, drained.values().copied()) {
                node.rebootstrap = None;
            }
        }
    }

    fn restart(&mut self, at: usize) {
        self.boots += 1;
        let boot = BootId(self.boots);
        self.change(at, |replica| replica.begin_boot(boot));
        // Pages and completions name both boots; what names another is dropped when it comes, so it may as well go now.
        if !is_planted(Defect::BelieveOldBoots) {
            self.sessions.retain(|(session, _)| session.from != at && session.to != at);
        }
        self.nodes[at].is_settled = false;
    }

    fn settle_epoch(&mut self, at: usize, is_answered: bool) {
        let replica = self.replica(at);
        let last = replica.facts.last_epoch();
        let peers = (0..self.nodes.len()).filter(|peer| *peer != at).map(|peer| {
            if is_answered { PeerKnowledge::Knows(&self.replica(peer).clock) } else { PeerKnowledge::Silent }
        });
        let origin = settle(&replica.node, replica.boot, last, &replica.clock, peers);
        self.change(at, |replica| drop(replica.commit(vec![Change::OpenEpoch(origin)])));
        self.nodes[at].is_settled = true;
    }

    /// A disk goes back to its image, or to nothing where there is none.
    fn lose(&mut self, at: usize) {
        self.spent.losses += 1;
        let image = self.image.as_ref().filter(|(of, _)| *of == at).map(|(_, image)| Arc::clone(image));
        let state = image.unwrap_or_else(|| {
            let mut nothing = Replica::new(NAMES[at], at as u64 + 1);
            nothing.own_origin = None;
            nothing.facts.own_epoch = None;
            Arc::new(nothing)
        });
        self.change(at, |replica| *replica = (*state).clone());
        self.restart(at);
        if self.bounds.loss == Loss::Noticed {
            self.change(at, |replica| replica.facts.own_epoch = None);
            self.nodes[at].rebootstrap = Some(BTreeMap::new());
        }
    }

    /// All willing, all clocks right, dead letters sent again: everything is exchanged until nothing changes.
    pub(crate) fn converge(&mut self) {
        self.sessions.clear();
        self.is_late = true;
        self.is_lifted = true;
        for at in 0..self.nodes.len() {
            self.change(at, |replica| replica.dead_letters.clear());
        }
        for _ in 0..2 {
            for from in 0..self.nodes.len() {
                for to in (0..self.nodes.len()).filter(|to| *to != from) {
                    if self.is_needed(from, to) {
                        self.begin_session(from, to, Way::Push);
                        while !self.sessions.is_empty() {
                            self.step_session(0);
                        }
                    }
                }
            }
        }
    }

    fn note_what_it_has(&mut self, at: usize) {
        let clock = &self.nodes[at].replica.clock;
        let differs = self.made().filter(|(dot, made)| made.at.contains(&at) != clock.contains(dot));
        let differs: Vec<Dot> = differs.map(|(dot, _)| dot.clone()).collect();
        for dot in differs {
            if let Some((made, _)) = Arc::make_mut(&mut self.made).get_mut(&dot) {
                let made = Arc::make_mut(made);
                if !made.at.remove(&at) {
                    made.at.insert(at);
                }
                made.at_most = made.at_most.max(made.at.len());
            }
            self.renew(&dot);
        }
    }

    /// Names anew what is known of an op.
    fn renew(&mut self, dot: &Dot) {
        if let Some((made, digest)) = Arc::make_mut(&mut self.made).get_mut(dot) {
            *digest = Fingerprint::of(&(
                (dot, made.op.sealed.op.hash, made.boot, &made.saw),
                (made.is_refused, &made.at, made.at_most),
            ));
        }
    }

    /// Every op ever made.
    pub(crate) fn made(&self) -> impl Iterator<Item = (&Dot, &Made)> {
        self.made.iter().map(|(dot, (made, _))| (dot, &**made))
    }

    /// The op under this dot.
    pub(crate) fn op(&self, dot: &Dot) -> &Made {
        &self.made[dot].0
    }

    fn node_of(&self, dot: &Dot) -> usize {
        self.nodes.iter().position(|node| node.replica.node == dot.origin.node).unwrap()
    }

    /// Whether no session is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.sessions.is_empty()
    }

    /// What of it decides how it ends when all is exchanged.
    pub(crate) fn holdings(&self) -> Fingerprint {
        let digests: Vec<_> = self.nodes.iter().map(|node| node.digest.0).collect();
        let promised: Vec<_> = self.made().map(|(_, made)| made.is_acknowledged()).collect();
        Fingerprint::of(&(digests, promised))
    }
}

impl Hash for Mesh {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for node in &self.nodes {
            let is_whole = |peer: &DrainedPeer| *peer == DrainedPeer::Whole;
            let drained = node.rebootstrap.as_ref();
            let drained =
                drained.map(|all| all.iter().map(|(at, peer)| (*at, is_whole(peer))).collect::<Vec<_>>());
            (node.digest, drained, node.is_settled).hash(state);
        }
        for (_, digest) in self.made.values() {
            digest.hash(state);
        }
        for (_, digest) in &self.sessions {
            digest.hash(state);
        }
        if let Some((at, image)) = &self.image {
            (at, digest(image)).hash(state);
        }
        if let Some(Read { key, token, saw }) = &self.read {
            (key, token, saw).hash(state);
        }
        (self.is_late, self.spent, self.sessions.len(), self.image.is_some(), self.boots).hash(state);
    }
}

/// What a replica is, as far as anything follows from it. Its ops and their index follow from its records.
fn digest(replica: &Replica) -> (Fingerprint, Fingerprint) {
    let letters: Vec<_> = replica.dead_letters.iter().collect();
    let last_epoch = (replica.facts.own_epoch, replica.facts.ended_in_order);
    (
        Fingerprint::of(&(&*replica.clock, &replica.records)),
        Fingerprint::of(&(replica.boot, &replica.own_origin, last_epoch, replica.last_hlc, letters)),
    )
}

const NAMES: [&str; 3] = ["a", "b", "c"];
const RECORDS: [&str; 2] = ["r0", "r1"];
