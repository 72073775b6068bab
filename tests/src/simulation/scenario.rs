//! One run of a simulated mesh: clients write while faults happen, everything heals, and then nothing may be missing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use federation_core::decide::{Condition, Mutation};
use federation_core::dot::Dot;
use federation_core::id::{AgentId, Kind, Namespace, RecordId, RecordKey};
use federation_core::op::Body;
use federation_core::port::store::{RecordRead, StateHash};
use federation_net::error::WriteError;
use federation_net::status::Readiness;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::mesh::Mesh;

/// Records that the clients of a run write to: few, so that writes meet.
const RECORDS: u64 = 24;
/// How long all may take to be equal after the last fault has healed.
const HEAL_BOUND: Duration = Duration::from_secs(8);

/// What a run is to be.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Decides everything.
    pub seed: u64,
    /// Nodes of the mesh.
    pub nodes: usize,
    /// Client writes, with faults among them.
    pub writes: usize,
}

/// How often a run reached what it is meant to reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Writes that were answered OK.
    pub acknowledged: u64,
    /// Writes that were committed and not promised.
    pub not_met: u64,
    /// Writes that were refused with nothing written.
    pub refused: u64,
    /// Writes that were never answered: their node had lost its power.
    pub unanswered: u64,
    /// Power cuts.
    pub crashes: u64,
    /// Partitions.
    pub partitions: u64,
    /// Records with more than one live version at the end.
    pub siblings: u64,
    /// How long the nodes took to be equal after the last fault.
    pub converged_in: Duration,
}

impl Coverage {
    /// Both together; the slower convergence of the two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            acknowledged: self.acknowledged + other.acknowledged,
            not_met: self.not_met + other.not_met,
            refused: self.refused + other.refused,
            unanswered: self.unanswered + other.unanswered,
            crashes: self.crashes + other.crashes,
            partitions: self.partitions + other.partitions,
            siblings: self.siblings + other.siblings,
            converged_in: self.converged_in.max(other.converged_in),
        }
    }
}

/// What a run found wrong.
#[derive(Debug)]
pub struct Violation {
    /// The guarantee.
    pub guarantee: &'static str,
    /// What was seen.
    pub seen: String,
}

/// A write that was answered OK.
struct Acknowledged {
    key: RecordKey,
    dot: Dot,
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

struct Run {
    mesh: Mesh,
    random: StdRng,
    acknowledged: Vec<Acknowledged>,
    coverage: Coverage,
}

impl Run {
    async fn play(scenario: Scenario) -> Result<Coverage, Violation> {
        let mut random = StdRng::seed_from_u64(scenario.seed);
        let interval = random.random_bool(0.5).then_some(Duration::from_secs(5));
        let mesh = Mesh::new(scenario.nodes, scenario.seed ^ 0x5eed, interval).await;
        let mut run = Self { mesh, random, acknowledged: Vec::new(), coverage: Coverage::default() };
        run.writes(scenario.writes).await;
        let result = run.heal_and_check().await;
        run.mesh.shutdown().await;
        result.map(|()| run.coverage)
    }

    async fn fault(&mut self) {
        match self.random.random_range(0..5) {
            0 => {
                let running = self.mesh.running();
                if running.len() > 1 {
                    let victim = self.pick(&running);
                    self.mesh.crash(victim).await;
                    self.coverage.crashes += 1;
                }
            }
            1 => {
                let (a, b) = (self.any_node(), self.any_node());
                self.mesh.network.cut(&self.mesh.id(a), &self.mesh.id(b));
                if self.random.random_bool(0.7) {
                    self.mesh.network.cut(&self.mesh.id(b), &self.mesh.id(a));
                }
                self.coverage.partitions += u64::from(a != b);
            }
            2 => self.mesh.network.drop_answers(self.random.random_range(0..40)),
            3 => self.mesh.network.heal(),
            _ => {
                for i in 0..self.mesh.len() {
                    if self.mesh.node(i).is_none() {
                        self.mesh.start(i);
                    }
                }
            }
        }
    }

    /// Clients of all running nodes write, many at once, while faults come and go.
    async fn writes(&mut self, count: usize) {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..count {
            if self.random.random_bool(0.06) {
                self.fault().await;
            }
            let running = self.mesh.running();
            let coordinator = self.pick(&running);
            let mutation = self.mutation();
            let key = mutation.key.clone();
            if let Some(node) = self.mesh.node(coordinator).cloned() {
                calls.spawn(async move { (key, node.write(mutation, None).await) });
            }
            if self.random.random_bool(0.4) {
                tokio::time::sleep(Duration::from_millis(self.random.random_range(0..80))).await;
            }
        }
        // What hangs at a node that has lost its power is never answered: its caller gives up.
        let patience = Instant::now() + Duration::from_secs(5);
        while let Ok(Some(done)) = tokio::time::timeout_at(patience, calls.join_next()).await {
            let (key, answer) = done.expect("a write does not panic");
            match answer {
                Ok(receipt) => {
                    self.coverage.acknowledged += 1;
                    self.acknowledged.push(Acknowledged { key, dot: receipt.written.op.dot.clone() });
                }
                Err(WriteError::QuorumNotMet(_)) => self.coverage.not_met += 1,
                Err(_) => self.coverage.refused += 1,
            }
        }
        self.coverage.unanswered += calls.len() as u64;
        calls.shutdown().await;
    }

    fn mutation(&mut self) -> Mutation {
        let body = if self.random.random_bool(0.2) {
            Body::Delete
        } else {
            let text = format!("{:016x}", self.random.random::<u64>());
            Body::Put { payload: Arc::from(text.as_bytes()), embedding: None, archived: false }
        };
        Mutation {
            key: key(self.random.random_range(0..RECORDS)),
            author: AgentId::new("client").expect("a valid id"),
            body,
            condition: Condition::None,
            token: None,
        }
    }

    async fn heal_and_check(&mut self) -> Result<(), Violation> {
        self.mesh.network.heal();
        for i in 0..self.mesh.len() {
            if self.mesh.node(i).is_none() {
                self.mesh.start(i);
            }
        }
        // A node whose disk failed under it is up and takes nothing: like an operator, restart it.
        for i in 0..self.mesh.len() {
            if self.mesh.node(i).is_some_and(|node| matches!(node.readiness(), Readiness::Store(_))) {
                self.mesh.crash(i).await;
                self.mesh.start(i);
            }
        }
        self.await_equal().await?;
        self.check_nothing_lost().await
    }

    async fn await_equal(&mut self) -> Result<(), Violation> {
        let healed = Instant::now();
        loop {
            let states = self.states().await;
            let first = states.first().and_then(|state| state.1);
            if first.is_some() && states.iter().all(|state| state.1 == first) {
                self.coverage.converged_in = healed.elapsed();
                return Ok(());
            }
            if healed.elapsed() > HEAL_BOUND {
                return Err(Violation { guarantee: "G3", seen: self.describe(&states) });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
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
        for (i, state) in states {
            let status = self.mesh.node(*i).map(federation_net::node::Node::status);
            let _ = write!(out, "\nn{i}: {state:?}");
            if let Some(status) = status {
                let _ = write!(
                    out,
                    " {} clock {:?}",
                    status.readiness.slug(),
                    status.clock.iter().collect::<Vec<_>>()
                );
                for peer in status.peers {
                    let _ = write!(out, "\n  {peer:?}");
                }
            }
        }
        out
    }

    /// G1 and G4: each acknowledged op is live on every node, or a version that is live there has seen it.
    async fn check_nothing_lost(&mut self) -> Result<(), Violation> {
        let mut siblings = BTreeMap::new();
        for i in 0..self.mesh.len() {
            let Some(node) = self.mesh.node(i) else { continue };
            for write in &self.acknowledged {
                let read: RecordRead = node.read(write.key.clone()).await.map_err(|error| Violation {
                    guarantee: "G1",
                    seen: format!("n{i} cannot read {}: {error}", write.key),
                })?;
                let is_held = read.record.version(&write.dot).is_some() || read.record.covers(&write.dot);
                if !is_held {
                    return Err(Violation {
                        guarantee: "G1",
                        seen: format!("n{i} lacks {} of {}: {:?}", write.dot, write.key, read.record),
                    });
                }
                siblings.insert(write.key.clone(), read.record.versions().len());
            }
        }
        self.coverage.siblings = siblings.values().filter(|versions| **versions > 1).count() as u64;
        Ok(())
    }

    fn any_node(&mut self) -> usize {
        self.random.random_range(0..self.mesh.len())
    }

    fn pick(&mut self, from: &[usize]) -> usize {
        from.get(self.random.random_range(0..from.len())).copied().unwrap_or(0)
    }
}

fn key(number: u64) -> RecordKey {
    RecordKey {
        namespace: Namespace::new("sim").expect("a valid namespace"),
        kind: Kind::new("note").expect("a valid kind"),
        id: RecordId::new(&format!("r{number}")).expect("a valid id"),
    }
}
