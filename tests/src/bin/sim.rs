//! Runs seeds of the simulation: `cargo xtask sim --seeds 1000`, or one: `cargo xtask sim --seed 7`.

use std::process::ExitCode;

use clap::Parser;
use federation_tests::simulation::coverage::Coverage;
use federation_tests::simulation::scenario::{Scenario, Violation, run};
use indicatif::{ProgressBar, ProgressStyle};

/// Runs seeds of the simulation and stops at the first that violates a guarantee.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Runs this one seed and no other.
    #[arg(long)]
    seed: Option<u64>,
    /// Client writes of each run.
    #[arg(long, default_value_t = 220)]
    writes: usize,
    /// Power cuts, partitions and lost answers only: no lost disks, wrong clocks or nodes that stand still.
    #[arg(long)]
    gentle: bool,
    /// Goes on after a violation and counts them.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (first, count) = arguments.seed.map_or((arguments.from, arguments.seeds), |seed| (seed, 1));
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left");
    let progress = ProgressBar::new(count).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let started = std::time::Instant::now();
    let mut total = Coverage::default();
    let mut violations = 0;
    for seed in first..first + count {
        let nodes = if seed % 5 == 4 { 5 } else { 3 };
        let scenario = Scenario { seed, nodes, writes: arguments.writes, hostile: !arguments.gentle };
        let result = std::panic::catch_unwind(|| run(scenario))
            .unwrap_or_else(|_| Err(Violation { guarantee: "no panic", seen: "see above".to_owned() }));
        match result {
            Ok(coverage) => total = total.plus(coverage),
            Err(violation) if arguments.keep_going => {
                violations += 1;
                let seen: String = violation.seen.chars().take(300).collect();
                println!("seed {seed}: {}: {seen}", violation.guarantee);
            }
            Err(violation) => {
                progress.abandon();
                eprintln!("{} is violated: {}", violation.guarantee, violation.seen);
                eprintln!("again: cargo xtask sim --seed {seed} --writes {}", arguments.writes);
                return ExitCode::FAILURE;
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    println!(
        "{count} seeds from {first}: {violations} violations, in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    println!("{total:?}");
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
