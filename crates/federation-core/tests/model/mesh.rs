//! Several replicas, the messages between them, and the truth about what each writer had seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use federation_core::attest::{CompletionScopes, Trust, keeps};
use federation_core::decide::{Admission, Change, Received, WriteRefusal};
use federation_core::dot::{Dot, Origin};
use federation_core::epoch::{PeerKnowledge, settle};
use federation_core::id::{BootId, NodeId, RecordKey, StoreId};
use federation_core::node_clock::NodeClock;
use federation_core::op::Body;
use federation_core::port::store::{Facts, PeerFact, SessionId, SessionStart};
use federation_core::rejoin::{Standing, StoreClaim, judge};
use federation_core::scope::Scope;
use federation_core::session::{SessionReceiver, SessionSender};
use federation_core::time::WallMs;
use federation_core::vector_clock::VectorClock;

use crate::replica::Replica;

/// Index of a replica.
pub(crate) type At = usize;

#[derive(Default)]
pub(crate) struct Mesh {
    pub(crate) replicas: Vec<Replica>,
    /// Every op ever made, and what its writer had truly seen of its record.
    pub(crate) made: BTreeMap<Dot, Made>,
    /// Ops on their way. Any of them may arrive at any time, again, or never.
    pub(crate) on_the_way: Vec<(At, Dot)>,
    pub(crate) sessions: Vec<Session>,
    /// Which nodes refuse what.
    pub(crate) moods: Vec<Mood>,
    /// What the first trusts the second with; without an entry everything.
    pub(crate) trusts: BTreeMap<(At, At), Trust>,
    boots: u64,
    /// How many re-bootstraps there were.
    stores: u64,
}

/// How a boot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    InOrder,
    CutOff,
}

#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) op: Received,
    pub(crate) saw: BTreeSet<Dot>,
    /// The replicas that said it is durable with them.
    pub(crate) acked_by: BTreeSet<At>,
}

/// What a client took from a read: a causal token, and the truth behind it.
#[derive(Clone)]
pub(crate) struct Read {
    pub(crate) token: VectorClock,
    pub(crate) saw: BTreeSet<Dot>,
}

pub(crate) struct Session {
    from: At,
    to: At,
    boots: (BootId, BootId),
    sender: SessionSender,
    receiver: SessionReceiver,
    /// What is still to be sent. The record is remembered, for dots that are replaced meanwhile.
    todo: Vec<(Dot, RecordKey)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Willing,
    /// Refuses every second op for now.
    Busy,
    /// Refuses every third op for good.
    Forbidding,
}

impl Mesh {
    pub(crate) fn new(names: &[&str]) -> Self {
        let mut mesh = Self::default();
        for name in names {
            mesh.boots += 1;
            mesh.replicas.push(Replica::new(name, mesh.boots));
            mesh.moods.push(Mood::Willing);
        }
        mesh
    }

    pub(crate) fn n(&self) -> usize {
        self.replicas.len()
    }

    pub(crate) fn read(&self, at: At, key: &RecordKey) -> Read {
        let mut read = Read { token: VectorClock::new(), saw: BTreeSet::new() };
        for version in self.replicas[at].record(key).versions() {
            read.token.cover(&version.dot, &version.context);
            read.saw.extend(self.made[&version.dot].saw.iter().cloned());
            read.saw.insert(version.dot.clone());
        }
        read
    }

    /// A client writes at a replica, knowing what it read (or what is live there), and the op goes on its way.
    pub(crate) fn try_write(
        &mut self,
        at: At,
        key: &RecordKey,
        body: Body,
        read: Option<&Read>,
    ) -> Result<Dot, WriteRefusal> {
        let saw = read.cloned().unwrap_or_else(|| self.read(at, key)).saw;
        if self.replicas[at].own_origin.is_none() {
            self.settle_epoch(at);
        }
        let op = self.replicas[at].write(key, body, read.map(|r| r.token.clone()))?;
        let dot = op.op.dot.clone();
        for to in (0..self.n()).filter(|to| *to != at) {
            if self.trust(at, to).lets_out(&key.namespace) {
                self.on_the_way.push((to, dot.clone()));
            }
        }
        let made = Made { op, saw, acked_by: BTreeSet::from([at]) };
        assert!(self.made.insert(dot.clone(), made).is_none(), "the dot {dot} was used twice");
        self.check();
        Ok(dot)
    }

    pub(crate) fn write(&mut self, at: At, key: &RecordKey, body: Body, read: Option<&Read>) -> Dot {
        self.try_write(at, key, body, read).unwrap()
    }

    pub(crate) fn trust(&self, at: At, of: At) -> Trust {
        self.trusts.get(&(at, of)).cloned().unwrap_or_else(Trust::full)
    }

    fn is_taken(&self, op: &Received, to: At) -> bool {
        let own = &self.replicas[to].facts.replica_scope;
        let origin = self.replicas.iter().position(|r| r.node == op.op.dot.origin.node).unwrap();
        let taken =
            if origin == to { keeps(own, &op.op) } else { self.trust(to, origin).lets_in(own, &op.op) };
        taken.is_ok()
    }

    /// Hands an op to a replica, whatever else is on the way.
    pub(crate) fn send(&mut self, dot: &Dot, to: At) -> Result<Admission, Refused> {
        let op = self.made[dot].op.clone();
        if !self.is_taken(&op, to) {
            return Err(Refused::ForGood);
        }
        match self.moods[to] {
            Mood::Busy if dot.seq.is_multiple_of(2) => return Err(Refused::ForNow),
            Mood::Forbidding if dot.seq.is_multiple_of(3) => return Err(Refused::ForGood),
            _ => {}
        }
        let admission = self.replicas[to].admit(op);
        let outcome = match admission {
            Admission::Applied { .. } | Admission::Duplicate { .. } | Admission::Superseded => Ok(admission),
            Admission::ClockAhead => Err(Refused::ForNow),
            Admission::Equivocation { .. } => panic!("nobody equivocates here"),
        };
        if outcome.is_ok() {
            self.made.get_mut(dot).unwrap().acked_by.insert(to);
        }
        self.check();
        outcome
    }

    /// A message arrives, once, or stays on the way and arrives again.
    pub(crate) fn deliver(&mut self, index: usize, again: bool) {
        if self.on_the_way.is_empty() {
            return;
        }
        let index = index % self.on_the_way.len();
        let (to, dot) =
            if again { self.on_the_way[index].clone() } else { self.on_the_way.swap_remove(index) };
        let origin = self.replicas.iter().position(|r| r.node == dot.origin.node).unwrap();
        if self.send(&dot, to) == Err(Refused::ForGood) {
            self.dead_letter(origin, to, &dot);
        }
    }

    pub(crate) fn lose(&mut self, index: usize) {
        if !self.on_the_way.is_empty() {
            let index = index % self.on_the_way.len();
            self.on_the_way.swap_remove(index);
        }
    }

    fn dead_letter(&mut self, from: At, to: At, dot: &Dot) {
        let peer = self.replicas[to].node.clone();
        let context = self.made[dot].op.op.context.clone();
        self.replicas[from].dead_letters.entry(peer).or_default().insert(dot.clone(), context);
    }

    pub(crate) fn begin_session(&mut self, from: At, to: At) {
        if from == to {
            return;
        }
        let (sender, receiver) = (&self.replicas[from], &self.replicas[to]);
        let trust = self.trust(from, to);
        let letters = sender.dead_letters.get(&receiver.node).cloned().unwrap_or_default();
        let mut withheld = VectorClock::new();
        // A letter whose op is replaced is no longer live: it is the replacement that is sent, or refused.
        for (dot, context) in letters.iter().filter(|(dot, _)| sender.ops.contains_key(dot)) {
            withheld.cover(dot, context);
        }
        let todo = sender
            .ops
            .iter()
            .filter(|(dot, _)| !receiver.clock.contains(dot) && !letters.contains_key(dot))
            .filter(|(_, op)| trust.lets_out(&op.op.key.namespace))
            .map(|(dot, op)| (dot.clone(), op.op.key.clone()))
            .rev()
            .collect();
        let own = sender.facts.own_origin(&sender.node);
        let (clock, facts) = (sender.clock.clone(), Arc::default());
        let start = SessionStart { session: SessionId(0), clock, withheld, facts, own };
        let claimable = CompletionScopes {
            sender: &sender.facts.replica_scope,
            grant: &trust.grant,
            relay: &Scope::everything(),
            receiver: &receiver.facts.replica_scope,
        };
        self.sessions.push(Session {
            from,
            to,
            boots: (sender.boot, receiver.boot),
            sender: SessionSender::new(start, claimable.claimable()),
            receiver: SessionReceiver::new(),
            todo,
        });
    }

    /// One page of one op, or the completion at the end. True if the session goes on.
    pub(crate) fn step_session(&mut self, index: usize) -> bool {
        if self.sessions.is_empty() {
            return false;
        }
        let index = index % self.sessions.len();
        let mut session = self.sessions.swap_remove(index);
        let boots = (self.replicas[session.from].boot, self.replicas[session.to].boot);
        if boots != session.boots {
            return false;
        }
        let Some((dot, key)) = session.todo.pop() else {
            let claimed = session.sender.complete_to();
            let merged = session.receiver.complete(session.sender.pages(), &claimed).unwrap();
            let (sender, receiver) = (&self.replicas[session.from], &self.replicas[session.to]);
            let claimable = CompletionScopes {
                sender: &sender.facts.replica_scope,
                grant: &self.trust(session.from, session.to).grant,
                relay: &self.trust(session.to, session.from).relay,
                receiver: &receiver.facts.replica_scope,
            };
            let merged = claimable.claimable().of(&merged, &sender.node);
            self.replicas[session.to].complete(NodeClock::from(merged));
            self.check();
            return false;
        };
        let page = session.sender.next_page();
        let sender = &self.replicas[session.from];
        let ops = if sender.ops.contains_key(&dot) { BTreeSet::from([dot]) } else { sender.live(&key) };
        for dot in ops {
            if let Err(refused) = self.send(&dot, session.to) {
                let context = &self.made[&dot].op.op.context;
                session.receiver.refused(&dot, context);
                session.sender.refused(&dot, context);
                if refused == Refused::ForGood {
                    self.dead_letter(session.from, session.to, &dot);
                }
            }
        }
        session.receiver.handled(page);
        self.sessions.push(session);
        true
    }

    pub(crate) fn break_session(&mut self, index: usize) {
        if !self.sessions.is_empty() {
            let index = index % self.sessions.len();
            self.sessions.swap_remove(index);
        }
    }

    /// A whole session, from its hello to its completion.
    pub(crate) fn session(&mut self, from: At, to: At) {
        self.begin_session(from, to);
        while self.step_session(self.sessions.len().wrapping_sub(1)) {}
    }

    /// A node starts again with what its disk had, and says hello to all of `answering`.
    pub(crate) fn restart(&mut self, at: At, end: End, answering: impl Fn(At) -> bool) {
        if end == End::InOrder {
            self.replicas[at].close();
        }
        self.boots += 1;
        self.replicas[at].begin_boot(BootId(self.boots));
        for peer in (0..self.n()).filter(|peer| *peer != at && answering(*peer)) {
            self.hello(at, peer);
        }
    }

    /// A node says hello, and is answered.
    pub(crate) fn hello(&mut self, from: At, to: At) {
        self.half_hello(from, to);
        self.half_hello(to, from);
    }

    /// A node says hello, or answers it, and is heard: the hearer remembers it durably, or tells it that it must
    /// re-bootstrap.
    pub(crate) fn half_hello(&mut self, from: At, to: At) {
        if from == to {
            return;
        }
        let said = self.replicas[from].clone();
        let hearer = &mut self.replicas[to];
        let (store, boot, position) = (said.facts.store.unwrap(), said.boot, said.position);
        let claim = StoreClaim { store, boots: &said.facts.boots, boot, position };
        if let Standing::RolledBack(_) = judge(hearer.facts.peers.get(&said.node), &claim) {
            self.rebootstrap(from);
            return;
        }
        hearer.facts.peers.insert(said.node.clone(), PeerFact { store, boot, position });
        hearer.position.0 += 1;
        let here = (hearer.facts.store.unwrap(), hearer.boot);
        if said.facts.peers.get(&hearer.node).is_some_and(|seen| (seen.store, seen.boot) == here) {
            hearer.witnesses.insert(said.node, said.clock);
        }
    }

    /// The origin of the first own op of a boot.
    fn settle_epoch(&mut self, at: At) {
        let replica = &self.replicas[at];
        let peers = self.replicas.iter().filter(|peer| peer.node != replica.node).map(|peer| {
            replica.witnesses.get(&peer.node).map_or(PeerKnowledge::Silent, PeerKnowledge::Knows)
        });
        let last = replica.facts.last_epoch();
        let origin = settle(&replica.node, replica.boot, last, &replica.clock, peers);
        self.replicas[at].commit(vec![Change::OpenEpoch(origin)]);
    }

    /// A node comes back with an older state, and says hello to all of `answering`: they may see it, or not.
    pub(crate) fn come_back_with(&mut self, at: At, mut state: Replica, answering: impl Fn(At) -> bool) {
        // The time goes on.
        state.now = self.replicas[at].now;
        self.replicas[at] = state;
        self.restart(at, End::CutOff, answering);
        self.note_what_is_left(at);
    }

    /// A node comes back with an empty disk.
    pub(crate) fn come_back_wiped(&mut self, at: At) {
        let now = self.replicas[at].now;
        self.replicas[at] = Replica { now, ..self.wiped(at) };
        self.boots += 1;
        self.replicas[at].begin_boot(BootId(self.boots));
        self.rebootstrap(at);
        self.note_what_is_left(at);
    }

    /// A new store, all peers drained before anything else, and what is dead there dropped.
    fn rebootstrap(&mut self, at: At) {
        self.stores += 1;
        self.replicas[at].begin_store(StoreId { created_ms: self.stores, random: 0 });
        let peers: Vec<At> = (0..self.n()).filter(|peer| *peer != at).collect();
        for peer in &peers {
            self.hello(at, *peer);
        }
        for peer in &peers {
            self.session(*peer, at);
        }
        for peer in peers {
            let peer = self.replicas[peer].clone();
            self.replicas[at].drop_what_is_dead_at(&peer);
        }
    }

    fn note_what_is_left(&mut self, at: At) {
        for (dot, made) in &mut self.made {
            made.acked_by.remove(&at);
            if self.replicas[at].clock.contains(dot) {
                made.acked_by.insert(at);
            }
        }
        self.check();
    }

    pub(crate) fn wiped(&self, at: At) -> Replica {
        let node = self.replicas[at].node.clone();
        let mut nothing = Replica::new(node.as_str(), 0);
        nothing.own_origin = None;
        let replica_scope = self.replicas[at].facts.replica_scope.clone();
        nothing.facts = Facts { boots: Vec::new(), replica_scope, ..Facts::default() };
        nothing
    }

    /// All willing, all clocks right, dead letters sent again: everything is exchanged until nothing changes.
    pub(crate) fn converge(&mut self) {
        self.sessions.clear();
        let now = self.replicas.iter().map(|r| r.now).max().unwrap_or(WallMs(0));
        for (replica, mood) in self.replicas.iter_mut().zip(&mut self.moods) {
            replica.now = now;
            replica.dead_letters.clear();
            *mood = Mood::Willing;
        }
        for _ in 0..2 {
            for from in 0..self.n() {
                for to in 0..self.n() {
                    self.session(from, to);
                }
            }
        }
    }

    pub(crate) fn assert_converged(&self) {
        for pair in self.replicas.windows(2) {
            assert_eq!(pair[0].records, pair[1].records, "{} and {}", pair[0].node, pair[1].node);
            assert_eq!(pair[0].clock, pair[1].clock, "{} and {}", pair[0].node, pair[1].node);
        }
        for replica in &self.replicas {
            for (dot, made) in &self.made {
                let is_safe = self.is_held(replica, dot, made);
                assert!(is_safe || made.acked_by.is_empty(), "{dot} is lost, acked by {:?}", made.acked_by);
            }
        }
    }

    /// As [`Mesh::assert_converged`], of what each keeps: whoever keeps a record has what any node has of it that keeps
    /// it too.
    pub(crate) fn assert_converged_in_scope(&self) {
        for (dot, made) in &self.made {
            let namespace = &made.op.op.key.namespace;
            let keepers = || self.replicas.iter().filter(|r| r.facts.replica_scope.contains(namespace));
            let is_anywhere = keepers().any(|replica| self.is_held(replica, dot, made));
            for replica in keepers().filter(|_| is_anywhere) {
                assert!(self.is_held(replica, dot, made), "{} lacks {dot} of {namespace}", replica.node);
            }
        }
    }

    /// Live there, or replaced by one whose writer had truly seen it.
    fn is_held(&self, replica: &Replica, dot: &Dot, made: &Made) -> bool {
        let record = replica.record(&made.op.op.key);
        record.version(dot).is_some() || record.versions().iter().any(|v| self.made[&v.dot].saw.contains(dot))
    }

    /// What must hold after every event.
    pub(crate) fn check(&self) {
        for replica in &self.replicas {
            for (dot, made) in &self.made {
                let is_kept = replica.facts.replica_scope.contains(&made.op.op.key.namespace);
                if replica.clock.contains(dot) && is_kept {
                    assert!(
                        self.is_held(replica, dot, made),
                        "I1: {dot} is in the clock of {}, not live there, and nothing live there had seen it",
                        replica.node
                    );
                }
            }
        }
        self.check_contexts();
    }

    /// A context says of its record's ops exactly what the writer had seen: nothing too little, or a version
    /// comes back; nothing too much, or one vanishes.
    fn check_contexts(&self) {
        for (dot, made) in &self.made {
            for (other, _) in self.made.iter().filter(|(_, m)| m.op.op.key == made.op.op.key) {
                assert_eq!(
                    made.op.op.context.contains(other),
                    made.saw.contains(other),
                    "the context of {dot} and what its writer had seen differ on {other}"
                );
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    ForNow,
    ForGood,
}

/// The origin of a node that is in no mesh.
pub(crate) fn origin(node: &str, epoch: u64) -> Origin {
    Origin { node: NodeId::new(node).unwrap(), epoch: BootId(epoch) }
}
