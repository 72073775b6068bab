//! What runs have reached.

use std::collections::BTreeMap;
use std::time::Duration;

/// How often a run, or many, reached what they are meant to reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<&'static str, u64>,
    /// How long the nodes took to be equal after all faults had ended, each time.
    pub converged_in: Vec<Duration>,
}

/// What a campaign that ran long enough must have reached, each at least once: else it has shown nothing of it.
pub const TO_REACH: [&str; 37] = [
    "writes acknowledged",
    "writes not promised",
    "writes refused",
    "writes without an answer",
    "writes in doubt",
    "reads",
    "causal tokens used",
    "records with siblings at a check",
    "deletes acknowledged",
    "acknowledged writes looked up on all disks",
    "power cuts in the middle of a commit",
    "logs with a torn tail",
    "indexes rebuilt",
    "writes refused by a full disk",
    "nodes looked at as they serve again",
    "ends in order",
    "fresh epochs",
    "epochs continued",
    "re-bootstraps ended",
    "ops that came by relay",
    "ops superseded on arrival",
    "ops ahead of the clock refused",
    "sessions complete",
    "sessions broken",
    "completions withheld",
    "intrusions refused",
    "answers_forged",
    "ops out of scope refused",
    "completions limited by scope",
    "writes with fewer replicas than nodes",
    "writes out of scope refused",
    "keys rotated",
    "keys retired",
    "keys revoked",
    "intrusions by an old key refused",
    "intrusions by an own old key refused",
    "segments compacted",
];

/// What the design wants reached and no feature exists for yet.
pub const NOT_TO_REACH_YET: [&str; 3] = [
    "tombstones collected (issue 5)",
    "dead letters (a rule that only one node has; retry and discard are issue 5)",
    "reads at a quorum, retries with an idempotency key (issue 5)",
];

impl Coverage {
    /// One more.
    pub fn reach(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    /// So many more.
    pub fn add(&mut self, what: &'static str, count: u64) {
        if count > 0 {
            *self.counts.entry(what).or_default() += count;
        }
    }

    /// How often it was reached.
    pub fn count(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// Everything that was reached, by name.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(what, count)| (*what, *count))
    }

    /// What of [`TO_REACH`] was never reached.
    pub fn missed(&self) -> Vec<&'static str> {
        TO_REACH.into_iter().filter(|what| self.count(what) == 0).collect()
    }

    /// Takes in what another run has reached.
    pub fn merge(&mut self, other: &Self) {
        for (what, count) in other.counts() {
            self.add(what, count);
        }
        self.converged_in.extend(&other.converged_in);
    }

    /// Median, 99th percentile and maximum of the times to convergence.
    pub fn convergence(&self) -> Option<[Duration; 3]> {
        let mut sorted = self.converged_in.clone();
        sorted.sort_unstable();
        let at = |percent: usize| sorted.get((sorted.len().saturating_sub(1)) * percent / 100).copied();
        Some([at(50)?, at(99)?, at(100)?])
    }
}
