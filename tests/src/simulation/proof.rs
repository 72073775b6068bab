//! Shows that the simulator can fail: each planted defect must turn it red, and be green without.

use federation_core::planted::Defect;

use super::campaign::{AfterFailure, Plan, run_caught};
use super::kept::Kept;
use super::world::Options;

/// What came of one defect.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The defect.
    pub defect: Defect,
    /// The kept schedules that name it.
    pub directed: Vec<Directed>,
    /// How many seeds it took to turn a run red, and what was then broken; none if none did.
    pub seeds: Option<(u64, Vec<String>)>,
    /// How many were tried at most.
    pub seeds_tried: u64,
    /// Whether the same seeds are green without it.
    pub is_green_without: bool,
}

/// What came of one kept schedule.
#[derive(Clone, Debug)]
pub struct Directed {
    /// Its name.
    pub name: String,
    /// What was broken with the defect.
    pub red: Vec<String>,
    /// What was broken without it: nothing should be.
    pub green: Vec<String>,
    /// What should be broken.
    pub breaks: Option<String>,
}

impl Directed {
    /// Whether it is red for the right reason, and green without.
    pub fn holds(&self) -> bool {
        let is_right = match &self.breaks {
            Some(breaks) => self.red.contains(breaks),
            None => !self.red.is_empty(),
        };
        is_right && self.green.is_empty()
    }
}

impl Proof {
    /// Whether the defect was found: by a kept schedule that names it, or else by a seed; and nothing without it.
    pub fn holds(&self) -> bool {
        let is_found = self.seeds.is_some() || !self.directed.is_empty();
        is_found && self.is_green_without && self.directed.iter().all(Directed::holds)
    }
}

/// Plants `defect` and runs the kept schedules that name it, and seeds from 0, at most `seeds_max`, until one is red;
/// then the same without it.
pub fn prove(defect: Defect, kept: &[(String, Kept)], seeds_max: u64) -> Proof {
    let options = Options::default();
    let named: Vec<_> =
        kept.iter().filter(|(_, kept)| kept.defect.as_deref() == Some(defect.name())).collect();
    let broken = |kept: &Kept| claims_broken(&run_caught(&kept.schedule, &options));
    plant(Some(defect));
    let red: Vec<_> = named.iter().map(|(_, kept)| broken(kept)).collect();
    let plan = Plan { after_failure: AfterFailure::Stop, ..Plan::new(0, seeds_max) };
    let with = plan.run(|_, _| {});
    plant(None);
    let green = named.iter().map(|(_, kept)| broken(kept));
    let directed = named
        .iter()
        .zip(red)
        .zip(green)
        .map(|(((name, kept), red), green)| Directed {
            name: name.clone(),
            red,
            green,
            breaks: kept.breaks.clone(),
        })
        .collect();
    let seeds = with.failed.iter().next().map(|(seed, findings)| {
        let mut claims: Vec<_> = findings.iter().map(|finding| finding.claim.clone()).collect();
        claims.dedup();
        (seed + 1, claims)
    });
    let same = seeds.as_ref().map_or(0, |(needed, _)| *needed);
    let without = Plan { seeds: same, ..plan }.run(|_, _| {});
    Proof { defect, directed, seeds, seeds_tried: with.ran, is_green_without: without.failed.is_empty() }
}

fn claims_broken(outcome: &Result<super::world::Outcome, super::Finding>) -> Vec<String> {
    let mut claims: Vec<String> = match outcome {
        Ok(outcome) => outcome.findings.iter().map(|finding| finding.claim.clone()).collect(),
        Err(finding) => vec![finding.claim.clone()],
    };
    claims.sort();
    claims.dedup();
    claims
}

#[cfg(feature = "planted-bugs")]
fn plant(defect: Option<Defect>) {
    federation_core::planted::plant(defect);
}

/// Whether defects can be planted in this build.
pub const CAN_PLANT: bool = cfg!(feature = "planted-bugs");

#[cfg(not(feature = "planted-bugs"))]
fn plant(_: Option<Defect>) {}
