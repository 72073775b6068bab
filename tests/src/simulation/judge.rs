//! The end of a run, or of a part of it: everything heals, all must be equal in time, and nothing may be missing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use federation_core::decide::{Condition, Mutation, WriteRefusal};
use federation_core::dot::Dot;
use federation_core::id::{AgentId, Namespace};
use federation_core::limits::CLOCK_DRIFT_MAX;
use federation_core::op::Body;
use federation_core::port::store::StateHash;
use federation_core::quorum::ack_tracker::Reason;
use federation_core::quorum::policy::WriteLevel;
use federation_core::record::Record;
use federation_core::scope::Scope;
use federation_net::error::WriteError;
use federation_net::node::Node;
use federation_net::status::Readiness;
use tokio::time::Instant;

use super::Finding;
use super::attacker::Strike;
use super::books::{Books, text};
use super::mesh::Mesh;
use super::scopes::MeshScopes;
use super::world::World;
use crate::checker::{self, Guarantee, Settling};
use crate::history::{FinalStates, Incident, Intrusion, IntrusionAnswer, Keepers, Seen};

/// Starts of a node whose disk fails, after which it is given up.
const STARTS_MAX: usize = 10;
/// Writes to a node that is well, of which one must be taken.
const PROBES_MAX: usize = 4;
/// How much longer it may take where one node hears of another by a third: its delay, and a session more.
const RELAYED_WITHIN_MS: u64 = 5_000;
/// How long is waited for what only a node that does not keep it holds.
const TO_COME_WITHIN: Duration = Duration::from_secs(10);
/// How much longer than allowed a run waits for nodes to be equal, to tell late from never.
const OVERTIME: Duration = Duration::from_secs(30);

impl World {
    /// Every fault ends; then all are to be equal in time, and nothing may be missing.
    pub(super) async fn heal(&mut self) -> Vec<Finding> {
        self.mesh.trace.say(|| "heal".to_owned());
        while self.beside.join_next().await.is_some() {}
        self.mesh.network.heal();
        for i in 0..self.mesh.len() {
            self.mesh.wall(i).set_offset_ms(0);
        }
        self.mend_disks();
        self.start_all();
        for i in self.mesh.outdated() {
            self.mesh.stop(i).await;
            self.mesh.start(i);
        }
        self.settle_by_relay().await;
        let settling = self.settle().await;
        self.mesh.trace.say(|| format!("{settling:?}"));
        if let Some(ms) = settling.equal_after_ms {
            self.mesh
                .coverage
                .converged_in
                .push(Duration::from_millis(ms.saturating_sub(settling.allowance_ms)));
        }
        self.history.settlings.push(settling);
        // At the same instant: writes that were not waited for go on.
        self.take_stock();
        self.try_old_keys().await;
        for leak in self.mesh.scopes.take_leaks() {
            self.history.intrusions.push(Intrusion {
                kind: "an op out of scope".to_owned(),
                node: leak.to,
                answer: IntrusionAnswer::Accepted { what: leak.what },
            });
        }
        let taken_twice = self.mesh.network.counts().taken_twice;
        if taken_twice > 0 {
            self.history.intrusions.push(Intrusion {
                kind: "a request that arrived twice".to_owned(),
                node: 0,
                answer: IntrusionAnswer::Accepted { what: format!("{taken_twice} were handled again") },
            });
        }
        self.history.incidents.extend(incidents(&self.mesh, &self.lost_disks_ever(), &self.lies()).await);
        let mut findings: Vec<Finding> =
            checker::check_claims(&self.history, &self.claims).into_iter().map(Finding::from).collect();
        if self.claims.contains(&Guarantee::G1) {
            findings.extend(claims_nothing_it_lacks(&self.mesh));
        }
        if !findings.is_empty() {
            let described = describe(&self.mesh).await;
            self.mesh.trace.say(|| described);
        }
        self.lost_disks.clear();
        self.rolled_back.clear();
        self.coming_back.clear();
        self.writes_since_heal = 0;
        findings
    }

    /// With one link still cut, what one end has reaches the other by a third node. Not where a disk was lost: that
    /// node is to hear of all the others.
    async fn settle_by_relay(&mut self) {
        let nodes = self.mesh.len();
        let turn = usize::try_from(self.seed % 1_024).unwrap_or(0) + self.history.settlings.len();
        if nodes < 3 || self.mesh.scopes.are_there() || !self.lost_disks.is_empty() || turn % 2 == 1 {
            return;
        }
        let (a, b) = (self.mesh.id(turn % nodes), self.mesh.id((turn + 1) % nodes));
        self.mesh.network.cut_both(&a, &b);
        let mut settling = self.settle().await;
        settling.allowance_ms += RELAYED_WITHIN_MS;
        self.mesh.trace.say(|| format!("without {a} to {b}: {settling:?}"));
        self.history.settlings.push(settling);
        self.mesh.network.mend(&a, &b);
    }

    /// A mesh that is well takes what it is asked to take: every node a new record, and every node that can promise it does.
    pub(super) async fn use_it(&mut self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for i in 0..self.mesh.len() {
            let mut refused = None;
            // A disk that was to fail may do so only now.
            for _ in 0..PROBES_MAX {
                self.restart_poisoned().await;
                let Some(node) = self.mesh.node(i).cloned() else { break };
                let probe = self.probe(i);
                let can = self.mesh.scopes.can_promise(i, &probe.key.namespace);
                let level = can.map_or(WriteLevel::All, WriteLevel::Count);
                refused = node.write(probe, Some(level)).await.err();
                if !refused.as_ref().is_some_and(finds_something_out) && !self.is_one_poisoned() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            if let Some(error) = refused {
                let seen =
                    format!("n{i} does not take a new record, although all is well: {error}: {error:?}");
                findings.push(Finding { claim: "G9".to_owned(), seen });
            }
        }
        self.writes_since_heal += self.mesh.len() as u64;
        findings.extend(self.heal().await);
        findings
    }

    fn probe(&self, i: usize) -> Mutation {
        let mut text = format!("probe{i}");
        let kept = self.mesh.scopes.namespaces().into_iter().find(|name| self.mesh.scopes.keeps(i, name));
        if let Some(namespace) = kept.filter(|_| self.mesh.scopes.are_there()) {
            text = format!("{namespace}.{text}");
        }
        let key = super::key(&text);
        self.mesh.books.expect(&key);
        Mutation {
            key,
            author: AgentId::new(&text).expect("a valid id"),
            body: Body::Put { payload: Arc::from(text.as_bytes()), embedding: None, archived: false },
            condition: Condition::None,
            token: None,
        }
    }

    /// Waits until all nodes serve and hold the same.
    async fn settle(&mut self) -> Settling {
        let healed = Instant::now();
        // What was dated ahead is taken once the time has come.
        let ahead_ms = u64::try_from(self.furthest_ahead_ms).unwrap_or(0).saturating_sub(CLOCK_DRIFT_MAX.0);
        self.furthest_ahead_ms = 0;
        let mut settling = Settling {
            backlog_ops: self.writes_since_heal,
            // What is not granted to who keeps it comes by a third node.
            allowance_ms: ahead_ms + if self.mesh.scopes.hold_back() { RELAYED_WITHIN_MS } else { 0 },
            equal_after_ms: None,
            hashes: Vec::new(),
        };
        let limit = Duration::from_millis(settling.limit_ms()) + OVERTIME;
        loop {
            // A disk that was to fail may do so only now.
            self.restart_poisoned().await;
            let states = states(&self.mesh).await;
            let is_equal = are_equal(&states);
            let waited = healed.elapsed();
            if !is_equal || !all_serve(&self.mesh) {
                settling.equal_after_ms = None;
            } else if settling.equal_after_ms.is_none() {
                settling.equal_after_ms = Some(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX));
            }
            let is_settled =
                settling.equal_after_ms.is_some() && (waited > TO_COME_WITHIN || !is_one_to_come(&self.mesh));
            if is_settled || waited > limit {
                let hash = |state: &Option<Shared>| state.as_ref().map(|hashes| format!("{hashes:?}"));
                settling.hashes = states.iter().map(hash).collect();
                return settling;
            }
            let step = if waited < Duration::from_secs(12) { 50 } else { 500 };
            tokio::time::sleep(Duration::from_millis(step)).await;
        }
    }

    /// Whether a disk has failed that was to fail, and its node takes nothing.
    fn is_one_poisoned(&self) -> bool {
        let is_bad = |node: &Node| matches!(node.readiness(), Readiness::Store(_));
        (0..self.mesh.len()).filter_map(|i| self.mesh.node(i)).any(is_bad)
    }

    /// A node whose disk failed under it is up and takes nothing, or did not start: like an operator, restart it.
    async fn restart_poisoned(&mut self) {
        for i in 0..self.mesh.len() {
            let is_bad = |node: &Node| matches!(node.readiness(), Readiness::Store(_));
            for _ in 0..STARTS_MAX {
                if !self.mesh.node(i).is_none_or(is_bad) {
                    break;
                }
                self.mesh.stop(i).await;
                self.mesh.start(i);
            }
        }
    }

    /// Writes down what every node holds.
    fn take_stock(&mut self) {
        let mut finals = FinalStates::default();
        let mut siblings = 0;
        for key in self.mesh.books.keys() {
            let (mut shown_by, mut live_at) = (Vec::new(), Vec::new());
            for i in 0..self.mesh.len() {
                let record = self.mesh.store(i).map(|store| store.reads().record(&key));
                match record {
                    Some(Ok(read)) => {
                        live_at.push(read.record.versions().iter().map(|v| text(&v.dot)).collect());
                        shown_by.push(shown(&self.mesh.books, &read.record));
                        siblings += u64::from(i == 0 && read.record.versions().len() > 1);
                    }
                    Some(Err(error)) => {
                        live_at.push(BTreeSet::new());
                        shown_by.push(Seen::Unknown { what: error.to_string() });
                    }
                    None => {
                        live_at.push(BTreeSet::new());
                        shown_by.push(Seen::Unknown { what: "the node is down".to_owned() });
                    }
                }
            }
            let nodes_that = |may: fn(&MeshScopes, usize, &Namespace) -> bool| {
                (0..self.mesh.len()).filter(|i| may(&self.mesh.scopes, *i, &key.namespace)).collect()
            };
            let keepers =
                Keepers { now: nodes_that(MeshScopes::keeps), on_disk: nodes_that(MeshScopes::may_hold) };
            finals.keepers.insert(key.id.as_str().to_owned(), keepers);
            finals.records.insert(key.id.as_str().to_owned(), shown_by);
            finals.live.insert(key.id.as_str().to_owned(), live_at);
        }
        self.mesh.coverage.add("records with siblings at a check", siblings);
        self.history.finals = finals;
        self.history.ops = self.mesh.books.facts();
    }

    /// The alarms that were brought about by somebody who may not.
    fn lies(&self) -> BTreeSet<&'static str> {
        let tried =
            |strike: &&Strike| self.history.intrusions.iter().any(|tried| tried.kind == strike.name());
        let mut lies: BTreeSet<_> =
            Strike::ALL.iter().filter(tried).filter_map(|strike| strike.alarm()).collect();
        if self.mesh.network.counts().answers_forged > 0 {
            lies.insert("answer_forged");
        }
        lies
    }

    fn lost_disks_ever(&self) -> BTreeSet<usize> {
        (0..self.mesh.len()).filter(|i| self.mesh.losses(*i) > 0).collect()
    }
}

/// What a reader sees of a record.
pub(super) fn shown(books: &Books, record: &Record) -> Seen {
    match record.visible() {
        Some(version) => {
            let content = books.content(&version.dot).unwrap_or_default();
            Seen::Value { content, dot: text(&version.dot) }
        }
        None if record.is_empty() => Seen::Missing,
        None => Seen::Deleted,
    }
}

/// I1: every op in a node's clock is live there, or covered by a version that is.
fn claims_nothing_it_lacks(mesh: &Mesh) -> Vec<Finding> {
    let dots = mesh.books.dots();
    let mut findings = Vec::new();
    for i in mesh.running() {
        let Some(store) = mesh.store(i) else { continue };
        let snapshot = store.reads().snapshot();
        let (clock, scope) = (&snapshot.clock, &snapshot.facts.replica_scope);
        let claimed = dots.iter().filter(|(dot, key)| clock.contains(dot) && scope.contains(&key.namespace));
        for (dot, key) in claimed {
            let Ok(read) = store.reads().record(key) else { continue };
            if !holds(&read.record, dot) {
                let seen = format!("n{i} claims {dot} of {key}, and has {:?}", read.record);
                findings.push(Finding { claim: "I1".to_owned(), seen });
            }
        }
    }
    findings
}

pub(super) fn holds(record: &Record, dot: &Dot) -> bool {
    record.version(dot).is_some() || record.covers(dot)
}

/// What no node may do. Only nodes that lost a disk may be told that they went back.
async fn incidents(
    mesh: &Mesh,
    lost_disks: &BTreeSet<usize>,
    lies: &BTreeSet<&'static str>,
) -> Vec<Incident> {
    let mut out: Vec<_> =
        mesh.books.incidents().into_iter().map(|what| Incident { node: None, what }).collect();
    out.extend(mesh.unopened.iter().map(|what| Incident { node: None, what: what.clone() }));
    if mesh.network.has_panicked() {
        out.push(Incident { node: None, what: "a node panicked while it handled a frame".to_owned() });
    }
    for i in 0..mesh.len() {
        let Some(node) = mesh.node(i) else {
            out.push(Incident { node: Some(i), what: "it does not start".to_owned() });
            continue;
        };
        if let Ok(task) = tokio::time::timeout(Duration::ZERO, node.failed()).await {
            out.push(Incident { node: Some(i), what: format!("the task {task:?} panicked") });
        }
        // Not of those nodes alone: who was away while another came back from a lost disk is unknown to it.
        let is_expected = |what: &str| match what {
            "peer_must_rebootstrap" | "must_rebootstrap" | "new_mesh_void" => !lost_disks.is_empty(),
            "scope_mismatch" => mesh.scopes.changes() > 0,
            _ => lies.contains(what),
        };
        for what in node.metrics().alarms.into_keys().filter(|what| !is_expected(what)) {
            out.push(Incident { node: Some(i), what: format!("alarm {what}") });
        }
    }
    out
}

/// What a node holds of each namespace that it keeps.
type Shared = BTreeMap<Namespace, StateHash>;

async fn states(mesh: &Mesh) -> Vec<Option<Shared>> {
    let mut out = Vec::new();
    for i in 0..mesh.len() {
        out.push(shared(mesh, i).await);
    }
    out
}

async fn shared(mesh: &Mesh, i: usize) -> Option<Shared> {
    let node = mesh.node(i)?;
    let mut shared = Shared::new();
    for namespace in mesh.scopes.namespaces().into_iter().filter(|namespace| mesh.scopes.keeps(i, namespace))
    {
        let scope = Scope::parse([namespace.as_str()]).expect("a valid glob");
        shared.insert(namespace, node.state_hash(&scope).await.ok()?);
    }
    Some(shared)
}

/// Whether all who keep a namespace hold the same of it.
fn are_equal(states: &[Option<Shared>]) -> bool {
    let mut all = Shared::new();
    states.iter().all(|state| {
        state.as_ref().is_some_and(|state| {
            state.iter().all(|(namespace, hash)| all.entry(namespace.clone()).or_insert(*hash) == hash)
        })
    })
}

/// Whether a node holds an op of a namespace that it keeps no more, and that nobody who keeps it has: it may be nowhere else,
/// and is not in what they are compared by. It need not come: it may be refused, or not be granted to anyone.
fn is_one_to_come(mesh: &Mesh) -> bool {
    mesh.scopes.are_there()
        && mesh.books.keys().iter().any(|key| {
            let (keepers, others): (Vec<_>, Vec<_>) =
                (0..mesh.len()).partition(|i| mesh.scopes.keeps(*i, &key.namespace));
            let clocks: Vec<_> =
                keepers.into_iter().filter_map(|i| Some(mesh.node(i)?.status().clock)).collect();
            let records = others.into_iter().filter_map(|i| mesh.store(i)?.reads().record(key).ok());
            records
                .flat_map(|read| read.record.versions().to_vec())
                .any(|version| !clocks.iter().any(|clock| clock.contains(&version.dot)))
        })
}

fn all_serve(mesh: &Mesh) -> bool {
    (0..mesh.len()).all(|i| mesh.node(i).is_some_and(|node| node.readiness() == Readiness::Ready))
}

/// What each node says of itself, for people.
async fn describe(mesh: &Mesh) -> String {
    let hashes = states(mesh).await;
    let mut out = String::from("the nodes say:");
    for (i, hash) in hashes.iter().enumerate() {
        let _ = write!(out, "\nn{i}: {hash:?}");
        let Some(node) = mesh.node(i) else { continue };
        let status = node.status();
        let clock: Vec<_> = status.clock.iter().collect();
        let _ = write!(out, " {:?} clock {clock:?}", status.readiness);
        if let Some(store) = mesh.store(i) {
            let (facts, counters) = (store.reads().snapshot().facts.clone(), node.metrics());
            let _ = write!(out, "\n  {:?} {:?}", facts.store, facts.rebootstrap);
            let _ = write!(out, "\n  {:?} {:?}", counters.sessions, counters.alarms);
        }
        for peer in status.peers {
            let _ = write!(out, "\n  {peer:?}");
        }
    }
    out
}

/// Whether a write was refused over something that only it could find out: a connection that is dead though nobody
/// has noticed, by its own deadline, a disk that was still to fail, or one that went back, as the hellos tell that the
/// first own op waits for. The next write is to be taken.
fn finds_something_out(error: &WriteError) -> bool {
    match error {
        WriteError::QuorumNotMet(not_met) => not_met.reason == Reason::Timeout,
        WriteError::Store(_) | WriteError::NotServing(_) | WriteError::Refused(WriteRefusal::NoEpoch) => true,
        _ => false,
    }
}
