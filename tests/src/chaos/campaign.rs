//! Plays a schedule on a rig, and checks after every cycle and once more at the end.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chaos::caller::Caller;
use crate::chaos::observe::{final_states, settle};
use crate::chaos::proxy::LinkCounts;
use crate::chaos::report::{CallCounts, CycleReport, FaultReport, Report};
use crate::chaos::rig::Rig;
use crate::chaos::schedule::{CyclePlan, Fault, Heal, Schedule};
use crate::chaos::writer::{Share, Writer};
use crate::checker::{self, Settling};
use crate::history::{Call, FinalStates, History, Incident};

/// A campaign under way.
#[derive(Debug)]
pub struct Campaign {
    caller: Caller,
    writers: Vec<Writer>,
}

/// How long a node is waited for to have an open call before it is killed all the same.
const OPEN_CALL_WITHIN: Duration = Duration::from_secs(1);
/// Open calls at a node that make it worth killing.
const OPEN_CALLS: usize = 2;
/// Time between two looks at the open calls.
const OPEN_CALLS_POLL: Duration = Duration::from_micros(200);

impl Campaign {
    /// A campaign on these nodes. Its history begins now.
    pub fn new(urls: Vec<String>, schedule: &Schedule) -> Self {
        let caller = Caller::new(urls);
        let nodes = caller.nodes().max(1);
        let writer = |number: u32| Writer::new(number, number as usize % nodes, caller.clone());
        let writers = (0..schedule.writers).map(writer).collect();
        Self { caller, writers }
    }

    /// All calls so far.
    pub fn history(&self) -> Vec<Call> {
        self.caller.history(0)
    }

    /// Plays all cycles, adding each to the report; ends at the first violation. `seen` is told of each.
    ///
    /// # Errors
    /// If a node cannot be started or killed.
    pub async fn play(
        &mut self,
        rig: &mut Rig,
        schedule: &Schedule,
        report: &mut Report,
        seen: impl Fn(&CycleReport),
    ) -> Result<()> {
        for plan in &schedule.cycles {
            let cycle = self.cycle(rig, plan).await.with_context(|| format!("cycle {}", plan.number))?;
            seen(&cycle);
            report.add(cycle);
            if report.all_violations().next().is_some() {
                return Ok(());
            }
        }
        let settling = settle(&self.caller, 0).await;
        let finals = final_states(&self.caller, &self.history()).await;
        report.violations = checker::check(&self.recorded(settling, finals, Vec::new()));
        Ok(())
    }

    async fn cycle(&mut self, rig: &mut Rig, plan: &CyclePlan) -> Result<CycleReport> {
        let first_call = self.caller.recorded();
        let mut load = self.start_load(plan);
        tokio::time::sleep(Duration::from_millis(plan.before_ms)).await;
        let fault = self.fault(rig, plan, &mut load).await?;
        self.end_load(&mut load).await?;

        let calls = self.caller.history(first_call);
        let is_during = |call: &Call| call.begin_us >= fault.injected_us && call.end_us <= fault.healing_us;
        let counts = CallCounts::of(&calls, is_during);
        let settling = settle(&self.caller, counts.attempted).await;
        let finals = final_states(&self.caller, &calls).await;
        let records_checked = finals.records.len();
        let died = rig.ended_by_itself().await.map(|what| Incident { node: None, what });
        // Records of earlier cycles are written to in this one, too: their whole history counts.
        let history = self.recorded(settling.clone(), finals, died.into_iter().collect());
        let violations = checker::check(&history);
        Ok(CycleReport { plan: plan.clone(), fault, calls: counts, settling, records_checked, violations })
    }

    /// All calls so far, with what was seen of the nodes after them.
    fn recorded(&self, settling: Settling, finals: FinalStates, incidents: Vec<Incident>) -> History {
        let (nodes, calls, settlings) = (self.caller.nodes(), self.history(), vec![settling]);
        History { nodes, calls, settlings, incidents, finals, ..History::default() }
    }

    fn start_load(&mut self, plan: &CyclePlan) -> JoinSet<Writer> {
        let after_ms = match plan.heal {
            Heal::AfterLoad => 0,
            Heal::UnderLoad { after_ms } => after_ms,
        };
        let share = Share {
            cycle: plan.number,
            seed: plan.seed,
            begin: Instant::now(),
            span: Duration::from_millis(plan.before_ms + plan.hold_ms + after_ms),
            calls: plan.writes.div_ceil(u32::try_from(self.writers.len()).unwrap_or(u32::MAX).max(1)),
        };
        let mut load = JoinSet::new();
        for writer in self.writers.drain(..) {
            load.spawn(writer.run(share));
        }
        load
    }

    /// Waits for the writers' last answers.
    async fn end_load(&mut self, load: &mut JoinSet<Writer>) -> Result<()> {
        while let Some(writer) = load.join_next().await {
            self.writers.push(writer.context("a writer failed")?);
        }
        self.writers.sort_by_key(Writer::number);
        Ok(())
    }

    /// Brings the fault about, holds it, heals it.
    async fn fault(
        &mut self,
        rig: &mut Rig,
        plan: &CyclePlan,
        load: &mut JoinSet<Writer>,
    ) -> Result<FaultReport> {
        let mut report = FaultReport::default();
        let before = rig.link_counts();
        match &plan.fault {
            Fault::KillReplica { node } => {
                report.open_when_killed = self.caller.in_flight(*node);
                rig.kill(*node).await?;
            }
            Fault::KillPrimaryMidWrite { node, burst_writers, kill_after_ms } => {
                let kill_after = Duration::from_millis(*kill_after_ms);
                report.open_when_killed =
                    self.kill_mid_write(rig, plan, *node, *burst_writers, kill_after).await?;
            }
            Fault::Partition { cuts, .. } => rig.cut(cuts),
        }
        report.injected_us = self.caller.now_us();
        tokio::time::sleep(Duration::from_millis(plan.hold_ms)).await;
        if plan.heal == Heal::AfterLoad {
            self.end_load(load).await?;
        }
        let after = rig.link_counts();
        report.links = LinkCounts {
            connections: after.connections - before.connections,
            held: after.held - before.held,
            resets: after.resets - before.resets,
        };
        report.healing_us = self.caller.now_us();
        match &plan.fault {
            Fault::KillReplica { node } | Fault::KillPrimaryMidWrite { node, .. } => {
                rig.restart(*node).await?;
            }
            Fault::Partition { .. } => rig.heal_links(),
        }
        report.healing_took_ms = (self.caller.now_us() - report.healing_us) / 1_000;
        Ok(report)
    }

    /// Lets many write to a node without a pause, and kills it while their calls are open. Returns how many were.
    async fn kill_mid_write(
        &self,
        rig: &mut Rig,
        plan: &CyclePlan,
        node: usize,
        burst_writers: u32,
        kill_after: Duration,
    ) -> Result<usize> {
        let mut burst = JoinSet::new();
        let stop = CancellationToken::new();
        // Their numbers are their own for the whole campaign: records are named by them.
        let first = FIRST_BURST_WRITER + u32::try_from(plan.number).unwrap_or(0) * BURST_WRITERS_MAX;
        for number in 0..burst_writers.min(BURST_WRITERS_MAX) {
            let writer = Writer::new(first + number, node, self.caller.clone());
            burst.spawn(writer.burst(plan.number, plan.seed, stop.clone()));
        }
        tokio::time::sleep(kill_after).await;
        let deadline = Instant::now() + OPEN_CALL_WITHIN;
        while self.caller.in_flight(node) < OPEN_CALLS && Instant::now() < deadline {
            tokio::time::sleep(OPEN_CALLS_POLL).await;
        }
        let open = self.caller.in_flight(node);
        rig.kill(node).await?;
        stop.cancel();
        while let Some(writer) = burst.join_next().await {
            writer.context("a writer of a burst failed")?;
        }
        Ok(open)
    }
}

/// The number of the first writer of a burst.
const FIRST_BURST_WRITER: u32 = 1_000;
/// Writers of a burst at most.
const BURST_WRITERS_MAX: u32 = 100;

/// Checks that a schedule fits its own nodes.
///
/// # Errors
/// If it names a node that is not there.
pub fn validate(schedule: &Schedule) -> Result<()> {
    for plan in &schedule.cycles {
        let named: Vec<usize> = match &plan.fault {
            Fault::KillReplica { node } | Fault::KillPrimaryMidWrite { node, .. } => vec![*node],
            Fault::Partition { cuts, .. } => cuts.iter().flat_map(|cut| [cut.from, cut.to]).collect(),
        };
        if let Some(node) = named.into_iter().find(|node| *node >= schedule.nodes) {
            bail!("cycle {} names node {node}, there are {}", plan.number, schedule.nodes);
        }
    }
    Ok(())
}
