//! Faults on real processes: `cargo xtask chaos --quick`, and again: `cargo xtask chaos --quick --seed S`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{IsTerminal as _, stderr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use federation_daemon::signal::Stop;
use federation_tests::chaos::campaign::{Campaign, validate};
use federation_tests::chaos::options::Options;
use federation_tests::chaos::report::{CycleReport, Report};
use federation_tests::chaos::rig::Rig;
use federation_tests::chaos::schedule::Schedule;
use federation_tests::history::Call;
use indicatif::{ProgressBar, ProgressStyle};

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().context("no runtime could be made");
    match runtime.and_then(|runtime| runtime.block_on(run(&Options::parse()))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays a campaign; whether it passed.
async fn run(options: &Options) -> Result<bool> {
    let begun = Instant::now();
    let mut stop = Stop::listen().context("signals cannot be received")?;
    let (schedule, program, dir) = (options.schedule()?, options.program()?, options.report_dir()?);
    validate(&schedule)?;
    fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    fs::write(dir.join("schedule.json"), serde_json::to_string_pretty(&schedule)?)
        .context("schedule.json cannot be written")?;
    // In the report's directory, so that a failed campaign's nodes can be kept there.
    let work = tempfile::Builder::new()
        .prefix("nodes-")
        .tempdir_in(&dir)
        .context("no directory for the nodes could be made")?;

    let mut report = empty_report(options, &schedule);
    eprintln!("{}", report.command);
    let limit = options.limit(&schedule);
    let calls = tokio::select! {
        biased;
        () = stop.requested() => {
            report.interrupted = true;
            Vec::new()
        }
        rig = Rig::start(&program, work.path().to_owned(), &schedule) => {
            play(rig?, &schedule, &mut report, &mut stop, limit).await
        }
    };
    report.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    save_history(&dir, &calls)?;
    report.save(&dir)?;
    if !report.is_passed() && !report.interrupted {
        println!("the nodes' logs and data: {}", work.keep().display());
    }
    print!("{}", report.summary());
    println!("report: {}", shown(&dir).display());
    Ok(report.is_passed())
}

/// Plays the schedule and ends the rig, however the playing ends. Returns the history.
async fn play(
    mut rig: Rig,
    schedule: &Schedule,
    report: &mut Report,
    stop: &mut Stop,
    limit: Duration,
) -> Vec<Call> {
    let mut campaign = Campaign::new(rig.urls(), schedule);
    let progress = Progress::new(schedule.cycles.len());
    let seen = |cycle: &CycleReport| progress.cycle(cycle);
    let failure = tokio::select! {
        biased;
        () = stop.requested() => {
            report.interrupted = true;
            None
        }
        () = tokio::time::sleep(limit) => Some(format!("not done within {} s", limit.as_secs())),
        played = campaign.play(&mut rig, schedule, report, seen) => {
            played.err().map(|error| format!("{error:#}"))
        }
    };
    progress.end();
    if failure.is_none() && !report.interrupted {
        if let Err(error) = rig.stop().await {
            report.failures.push(format!("at the end: {error:#}"));
        }
        report.hold_against_coverage();
    } else {
        rig.kill_all().await;
    }
    report.failures.extend(failure);
    campaign.history()
}

fn empty_report(options: &Options, schedule: &Schedule) -> Report {
    let classes = schedule.cycles.iter().map(|cycle| cycle.fault.class());
    Report {
        command: options.command(schedule),
        seed: schedule.seed,
        commit: options.commit.clone().unwrap_or_else(commit),
        mode: if options.quick { "quick" } else { "full" }.to_owned(),
        nodes: schedule.nodes,
        mechanisms: classes.map(|class| (class, class.mechanism().to_owned())).collect(),
        took_ms: 0,
        cycles: Vec::new(),
        classes: BTreeMap::new(),
        violations: Vec::new(),
        failures: Vec::new(),
        interrupted: false,
    }
}

/// One call per line.
fn save_history(dir: &Path, calls: &[Call]) -> Result<()> {
    let mut text = String::new();
    for call in calls {
        text += &serde_json::to_string(call)?;
        text.push('\n');
    }
    fs::write(dir.join("history.jsonl"), text).context("history.jsonl cannot be written")
}

/// The commit of the working tree, with `-dirty` if it has changes.
fn commit() -> String {
    let described = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=40"]).output();
    match described {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// A path without detours, if it has such a form.
fn shown(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// A bar for a person, a line per cycle for a log.
struct Progress {
    bar: ProgressBar,
}

impl Progress {
    fn new(cycles: usize) -> Self {
        if !stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::new(cycles as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} cycles, {elapsed}  {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    fn cycle(&self, cycle: &CycleReport) {
        let line = format!(
            "{:>3}  {:<24} {:>4} of {:>4} writes acknowledged, equal after {}",
            cycle.plan.number,
            cycle.plan.fault.class().slug(),
            cycle.calls.acknowledged,
            cycle.calls.attempted,
            cycle.settling.equal_after_ms.map_or("-".to_owned(), |took| format!("{took} ms")),
        );
        if self.bar.is_hidden() {
            eprintln!("{line}");
        } else {
            self.bar.set_message(line);
            self.bar.inc(1);
        }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}
