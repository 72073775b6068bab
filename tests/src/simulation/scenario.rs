//! One run of a simulated mesh: clients write while faults happen, everything heals, and then nothing may be missing.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use federation_core::decide::{Condition, Mutation};
use federation_core::id::{AgentId, Kind, Namespace, RecordId, RecordKey};
use federation_core::limits::CLOCK_DRIFT_MAX;
use federation_core::op::Body;
use federation_core::port::store::StateHash;
use federation_core::vector_clock::VectorClock;
use federation_net::WriteReceipt;
use federation_net::error::WriteError;
use federation_net::node::Node;
use federation_net::status::Readiness;
use rand::distr::uniform::{SampleRange, SampleUniform};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::check::{check_alarms, check_clocks, check_ledger, check_nothing_lost};
use super::coverage::Coverage;
use super::mesh::Mesh;

/// Records that the clients of a run write to: few, so that writes meet.
const RECORDS: u64 = 24;
/// How long all may take to be equal after the last fault has healed.
const HEAL_BOUND: Duration = Duration::from_secs(8);
/// How much longer a node that lost its disk may take to serve: what a partition swallowed of its pull times out.
const REJOIN_BOUND: Duration = Duration::from_secs(12);
/// What clients have read and not written on yet.
const TOKENS_MAX: usize = 32;

/// What a run is to be.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Decides everything.
    pub seed: u64,
    /// Nodes of the mesh.
    pub nodes: usize,
    /// Client writes, with faults among them.
    pub writes: usize,
    /// Whether disks are lost, clocks are wrong and nodes stand still, beside power cuts and partitions.
    pub hostile: bool,
}

/// What a run found wrong.
#[derive(Debug)]
pub struct Violation {
    /// The guarantee.
    pub guarantee: &'static str,
    /// What was seen.
    pub seen: String,
}

/// Runs a scenario in a runtime of its own, on simulated time.
///
/// # Errors
/// The first [`Violation`].
pub fn run(scenario: Scenario) -> Result<Coverage, Violation> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(Run::play(scenario))
}

pub(super) struct Run {
    pub(super) scenario: Scenario,
    pub(super) mesh: Mesh,
    random: StdRng,
    calls: JoinSet<Result<WriteReceipt, WriteError>>,
    pub(super) pauses: JoinSet<()>,
    tokens: Vec<(RecordKey, VectorClock)>,
    pub(super) lost_disks: BTreeSet<usize>,
    pub(super) furthest_ahead_ms: i64,
    pub(super) coverage: Coverage,
}

impl Run {
    async fn play(scenario: Scenario) -> Result<Coverage, Violation> {
        let mut random = StdRng::seed_from_u64(scenario.seed);
        let interval = random.random_bool(0.5).then_some(Duration::from_secs(5));
        let mesh = Mesh::new(scenario.nodes, scenario.seed ^ 0x5eed, interval);
        let mut run = Self {
            scenario,
            mesh,
            random,
            calls: JoinSet::new(),
            pauses: JoinSet::new(),
            tokens: Vec::new(),
            lost_disks: BTreeSet::new(),
            furthest_ahead_ms: 0,
            coverage: Coverage::default(),
        };
        let result = run.writes(scenario.writes).await;
        let result = match result {
            Ok(()) => run.recover().await,
            failed => failed,
        };
        run.finish();
        run.mesh.shutdown().await;
        result.map(|()| run.coverage)
    }

    /// Clients of all running nodes write, many at once, while faults come and go.
    async fn writes(&mut self, count: usize) -> Result<(), Violation> {
        for _ in 0..count {
            if self.draw(0..100) < 6 {
                self.fault().await;
            }
            if self.scenario.hostile && self.draw(0..150) == 0 {
                self.recover().await?;
                self.coverage.recoveries += 1;
            }
            if self.draw(0..40) == 0 {
                check_clocks(&self.mesh)?;
            }
            let running = self.mesh.running();
            if running.is_empty() {
                self.start_all();
            } else {
                let coordinator = self.pick(&running);
                self.write_at(coordinator).await;
            }
            if self.draw(0..10) < 4 {
                let pause = self.draw(0..80);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            self.answers();
        }
        // What hangs at a node that has lost its power is never answered: its caller gives up.
        let patience = Instant::now() + Duration::from_secs(5);
        while let Ok(Some(done)) = tokio::time::timeout_at(patience, self.calls.join_next()).await {
            self.answered(done.expect("a write does not panic"));
        }
        self.coverage.unanswered += self.calls.len() as u64;
        self.calls.shutdown().await;
        Ok(())
    }

    /// A client of this node writes. Some go away before the answer.
    pub(super) async fn write_at(&mut self, coordinator: usize) {
        let Some(node) = self.mesh.node(coordinator).cloned() else { return };
        let mutation = self.mutation(&node).await;
        let is_patient = !self.scenario.hostile || self.draw(0..20) > 0;
        let patience = Duration::from_millis(if is_patient { 60_000 } else { self.draw(0..6) });
        self.calls.spawn(async move {
            let write = tokio::time::timeout(patience, node.write(mutation, None)).await;
            match write {
                Ok(answer) => answer,
                Err(_) => std::future::pending().await,
            }
        });
    }

    fn answers(&mut self) {
        while let Some(done) = self.calls.try_join_next() {
            self.answered(done.expect("a write does not panic"));
        }
    }

    fn answered(&mut self, answer: Result<WriteReceipt, WriteError>) {
        let trace = match &answer {
            Ok(receipt) => format!("met {} {}", receipt.written.op.dot, receipt.got),
            Err(error) => error.to_string(),
        };
        self.mesh.ledger.trace(&trace);
        match answer {
            Ok(receipt) => {
                self.coverage.acknowledged += 1;
                self.mesh.ledger.promised(&receipt.written.op.dot);
            }
            Err(WriteError::QuorumNotMet(_)) => self.coverage.not_met += 1,
            Err(_) => self.coverage.refused += 1,
        }
    }

    async fn mutation(&mut self, node: &Node) -> Mutation {
        let body = if self.draw(0..5) == 0 {
            Body::Delete
        } else {
            let text = format!("{:016x}", self.random.random::<u64>());
            Body::Put { payload: Arc::from(text.as_bytes()), embedding: None, archived: false }
        };
        let mut mutation = Mutation {
            key: key("r", self.draw(0..RECORDS)),
            author: AgentId::new("client").expect("a valid id"),
            body,
            condition: Condition::None,
            token: None,
        };
        if !self.scenario.hostile {
            return mutation;
        }
        match self.draw(0..10) {
            0 => {
                mutation.key = key("new", self.draw(0..500));
                mutation.condition = Condition::Absent;
            }
            1 => self.read(node, mutation.key.clone()).await,
            2 | 3 if !self.tokens.is_empty() => {
                let at = self.draw(0..self.tokens.len());
                let (key, token) = self.tokens.swap_remove(at);
                (mutation.key, mutation.token) = (key, Some(token));
            }
            _ => {}
        }
        mutation
    }

    /// A client reads a record, to write on it later, perhaps at another node.
    async fn read(&mut self, node: &Node, key: RecordKey) {
        let Ok(read) = node.read(key.clone()).await else { return };
        let mut token = VectorClock::new();
        for version in read.record.versions() {
            token.cover(&version.dot, &version.context);
        }
        if self.tokens.len() < TOKENS_MAX {
            self.tokens.push((key, token));
        }
    }

    /// Every fault ends; then all are to be equal, and nothing may be missing.
    async fn recover(&mut self) -> Result<(), Violation> {
        while self.pauses.join_next().await.is_some() {}
        self.mesh.network.heal();
        for i in 0..self.mesh.len() {
            self.mesh.wall(i).set_offset_ms(0);
            self.mesh.disk(i).set_capacity_bytes(None);
        }
        self.start_all();
        self.restart_poisoned().await;
        self.await_equal().await?;
        check_alarms(&self.mesh, self.coverage.lost_disks).await?;
        check_ledger(&self.mesh)?;
        check_clocks(&self.mesh)?;
        check_nothing_lost(&self.mesh)?;
        self.lost_disks.clear();
        Ok(())
    }

    /// A node whose disk failed under it is up and takes nothing: like an operator, restart it.
    async fn restart_poisoned(&mut self) {
        for i in 0..self.mesh.len() {
            let is_bad = |node: &Node| matches!(node.readiness(), Readiness::Store(_));
            while self.mesh.node(i).is_none_or(is_bad) {
                self.mesh.crash(i).await;
                self.mesh.start(i);
            }
        }
    }

    async fn await_equal(&mut self) -> Result<(), Violation> {
        let healed = Instant::now();
        // What was dated ahead is taken once the time has come.
        let ahead = u64::try_from(self.furthest_ahead_ms).unwrap_or(0).saturating_sub(CLOCK_DRIFT_MAX.0);
        let rejoin = if self.lost_disks.is_empty() { Duration::ZERO } else { REJOIN_BOUND };
        let bound = HEAL_BOUND + rejoin + Duration::from_millis(ahead);
        loop {
            // A disk that was to fail may do so only now.
            self.restart_poisoned().await;
            let states = self.states().await;
            let first = states.first().and_then(|state| state.1);
            if first.is_some() && states.iter().all(|state| state.1 == first) && self.all_serve() {
                self.mesh.ledger.trace(&format!("equal {first:?} in {:?}", healed.elapsed()));
                let converged_in = healed.elapsed().saturating_sub(Duration::from_millis(ahead));
                self.coverage.converged_in = self.coverage.converged_in.max(converged_in);
                return Ok(());
            }
            if healed.elapsed() > bound {
                return Err(Violation { guarantee: "G3", seen: self.describe(&states) });
            }
            let step = if healed.elapsed() < HEAL_BOUND { 50 } else { 500 };
            tokio::time::sleep(Duration::from_millis(step)).await;
        }
    }

    fn all_serve(&self) -> bool {
        (0..self.mesh.len()).all(|i| self.mesh.node(i).is_some_and(|n| n.readiness() == Readiness::Ready))
    }

    async fn states(&self) -> Vec<(usize, Option<StateHash>)> {
        let mut out = Vec::new();
        for i in 0..self.mesh.len() {
            let hash = match self.mesh.node(i) {
                Some(node) => node.state_hash().await.ok(),
                None => None,
            };
            out.push((i, hash));
        }
        out
    }

    fn describe(&self, states: &[(usize, Option<StateHash>)]) -> String {
        let mut out = String::new();
        for check in [check_ledger, check_clocks, check_nothing_lost] {
            if let Err(found) = check(&self.mesh) {
                let _ = write!(out, "\n{}: {}", found.guarantee, found.seen);
            }
        }
        for (i, state) in states {
            let told = self.mesh.node(*i).map(Node::status);
            let _ = write!(out, "\nn{i}: {state:?}");
            if let Some(status) = told {
                let _ = write!(
                    out,
                    " {:?} clock {:?}",
                    status.readiness,
                    status.clock.iter().collect::<Vec<_>>()
                );
                if let (Some(store), Some(node)) = (self.mesh.store(*i), self.mesh.node(*i)) {
                    let facts = &store.reads().snapshot().facts.clone();
                    let counters = node.metrics();
                    let _ = write!(
                        out,
                        "\n  {:?} {:?} {:?}",
                        facts.rebootstrap, counters.sessions, counters.alarms
                    );
                    let _ = write!(out, " {:?}", facts.store);
                }
                for peer in status.peers {
                    let _ = write!(out, "\n  {peer:?}");
                }
            }
        }
        out
    }

    fn finish(&mut self) {
        let records: BTreeSet<_> = self.mesh.ledger.ops().into_values().map(|op| op.key).collect();
        if let Some(store) = self.mesh.store(0) {
            let versions = |key| store.reads().record(key).map_or(0, |read| read.record.versions().len());
            self.coverage.siblings = records.iter().filter(|key| versions(key) > 1).count() as u64;
        }
        self.coverage.reused_unseen = self.mesh.ledger.reused_unseen();
        self.coverage.digest = self.mesh.ledger.digest();
    }

    pub(super) fn draw<T: SampleUniform>(&mut self, from: impl SampleRange<T>) -> T {
        self.random.random_range(from)
    }

    pub(super) fn any_node(&mut self) -> usize {
        self.draw(0..self.mesh.len())
    }

    pub(super) fn pick(&mut self, from: &[usize]) -> usize {
        let at = self.draw(0..from.len());
        from.get(at).copied().unwrap_or(0)
    }
}

fn key(prefix: &str, number: u64) -> RecordKey {
    RecordKey {
        namespace: Namespace::new("sim").expect("a valid namespace"),
        kind: Kind::new("note").expect("a valid kind"),
        id: RecordId::new(&format!("{prefix}{number}")).expect("a valid id"),
    }
}
