//! What a campaign did, how much of it was reached, and what it found.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::chaos::proxy::LinkCounts;
use crate::chaos::schedule::{CyclePlan, FaultClass};
use crate::checker::{Guarantee, Settling, Violation};
use crate::history::{Answer, Call};

/// A campaign: `report.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The command that plays it again.
    pub command: String,
    /// The seed of its schedule.
    pub seed: u64,
    /// The commit it was built from.
    pub commit: String,
    /// Whether it was `quick` or `full`.
    pub mode: String,
    /// How many nodes.
    pub nodes: usize,
    /// By what means each class was brought about.
    pub mechanisms: BTreeMap<FaultClass, String>,
    /// Milliseconds it took.
    pub took_ms: u64,
    /// Each cycle that was played.
    pub cycles: Vec<CycleReport>,
    /// Each class.
    pub classes: BTreeMap<FaultClass, ClassSummary>,
    /// What was violated at the very end, when everything was read once more.
    pub violations: Vec<Violation>,
    /// What else failed: a class that was not reached, a node that did not start.
    pub failures: Vec<String>,
    /// Whether it was interrupted: it then says nothing about what it did not come to.
    pub interrupted: bool,
}

/// One fault and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CycleReport {
    /// What was planned.
    pub plan: CyclePlan,
    /// What happened.
    pub fault: FaultReport,
    /// The calls.
    pub calls: CallCounts,
    /// How the nodes became equal.
    pub settling: Settling,
    /// Records that were read at each node and checked.
    pub records_checked: usize,
    /// What was violated.
    pub violations: Vec<Violation>,
}

/// A fault as it happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultReport {
    /// Microseconds from the begin of the history to the fault.
    pub injected_us: u64,
    /// Microseconds from the begin of the history to the begin of its healing.
    pub healing_us: u64,
    /// Milliseconds that the healing took: a killed node's start.
    pub healing_took_ms: u64,
    /// Calls that were open at the killed node when it was killed.
    pub open_when_killed: usize,
    /// What the links did during the fault.
    pub links: LinkCounts,
}

/// Calls by what was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallCounts {
    /// Writes that were begun.
    pub attempted: u64,
    /// Writes that were promised.
    pub acknowledged: u64,
    /// Of these, deletes.
    pub deletes_acknowledged: u64,
    /// Writes that were promised while the fault lasted.
    pub acknowledged_during_fault: u64,
    /// 503 `quorum_not_met`, by reason.
    pub not_promised: BTreeMap<String, u64>,
    /// Documented refusals, by slug.
    pub refused: BTreeMap<String, u64>,
    /// Writes that found no connection.
    pub unreached: u64,
    /// Writes whose connection broke.
    pub cut: u64,
    /// Writes that got no answer in time.
    pub timed_out: u64,
    /// Reads.
    pub reads: u64,
}

/// One class over all its cycles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassSummary {
    /// Cycles played.
    pub cycles: u64,
    /// The calls.
    pub calls: CallCounts,
    /// Calls that were open at nodes when these were killed.
    pub open_when_killed: u64,
    /// What the links did during the faults.
    pub links: LinkCounts,
    /// Milliseconds to equal hashes, per cycle, sorted.
    pub convergence_ms: Vec<u64>,
    /// Violations.
    pub violations: u64,
}

impl CallCounts {
    /// Counts calls; the fault lasted while `during` holds.
    pub fn of(calls: &[Call], during: impl Fn(&Call) -> bool) -> Self {
        let mut counts = Self::default();
        for call in calls {
            if !call.is_write() {
                counts.reads += 1;
                continue;
            }
            counts.attempted += 1;
            match &call.answer {
                Answer::Acknowledged { .. } => {
                    counts.acknowledged += 1;
                    counts.deletes_acknowledged += u64::from(call.content().is_none());
                    counts.acknowledged_during_fault += u64::from(during(call));
                }
                Answer::NotPromised { reason, .. } => {
                    *counts.not_promised.entry(reason.clone()).or_default() += 1;
                }
                Answer::Refused { slug, .. } => *counts.refused.entry(slug.clone()).or_default() += 1,
                Answer::Unreached => counts.unreached += 1,
                Answer::Cut => counts.cut += 1,
                Answer::TimedOut => counts.timed_out += 1,
                Answer::Read { .. } | Answer::Undocumented { .. } => {}
            }
        }
        counts
    }

    fn add(&mut self, other: &Self) {
        self.attempted += other.attempted;
        self.acknowledged += other.acknowledged;
        self.deletes_acknowledged += other.deletes_acknowledged;
        self.acknowledged_during_fault += other.acknowledged_during_fault;
        self.unreached += other.unreached;
        self.cut += other.cut;
        self.timed_out += other.timed_out;
        self.reads += other.reads;
        for (reason, count) in &other.not_promised {
            *self.not_promised.entry(reason.clone()).or_default() += count;
        }
        for (slug, count) in &other.refused {
            *self.refused.entry(slug.clone()).or_default() += count;
        }
    }
}

impl ClassSummary {
    fn add(&mut self, cycle: &CycleReport) {
        self.cycles += 1;
        self.calls.add(&cycle.calls);
        self.open_when_killed += cycle.fault.open_when_killed as u64;
        let links = cycle.fault.links;
        self.links.connections += links.connections;
        self.links.held += links.held;
        self.links.resets += links.resets;
        self.convergence_ms.extend(cycle.settling.equal_after_ms);
        self.convergence_ms.sort_unstable();
        self.violations += cycle.violations.len() as u64;
    }

    /// What this class was meant to reach and did not.
    pub fn unreached(&self, class: FaultClass) -> Vec<&'static str> {
        let calls = &self.calls;
        let not_promised = calls.not_promised.values().sum::<u64>();
        let mut wanted = vec![
            (calls.acknowledged, "no write was acknowledged"),
            (calls.acknowledged_during_fault, "no write was acknowledged during the fault"),
            (calls.deletes_acknowledged, "no delete was acknowledged"),
        ];
        wanted.extend(match class {
            FaultClass::KillReplica => vec![(calls.unreached, "no call met a killed node")],
            FaultClass::KillPrimaryMidWrite => vec![
                (self.open_when_killed, "no write was under way when its node was killed"),
                (calls.cut, "no write was cut off"),
            ],
            FaultClass::Partition => vec![
                (not_promised, "no write missed its quorum"),
                (self.links.held + self.links.resets, "no link held or reset anything"),
            ],
        });
        wanted.into_iter().filter(|(count, _)| *count == 0).map(|(_, what)| what).collect()
    }

    /// Median, 99th percentile and maximum of the convergence, in milliseconds.
    pub fn convergence(&self) -> Option<(u64, u64, u64)> {
        let at = |percent: usize| {
            let rank = (self.convergence_ms.len() * percent).div_ceil(100);
            self.convergence_ms.get(rank.saturating_sub(1)).copied()
        };
        Some((at(50)?, at(99)?, at(100)?))
    }
}

impl Report {
    /// Adds a cycle.
    pub fn add(&mut self, cycle: CycleReport) {
        self.classes.entry(cycle.plan.fault.class()).or_default().add(&cycle);
        self.cycles.push(cycle);
    }

    /// All violations, those of the cycles first.
    pub fn all_violations(&self) -> impl Iterator<Item = &Violation> {
        self.cycles.iter().flat_map(|cycle| &cycle.violations).chain(&self.violations)
    }

    /// Whether nothing was violated, nothing failed, and every class reached what it is meant to.
    pub fn is_passed(&self) -> bool {
        !self.interrupted && self.failures.is_empty() && self.all_violations().next().is_none()
    }

    /// Adds what each class did not reach to the failures.
    pub fn hold_against_coverage(&mut self) {
        if self.all_violations().next().is_some() {
            // It ended early: that is enough to say.
            return;
        }
        let unreached: Vec<String> = self
            .classes
            .iter()
            .flat_map(|(class, summary)| {
                summary.unreached(*class).into_iter().map(move |what| format!("{}: {what}", class.slug()))
            })
            .collect();
        self.failures.extend(unreached);
    }

    /// Writes `report.json` and `summary.txt`.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        for (name, text) in [("report.json", json), ("summary.txt", self.summary())] {
            fs::write(dir.join(name), text).with_context(|| format!("{name} cannot be written"))?;
        }
        Ok(())
    }

    /// The summary for people.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let _ = self.write_summary(&mut text);
        text
    }

    fn write_summary(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "{}", self.command)?;
        writeln!(out, "commit {}, {} nodes, {} ms", self.commit, self.nodes, self.took_ms)?;
        for (class, summary) in &self.classes {
            let calls = &summary.calls;
            writeln!(out, "\n{}: {} cycles", class.slug(), summary.cycles)?;
            let mechanism = self.mechanisms.get(class).map_or("", String::as_str);
            writeln!(out, "  by            {mechanism}")?;
            writeln!(
                out,
                "  writes        {} attempted, {} acknowledged ({} during the fault, {} deletes)",
                calls.attempted,
                calls.acknowledged,
                calls.acknowledged_during_fault,
                calls.deletes_acknowledged
            )?;
            writeln!(out, "  not promised  {}", listed(&calls.not_promised))?;
            writeln!(out, "  refused       {}", listed(&calls.refused))?;
            writeln!(
                out,
                "  no answer     {} no connection, {} cut off, {} too late",
                calls.unreached, calls.cut, calls.timed_out
            )?;
            match class {
                FaultClass::Partition => {
                    writeln!(
                        out,
                        "  links         {} held, {} reset",
                        summary.links.held, summary.links.resets
                    )?;
                }
                FaultClass::KillReplica | FaultClass::KillPrimaryMidWrite => {
                    writeln!(out, "  when killed   {} calls open", summary.open_when_killed)?;
                }
            }
            if let Some((median, p99, max)) = summary.convergence() {
                writeln!(out, "  equal after   median {median} ms, p99 {p99} ms, max {max} ms")?;
            }
            writeln!(out, "  violations    {}", summary.violations)?;
        }
        writeln!(out)?;
        let mut told = None;
        for violation in self.all_violations().take(VIOLATIONS_SHOWN) {
            write_violation(violation, out)?;
            // The same record at another node has the same calls.
            if told != violation.key.as_deref() {
                write_calls(&violation.calls, out)?;
                told = violation.key.as_deref();
            }
        }
        let hidden = self.all_violations().count().saturating_sub(VIOLATIONS_SHOWN);
        if hidden > 0 {
            writeln!(out, "... and {hidden} more violations, in report.json")?;
        }
        for failure in &self.failures {
            writeln!(out, "FAILED {failure}")?;
        }
        if self.interrupted {
            writeln!(out, "interrupted")?;
        }
        let checked = self.cycles.iter().map(|cycle| cycle.records_checked).sum::<usize>();
        let verdict = if self.is_passed() { "passed" } else { "FAILED" };
        writeln!(
            out,
            "{verdict}: {} in {} cycles, {checked} records checked on each node",
            counted(self.all_violations()),
            self.cycles.len()
        )
    }
}

/// The guarantees that a campaign puts to the test: the others need a look into the stores, quorum reads, sessions or
/// intruders.
const CHECKED: [Guarantee; 5] = [Guarantee::G1, Guarantee::G3, Guarantee::G4, Guarantee::G7, Guarantee::G9];
/// Violations that the summary shows.
const VIOLATIONS_SHOWN: usize = 10;

fn write_violation(violation: &Violation, out: &mut String) -> std::fmt::Result {
    let Violation { guarantee, node, key, seen, .. } = violation;
    write!(out, "{guarantee} is violated")?;
    if let Some(node) = node {
        write!(out, " at node-{}", node + 1)?;
    }
    if let Some(key) = key {
        write!(out, ", record {key}")?;
    }
    writeln!(out, ": {seen}")
}

fn write_calls(calls: &[Call], out: &mut String) -> std::fmt::Result {
    for call in calls {
        let Call { client, node, request, begin_us, end_us, answer, .. } = call;
        writeln!(
            out,
            "    {begin_us:>10} to {end_us:>10} us  client {client} at node-{}: {request}: {answer}",
            node + 1
        )?;
    }
    Ok(())
}

/// How often each guarantee was violated.
fn counted<'a>(violations: impl Iterator<Item = &'a Violation>) -> String {
    let mut counts: BTreeMap<Guarantee, u64> = BTreeMap::new();
    for violation in violations {
        *counts.entry(violation.guarantee).or_default() += 1;
    }
    if counts.is_empty() {
        return format!("no violation of {}", CHECKED.map(|guarantee| guarantee.to_string()).join(", "));
    }
    let counts: Vec<_> = counts.iter().map(|(guarantee, count)| format!("{count} of {guarantee}")).collect();
    format!("violations: {}", counts.join(", "))
}

fn listed(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_reaches_nothing_says_what() {
        let mut summary = ClassSummary::default();
        for class in FaultClass::ALL {
            assert!(summary.unreached(class).len() >= 4, "{class:?}");
        }
        summary.calls.acknowledged = 1;
        summary.calls.acknowledged_during_fault = 1;
        summary.calls.deletes_acknowledged = 1;
        assert_eq!(summary.unreached(FaultClass::KillReplica), ["no call met a killed node"]);
        summary.calls.unreached = 1;
        assert_eq!(summary.unreached(FaultClass::KillReplica), [""; 0]);
        assert_eq!(summary.unreached(FaultClass::Partition).len(), 2);
    }

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let convergence_ms: Vec<u64> = (1..=200).collect();
        let summary = ClassSummary { convergence_ms, ..ClassSummary::default() };
        assert_eq!(summary.convergence(), Some((100, 198, 200)));
        assert_eq!(ClassSummary::default().convergence(), None);
    }
}
