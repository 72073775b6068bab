//! The simulation: kept schedules first, then seeds. `cargo xtask sim --help`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use federation_core::planted::{Defect, STILL_TO_COME};
use federation_tests::checker::Guarantee;
use federation_tests::schedule::{FaultClass, MISSING_FAULTS, Schedule, shrink};
use federation_tests::simulation::Finding;
use federation_tests::simulation::campaign::{AfterFailure, Plan, Results, run_caught};
use federation_tests::simulation::coverage::NOT_TO_REACH_YET;
use federation_tests::simulation::kept::{self, Kept};
use federation_tests::simulation::proof::{self, CAN_PLANT, Proof};
use federation_tests::simulation::trace::Tracing;
use federation_tests::simulation::world::Options;
use indicatif::{ProgressBar, ProgressStyle};

/// Runs a mesh of the real crates on simulated disks, network and clocks: the kept schedules, then seeds, until one
/// breaks a guarantee.
#[derive(Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Runs this one seed and nothing else.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Runs this schedule (a file as `--save` makes them) and nothing else.
    #[arg(long, value_name = "FILE", conflicts_with = "seed")]
    schedule: Option<PathBuf>,
    /// Calls of clients in each run.
    #[arg(long, default_value_t = 220)]
    calls: usize,
    /// The faults that a run may have, by name; without it, all.
    #[arg(long, value_delimiter = ',', value_name = "CLASS")]
    faults: Vec<FaultClass>,
    /// The guarantees that are checked; without it, all.
    #[arg(long, value_delimiter = ',', value_name = "G1")]
    claim: Vec<Guarantee>,
    /// Prints what happened, step by step, in the run of `--seed` or `--schedule`.
    #[arg(long)]
    trace: bool,
    /// Leaves out of a failing run what it does not need to fail.
    #[arg(long)]
    shrink: bool,
    /// Writes the failing (or shrunk) schedule here.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Goes on after a seed that breaks a guarantee.
    #[arg(long)]
    keep_going: bool,
    /// Threads to run on; without it, one for each core.
    #[arg(long)]
    threads: Option<usize>,
    /// Runs with a known defect, in a build with `--features planted-bugs`; the run should then fail.
    #[arg(long, value_name = "NAME", value_parser = defect)]
    planted_bug: Option<Defect>,
    /// Shows that the simulation can fail: each known defect must turn it red, and be green without. In a build with
    /// `--features planted-bugs`; at most `--seeds` seeds for each.
    #[arg(long)]
    prove_harness: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is as it should be.
fn run(arguments: &Arguments) -> Result<bool> {
    if (arguments.prove_harness || arguments.planted_bug.is_some()) && !CAN_PLANT {
        bail!("this build has no defects to plant: it needs --features planted-bugs");
    }
    #[cfg(feature = "planted-bugs")]
    federation_core::planted::plant(arguments.planted_bug);
    if arguments.prove_harness {
        return prove_harness(arguments);
    }
    let options = Options { claims: claims(arguments), ..Options::default() };
    if let Some(path) = &arguments.schedule {
        let again = format!("--schedule {}{}", path.display(), again_with(arguments));
        return run_one(&kept::load(path)?.schedule, arguments, &options, &again);
    }
    let plan = plan(arguments, options.clone());
    if let Some(seed) = arguments.seed {
        return run_one(&plan.schedule(seed), arguments, &options, &again(arguments, seed));
    }
    let kept = run_kept(&options)?;
    let campaign = run_seeds(arguments, &plan);
    print_missing();
    Ok(kept && campaign?)
}

fn claims(arguments: &Arguments) -> BTreeSet<Guarantee> {
    if arguments.claim.is_empty() {
        Guarantee::ALL.into_iter().collect()
    } else {
        arguments.claim.iter().copied().collect()
    }
}

fn plan(arguments: &Arguments, options: Options) -> Plan {
    let plan = Plan::new(arguments.from, arguments.seeds);
    Plan {
        calls: arguments.calls,
        classes: if arguments.faults.is_empty() {
            plan.classes
        } else {
            arguments.faults.iter().copied().collect()
        },
        options,
        after_failure: if arguments.keep_going { AfterFailure::GoOn } else { AfterFailure::Stop },
        threads: arguments.threads.unwrap_or(plan.threads),
        ..plan
    }
}

/// One run, with its trace if it is asked for, made smaller if it fails.
fn run_one(schedule: &Schedule, arguments: &Arguments, options: &Options, again: &str) -> Result<bool> {
    let tracing = if arguments.trace { Tracing::Lines } else { Tracing::Digest };
    let outcome = run_caught(schedule, &Options { tracing, ..options.clone() });
    if let Ok(outcome) = &outcome {
        for line in outcome.trace.lines() {
            println!("{line}");
        }
        println!(
            "{} calls, faults {:?}, trace {:016x}",
            outcome.calls,
            outcome.faults,
            outcome.trace.digest()
        );
        for (what, count) in outcome.coverage.counts() {
            println!("  {count:>8}  {what}");
        }
    }
    let findings = outcome.map_or_else(|finding| vec![finding], |outcome| outcome.findings);
    if findings.is_empty() {
        println!("nothing is violated");
        return Ok(true);
    }
    print_findings(&findings);
    keep(schedule, &findings, arguments, options)?;
    eprintln!("again: cargo xtask sim {again}");
    Ok(false)
}

/// Makes a failing schedule smaller if that is asked for, and writes it down if that is.
fn keep(schedule: &Schedule, findings: &[Finding], arguments: &Arguments, options: &Options) -> Result<()> {
    let claim = findings.first().map(|finding| finding.claim.clone());
    let mut schedule = schedule.clone();
    if arguments.shrink {
        let progress = bar(SHRINK_TRIES_MAX as u64, "{bar:40} {pos}/{len} tries, {msg} steps");
        let fails = |candidate: &Schedule| {
            progress.inc(1);
            progress.set_message(candidate.steps.len().to_string());
            match run_caught(candidate, options) {
                Ok(outcome) => outcome.findings.iter().any(|finding| Some(&finding.claim) == claim.as_ref()),
                Err(finding) => Some(finding.claim) == claim,
            }
        };
        let before = schedule.steps.len();
        schedule = shrink(&schedule, SHRINK_TRIES_MAX, fails);
        progress.finish_and_clear();
        println!("shrunk from {before} to {} steps:", schedule.steps.len());
        println!("{}", serde_json::to_string_pretty(&schedule)?);
    }
    if let Some(path) = &arguments.save {
        let defect = arguments.planted_bug.map(|defect| defect.name().to_owned());
        let what = findings.first().map(|finding| finding.seen.clone()).unwrap_or_default();
        let (counterexample, red_at, green_at) = (None, None, None);
        let kept = Kept { what, counterexample, defect, breaks: claim, red_at, green_at, schedule };
        kept::save(path, &kept)?;
        println!("written to {}", path.display());
    }
    Ok(())
}

/// Bugs of the past and counterexamples. Whether none of them is back.
fn run_kept(options: &Options) -> Result<bool> {
    let all = kept::all()?;
    let mut is_well = true;
    for (name, kept) in &all {
        let outcome = run_caught(&kept.schedule, options);
        let findings = outcome.map_or_else(|finding| vec![finding], |outcome| outcome.findings);
        if !findings.is_empty() {
            is_well = false;
            eprintln!("{name}: {}", kept.what);
            print_findings(&findings);
            eprintln!("again: cargo xtask sim --schedule tests/schedules/{name}.json");
        }
    }
    println!("{} kept schedules run{}", all.len(), if is_well { ", nothing is violated" } else { "" });
    Ok(is_well)
}

fn run_seeds(arguments: &Arguments, plan: &Plan) -> Result<bool> {
    let progress = bar(plan.seeds, "{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left");
    let started = Instant::now();
    // At once: a long run may be stopped before its end.
    let results = plan.run(|seed, findings| {
        progress.inc(1);
        if !findings.is_empty() {
            progress.suspend(|| {
                eprintln!("seed {seed}:");
                print_findings(findings);
                eprintln!("again: cargo xtask sim {}", again(arguments, seed));
            });
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    progress.finish_and_clear();
    print_results(plan, &results, seconds);
    if let Some((seed, findings)) = results.failed.iter().next() {
        keep(&plan.schedule(*seed), findings, arguments, &plan.options)?;
    }
    let is_whole = arguments.faults.is_empty() && arguments.claim.is_empty();
    let missed = results.coverage.missed();
    let is_long_enough = results.ran >= SEEDS_TO_REACH_ALL && is_whole;
    if is_long_enough && !missed.is_empty() {
        eprintln!("never reached, so nothing is shown of it: {}", missed.join(", "));
    }
    if is_whole && results.failed.is_empty() && results.counted < results.ran {
        eprintln!("{} seeds were too small to count", results.ran - results.counted);
    }
    Ok(results.failed.is_empty() && (missed.is_empty() || !is_long_enough))
}

fn print_results(plan: &Plan, results: &Results, seconds: f64) {
    let per_minute = f64::from(u32::try_from(results.ran).unwrap_or(u32::MAX)) / seconds * 60.0;
    println!(
        "{} seeds from {}, {} of them with 3 or more nodes, 200 or more calls and 3 or more faults: {} violate a \
         guarantee",
        results.ran,
        plan.first,
        results.counted,
        results.failed.len(),
    );
    println!("{seconds:.0} s on {} threads, {per_minute:.0} seeds/min, commit {}", plan.threads, commit());
    if let Some([median, p99, max]) = results.coverage.convergence() {
        println!(
            "equal after healing: median {median:.2?}, p99 {p99:.2?}, maximum {max:.2?} (of {})",
            results.coverage.converged_in.len()
        );
    }
    println!("faults that took effect:");
    for (class, count) in &results.faults {
        println!("  {count:>8}  {class}");
    }
    println!("reached:");
    for (what, count) in results.coverage.counts() {
        println!("  {count:>8}  {what}");
    }
}

/// What the design has and no run can show yet.
fn print_missing() {
    println!("not built yet, so not tried:");
    for missing in NOT_TO_REACH_YET.iter().chain(&MISSING_FAULTS) {
        println!("  {missing}");
    }
    for defect in &STILL_TO_COME {
        println!("  defect {}: needs {}", defect.name, defect.needs);
    }
}

fn prove_harness(arguments: &Arguments) -> Result<bool> {
    let kept = kept::all()?;
    let progress = bar(Defect::ALL.len() as u64, "{bar:40} {pos}/{len} {msg}");
    let mut is_proven = true;
    for defect in Defect::ALL {
        progress.set_message(defect.name());
        let proof = proof::prove(defect, &kept, arguments.seeds);
        is_proven &= proof.holds();
        progress.suspend(|| print_proof(&proof));
        progress.inc(1);
    }
    progress.finish_and_clear();
    for defect in &STILL_TO_COME {
        println!("still to come: {} ({})", defect.name, defect.needs);
    }
    let verdict = if is_proven { "every defect is red, and green without it" } else { "NOT PROVEN" };
    println!("{verdict}, commit {}", commit());
    Ok(is_proven)
}

fn print_proof(proof: &Proof) {
    let verdict = if proof.holds() { "ok" } else { "NOT FOUND" };
    let seeds = match &proof.seeds {
        Some((needed, claims)) => format!("red after {needed} seeds ({})", claims.join(", ")),
        None => format!("green in {} seeds", proof.seeds_tried),
    };
    let without = if proof.is_green_without { "green without" } else { "RED WITHOUT IT" };
    let of = proof.defect.counterexample().map(|id| format!(" (counterexample {id})")).unwrap_or_default();
    println!("{verdict:>9}  {}{of}: {seeds}, {without}", proof.defect.name());
    for directed in &proof.directed {
        let (red, green) = (directed.red.join(", "), directed.green.join(", "));
        let expected = directed.breaks.as_deref().unwrap_or("anything");
        println!("           {}: red for [{red}], expected {expected}; without it [{green}]", directed.name);
    }
}

fn print_findings(findings: &[Finding]) {
    for finding in findings.iter().take(FINDINGS_SHOWN) {
        eprintln!("  {} is violated: {}", finding.claim, finding.seen);
    }
    if findings.len() > FINDINGS_SHOWN {
        eprintln!("  and {} more", findings.len() - FINDINGS_SHOWN);
    }
}

/// The options that repeat a seed.
fn again(arguments: &Arguments, seed: u64) -> String {
    let faults = option("faults", arguments.faults.iter().map(|class| class.name().to_owned()));
    format!("--seed {seed} --calls {}{faults}{}", arguments.calls, again_with(arguments))
}

/// The options that judge a run as this one was judged.
fn again_with(arguments: &Arguments) -> String {
    let defect = option("planted-bug", arguments.planted_bug.map(|defect| defect.name().to_owned()));
    option("claim", arguments.claim.iter().map(Guarantee::to_string)) + &defect
}

/// An option with its values; nothing if there are none.
fn option(name: &str, values: impl IntoIterator<Item = String>) -> String {
    let values: Vec<_> = values.into_iter().collect();
    if values.is_empty() { String::new() } else { format!(" --{name} {}", values.join(",")) }
}

fn defect(name: &str) -> Result<Defect, String> {
    let names = || Defect::ALL.map(Defect::name).join(", ");
    Defect::from_name(name).ok_or_else(|| format!("no defect is named {name:?}; there are {}", names()))
}

/// The commit that was built, if the sources are there to ask.
fn commit() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(root).output();
    let said = output.context("git").map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.ok().filter(|said| !said.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

fn bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

/// Seeds after which everything must have been reached.
const SEEDS_TO_REACH_ALL: u64 = 200;
/// Runs that a schedule may take to become smaller.
const SHRINK_TRIES_MAX: usize = 600;
/// Findings of one run that are printed.
const FINDINGS_SHOWN: usize = 5;
