//! Plays a schedule: clients write and read while faults happen, everything heals, and then nothing may be missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use federation_core::decide::{Condition, Mutation};
use federation_core::dot::Dot;
use federation_core::id::{AgentId, BootId, RecordKey};
use federation_core::op::Body;
use federation_core::port::store::{Health, StoreError};
use federation_core::quorum::policy::WriteLevel;
use federation_core::vector_clock::VectorClock;
use federation_net::WriteReceipt;
use federation_net::error::{ReadError, WriteError};
use federation_net::node::Node;
use federation_net::status::Readiness;
use federation_store::SimulatedDisk;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::books::text;
use super::coverage::Coverage;
use super::mesh::Mesh;
use super::scopes::MeshScopes;
use super::trace::{Trace, Tracing};
use super::{Finding, judge, key, simulate};
use crate::checker::Guarantee;
use crate::history::{Answer, Call, DurableSample, History, Request, Seen, Sharing};
use crate::schedule::{FaultClass, Schedule, Step, Wanted, Write};

/// How long the clients of open calls wait after the last step: longer than any node may take that runs.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a write may take that is promised. It is told in whole milliseconds, rounded up.
const PROMISED_WITHIN: Duration = Duration::from_millis(2_002);
/// Of so many calls of a long run one looks at all disks when it is acknowledged.
const LOOKS_AT_DISKS_EVERY: u64 = 60;

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// What is wrong; none is as it should be.
    pub findings: Vec<Finding>,
    /// What it reached.
    pub coverage: Coverage,
    /// Faults that took effect, by class.
    pub faults: BTreeMap<FaultClass, u64>,
    /// Calls of clients.
    pub calls: usize,
    /// All that was recorded, up to the last check.
    pub history: History,
    /// What happened, in order.
    pub trace: Trace,
}

/// How a run is recorded and judged.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is kept of its trace.
    pub tracing: Tracing,
    /// The guarantees that are checked.
    pub claims: BTreeSet<Guarantee>,
}

impl Default for Options {
    fn default() -> Self {
        Self { tracing: Tracing::Digest, claims: Guarantee::ALL.into_iter().collect() }
    }
}

/// Runs a schedule in a runtime of its own, on simulated time.
pub fn run(schedule: &Schedule, options: &Options) -> Outcome {
    simulate(async {
        let mut world = World::new(schedule, options);
        let findings = world.play(schedule).await;
        world.end(findings).await
    })
}

/// A mesh, its clients, and what is recorded of both.
pub(super) struct World {
    pub(super) mesh: Mesh,
    pub(super) history: History,
    pub(super) faults: BTreeMap<FaultClass, u64>,
    /// Disks that were lost since all was well: at most W-1 may be.
    pub(super) lost_disks: BTreeSet<usize>,
    pub(super) furthest_ahead_ms: i64,
    /// What goes on beside the steps: nodes that stand still, links that flap.
    pub(super) beside: JoinSet<()>,
    pub(super) writes_since_heal: u64,
    pub(super) attacks: super::faults::Attacks,
    pub(super) claims: BTreeSet<Guarantee>,
    pub(super) disks_to_lose: usize,
    /// Nodes whose disks went back, and that do not know it yet.
    pub(super) rolled_back: BTreeSet<usize>,
    /// Nodes that have lost their disks, and what was promised by then: none serves before it has that.
    pub(super) coming_back: BTreeMap<usize, ComingBack>,
    looks_every: u64,
    started: Instant,
    pub(super) seed: u64,
    open: BTreeMap<u64, Open>,
    calls: JoinSet<Answered>,
    next_call: u64,
    tokens: BTreeMap<u32, Token>,
}

/// A node on its way back from the loss of its disk.
pub(super) struct ComingBack {
    /// What was promised when the disk was lost.
    pub(super) promised: Vec<(Dot, RecordKey)>,
    /// Whether it has known of its loss yet.
    pub(super) is_catching_up: bool,
}

/// What a client has seen of a record.
struct Token {
    key: RecordKey,
    clock: VectorClock,
    seen: BTreeSet<Dot>,
}

/// A write under way.
struct Open {
    call: Call,
    /// How many nodes must hold it.
    needed: usize,
    /// The boot of its node when it began.
    boot: BootId,
    begun: Instant,
}

/// A write's answer, and what was on the disks at that moment if it was looked at.
struct Answered {
    call: u64,
    keep: Option<u32>,
    result: Option<Result<WriteReceipt, WriteError>>,
    at: Instant,
    /// Its node had not caught up when it came.
    was_behind: bool,
    disks: Option<BTreeMap<usize, SimulatedDisk>>,
}

impl World {
    fn new(schedule: &Schedule, options: &Options) -> Self {
        let interval = schedule.catchup_interval_ms.map(Duration::from_millis);
        let trace = Trace::new(options.tracing);
        let scopes = MeshScopes::new(schedule.scopes.clone());
        let (nodes, seed) = (schedule.nodes, schedule.seed ^ 0x5eed);
        let mesh = Mesh::scoped(nodes, seed, interval, trace, scopes, schedule.segment_bytes);
        let attacks = super::faults::Attacks::new(&mesh, schedule.seed);
        Self {
            mesh,
            history: History { nodes: schedule.nodes, ..History::default() },
            faults: BTreeMap::new(),
            lost_disks: BTreeSet::new(),
            furthest_ahead_ms: 0,
            beside: JoinSet::new(),
            writes_since_heal: 0,
            attacks,
            claims: options.claims.clone(),
            disks_to_lose: schedule.disks_to_lose.unwrap_or(schedule.nodes / 2),
            rolled_back: BTreeSet::new(),
            coming_back: BTreeMap::new(),
            looks_every: LOOKS_AT_DISKS_EVERY.min(1 + schedule.steps.len() as u64 / 4),
            started: Instant::now(),
            seed: schedule.seed,
            open: BTreeMap::new(),
            calls: JoinSet::new(),
            next_call: 0,
            tokens: BTreeMap::new(),
        }
    }

    async fn play(&mut self, schedule: &Schedule) -> Vec<Finding> {
        for step in &schedule.steps {
            match step {
                Step::Write(write) => self.write(write),
                Step::Read { node, key, keep } => self.read(*node, key, *keep).await,
                Step::Pass { ms } => tokio::time::sleep(Duration::from_millis(*ms)).await,
                Step::Fault(fault) => self.fault(fault).await,
                Step::Heal => {
                    let findings = self.heal().await;
                    if !findings.is_empty() {
                        return findings;
                    }
                }
            }
            self.take_answers();
            self.watch_those_who_come_back();
        }
        self.await_answers().await;
        let mut findings = self.heal().await;
        if findings.is_empty() {
            findings = self.use_it().await;
        }
        findings
    }

    async fn end(mut self, findings: Vec<Finding>) -> Outcome {
        self.calls.shutdown().await;
        self.beside.shutdown().await;
        self.mesh.shutdown().await;
        for (what, count) in self.mesh.network.counts().named() {
            self.mesh.coverage.add(what, count);
        }
        Outcome {
            findings,
            coverage: self.mesh.coverage,
            faults: self.faults,
            calls: self.history.calls.len(),
            history: self.history,
            trace: self.mesh.trace,
        }
    }

    /// A node that lost its disk serves only once it has all that was promised before.
    fn watch_those_who_come_back(&mut self) {
        for (i, coming) in &mut self.coming_back {
            match self.mesh.node(*i).map(Node::readiness) {
                Some(Readiness::CatchingUp { .. }) => coming.is_catching_up = true,
                Some(Readiness::Ready) if coming.is_catching_up => {
                    coming.is_catching_up = false;
                    self.mesh.coverage.reach("nodes looked at as they serve again");
                    let Some(store) = self.mesh.store(*i) else { continue };
                    let scopes = &self.mesh.scopes;
                    for (dot, key) in
                        coming.promised.iter().filter(|(_, key)| scopes.keeps(*i, &key.namespace))
                    {
                        let Ok(read) = store.reads().record(key) else { continue };
                        if !judge::holds(&read.record, dot) {
                            self.mesh.books.incident(format!("n{i} serves again and lacks {dot} of {key}"));
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// A client of this node writes; its answer comes later.
    fn write(&mut self, write: &Write) {
        let number = self.next_call;
        self.next_call += 1;
        let key = key(&write.key);
        self.mesh.books.expect(&key);
        let content = content(number, self.seed);
        let request = match write.what {
            Wanted::Put => Request::Update { content: content.clone() },
            Wanted::Create => Request::Create { content: content.clone() },
            Wanted::Delete => Request::Delete,
        };
        let replicas = self.mesh.replicas(write.node, &key).unwrap_or(0);
        let needed = write.level.unwrap_or(0).max(replicas / 2 + 1);
        let call = Call { level: write.level, ..self.call(number, write.node, &write.key, request) };
        let Some(node) = self.mesh.node(write.node).cloned() else {
            self.record(Call { answer: Answer::Unreached, ..call });
            return;
        };
        let author = AgentId::new(&format!("c{number}")).expect("a valid id");
        let token = write.token.and_then(|slot| self.tokens.get(&slot)).filter(|token| token.key == key);
        if let Some(token) = token {
            self.mesh.books.expect_token(&author, token.seen.clone());
            self.mesh.coverage.reach("causal tokens used");
        }
        let mutation = Mutation {
            key,
            author,
            body: match write.what {
                Wanted::Put | Wanted::Create => {
                    Body::Put { payload: Arc::from(content.as_bytes()), embedding: None, archived: false }
                }
                Wanted::Delete => Body::Delete,
            },
            condition: if write.what == Wanted::Create { Condition::Absent } else { Condition::None },
            token: token.map(|token| token.clock.clone()),
        };
        let boot = node.status().boot;
        self.open.insert(number, Open { call, needed, boot, begun: Instant::now() });
        self.writes_since_heal += 1;
        let level = write.level.map(WriteLevel::Count);
        let patience = write.patience_ms.map_or(Duration::from_mins(1), Duration::from_millis);
        let disks = self.mesh.disks.clone();
        let losses = disks.losses();
        let looks = number % self.looks_every == self.looks_every / 2;
        let keep = write.keep;
        self.calls.spawn(async move {
            let was_behind = matches!(node.readiness(), Readiness::CatchingUp { .. });
            let result = tokio::time::timeout(patience, node.write(mutation, level)).await.ok();
            let is_met = matches!(result, Some(Ok(_)));
            // A disk that was lost meanwhile need not hold what it held.
            let found = (looks && is_met).then(|| disks.after_power_cut());
            let disks = found.filter(|(_, lost)| *lost == losses).map(|(disks, _)| disks);
            Answered { call: number, keep, result, at: Instant::now(), was_behind, disks }
        });
    }

    fn take_answers(&mut self) {
        while let Some(done) = self.calls.try_join_next() {
            self.answered(done.expect("a write does not panic"));
        }
    }

    /// What hangs at a node that has lost its power is never answered: its caller gives up.
    async fn await_answers(&mut self) {
        let patience = Instant::now() + PATIENCE;
        while let Ok(Some(done)) = tokio::time::timeout_at(patience, self.calls.join_next()).await {
            self.answered(done.expect("a write does not panic"));
        }
        self.calls.shutdown().await;
        for (_, Open { call, boot, begun, .. }) in std::mem::take(&mut self.open) {
            self.mesh.coverage.reach("writes without an answer");
            let end_us = self.now_us();
            let still_runs = self.mesh.node(call.node).is_some_and(|node| node.status().boot == boot);
            let answer = if still_runs && begun.elapsed() >= PATIENCE {
                Answer::Undocumented { status: 0, body: "nothing, by a node that ran on".to_owned() }
            } else {
                Answer::Cut
            };
            self.record(Call { end_us, answer, ..call });
        }
    }

    fn answered(&mut self, answered: Answered) {
        let Some(Open { call, needed: asked, begun, .. }) = self.open.remove(&answered.call) else { return };
        let took = answered.at.duration_since(begun);
        let nodes = self.mesh.len();
        let coverage = &mut self.mesh.coverage;
        let answer = match answered.result {
            None => {
                coverage.reach("writes without an answer");
                Answer::TimedOut
            }
            Some(Ok(receipt)) if receipt.needed != asked || receipt.got < asked => {
                let body = format!("promised with {} of {}, asked for {asked}", receipt.got, receipt.needed);
                Answer::Undocumented { status: 201, body }
            }
            Some(Ok(_) | Err(WriteError::QuorumNotMet(_))) if answered.was_behind => {
                let body = "taken by a node that had not caught up".to_owned();
                Answer::Undocumented { status: 201, body }
            }
            Some(Ok(_)) if took > PROMISED_WITHIN => {
                Answer::Undocumented { status: 201, body: format!("promised after {took:?}") }
            }
            Some(Err(WriteError::QuorumNotMet(not_met))) if not_met.needed != asked => {
                let body = format!("not promised with {} needed, asked for {asked}", not_met.needed);
                Answer::Undocumented { status: 503, body }
            }
            Some(Ok(receipt)) => {
                let dot = &receipt.written.op.dot;
                self.mesh.books.promised(dot);
                if let Some(slot) = answered.keep {
                    let op = &receipt.written.op;
                    let mut clock = VectorClock::new();
                    clock.cover(dot, &op.context);
                    let seen = self.mesh.books.seen_with([dot]);
                    self.tokens.insert(slot, Token { key: op.key.clone(), clock, seen });
                }
                coverage.reach("writes acknowledged");
                let is_of_fewer = receipt.peers.len() + 1 < nodes;
                coverage.add("writes with fewer replicas than nodes", u64::from(is_of_fewer));
                coverage.add("deletes acknowledged", u64::from(call.request == Request::Delete));
                if let Some(disks) = answered.disks {
                    coverage.reach("acknowledged writes looked up on all disks");
                    let holders = self.mesh.holders(&disks, &receipt.written.op.key, dot);
                    let sample = DurableSample { dot: text(dot), needed: receipt.needed, holders };
                    self.history.durable.push(sample);
                }
                Answer::Acknowledged { dot: text(dot) }
            }
            Some(Err(WriteError::QuorumNotMet(not_met))) => {
                coverage.reach("writes not promised");
                let (got, needed, reason) = (not_met.got, not_met.needed, not_met.reason.slug().to_owned());
                Answer::NotPromised { dot: text(&not_met.dot), got, needed, reason }
            }
            Some(Err(WriteError::Store(StoreError::InDoubt))) => {
                coverage.reach("writes in doubt");
                Answer::Cut
            }
            Some(Err(error)) => {
                coverage.reach("writes refused");
                let is_full = matches!(error, WriteError::Store(StoreError::DiskFull))
                    || matches!(error, WriteError::NotServing(Readiness::Store(Health::DiskFull)));
                coverage.add("writes refused by a full disk", u64::from(is_full));
                let is_outside = matches!(error, WriteError::OutOfScope);
                coverage.add("writes out of scope refused", u64::from(is_outside));
                let has_few = matches!(error, WriteError::InsufficientPeers { .. });
                coverage.add("writes refused for want of replicas", u64::from(has_few));
                let (status, slug) = refusal(&error);
                Answer::Refused { status, slug: slug.to_owned() }
            }
        };
        let end_us = self.us(answered.at);
        self.record(Call { end_us, answer, ..call });
    }

    /// A client of this node reads, and may keep a token of what it saw.
    async fn read(&mut self, node: usize, name: &str, keep: Option<u32>) {
        let number = self.next_call;
        self.next_call += 1;
        let key = key(name);
        let facts = self.mesh.store(node).map(|store| Arc::clone(&store.reads().snapshot().facts));
        if facts.is_some_and(|facts| facts.rebootstrap.is_some()) {
            self.rolled_back.remove(&node);
        }
        let call = self.call(number, node, name, Request::Read);
        let Some(asked) = self.mesh.node(node).cloned() else {
            self.record(Call { answer: Answer::Unreached, ..call });
            return;
        };
        let is_kept = self.mesh.scopes.keeps(node, &key.namespace);
        let answer = match asked.read(key.clone()).await {
            // What it has of earlier is none of its reader's business.
            Ok(read) if !is_kept && read.record.is_empty() => {
                Answer::Refused { status: 404, slug: "not_found".to_owned() }
            }
            Ok(read) => {
                self.mesh.coverage.reach("reads");
                if let Some(slot) = keep {
                    let seen = self.mesh.books.seen_with(read.record.versions().iter().map(|v| &v.dot));
                    let mut clock = VectorClock::new();
                    for version in read.record.versions() {
                        clock.cover(&version.dot, &version.context);
                    }
                    self.tokens.insert(slot, Token { key, clock, seen });
                }
                let live = read.record.versions().iter().map(|version| text(&version.dot)).collect();
                Answer::Read { seen: judge::shown(&self.mesh.books, &read.record), live }
            }
            Err(ReadError::NotServing(readiness)) => {
                Answer::Refused { status: 503, slug: readiness.slug().to_owned() }
            }
            Err(ReadError::Store(error)) => {
                let seen = Seen::Unknown { what: error.to_string() };
                Answer::Read { seen, live: BTreeSet::new() }
            }
        };
        let end_us = self.now_us();
        self.record(Call { end_us, answer, ..call });
    }

    /// A call that begins now.
    fn call(&self, number: u64, node: usize, key: &str, request: Request) -> Call {
        let node_number = u64::try_from(node).unwrap_or(u64::MAX);
        Call {
            client: u32::try_from(number).unwrap_or(u32::MAX),
            node,
            key: key.to_owned(),
            sharing: Sharing::Contended,
            // Whoever stays with one node goes on for as long as it has its disk.
            session: Some(self.mesh.losses(node) * SESSIONS_PER_LIFE + node_number),
            level: None,
            went_back: self.rolled_back.contains(&node),
            idempotency_key: None,
            request,
            begin_us: self.now_us(),
            end_us: self.now_us(),
            answer: Answer::Cut,
        }
    }

    fn record(&mut self, call: Call) {
        self.mesh.trace.say(|| {
            let (number, node, key) = (call.client, call.node, &call.key);
            format!("c{number} at n{node}: {} {key}: {}", call.request, call.answer)
        });
        self.history.calls.push(call);
    }

    fn now_us(&self) -> u64 {
        self.us(Instant::now())
    }

    fn us(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.started).as_micros()).unwrap_or(u64::MAX)
    }
}

/// More than there are nodes.
const SESSIONS_PER_LIFE: u64 = 1_000;

/// No two calls write the same, whatever else a schedule has.
fn content(call: u64, seed: u64) -> String {
    format!("{call:x}-{:016x}", (seed ^ call).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn refusal(error: &WriteError) -> (u16, &'static str) {
    match error {
        WriteError::Refused(_) => (409, "refused"),
        WriteError::NotServing(readiness) => (503, readiness.slug()),
        WriteError::Store(_) => (503, "store"),
        WriteError::Busy { .. } => (429, "busy"),
        WriteError::OutOfScope => (422, "namespace_out_of_scope"),
        WriteError::InsufficientPeers { .. } => (503, "insufficient_peers"),
        WriteError::QuorumNotMet(_) => (503, "quorum_not_met"),
    }
}
