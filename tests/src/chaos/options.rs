//! The command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use federation_daemon::random::system_rng;
use rand::RngExt;

use crate::chaos::schedule::{FaultClass, Schedule, ScheduleSpec};

/// Does faults to real `federationd` processes and checks what they promise. Exit code 1 if one promise is broken, if
/// a fault was not reached, or if it was interrupted.
#[derive(Clone, Debug, Parser)]
#[command(name = "chaos", bin_name = "cargo xtask chaos")]
pub struct Options {
    /// A short campaign: under two minutes. Without it: 20 cycles of 2,000 writes per class.
    #[arg(long)]
    pub quick: bool,
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=9))]
    pub nodes: u8,
    /// Writes of each cycle.
    #[arg(long, value_parser = clap::value_parser!(u32).range(50..=1_000_000))]
    pub writes: Option<u32>,
    /// Cycles of each class.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub cycles: Option<u16>,
    /// The classes; all without it.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "CLASS,...")]
    pub fault: Vec<FaultClass>,
    /// Repeats the schedule of this seed; drawn without it.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Plays this schedule, as a report's `schedule.json` has it, instead of drawing one.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["nodes", "writes", "cycles", "fault", "seed"])]
    pub schedule: Option<PathBuf>,
    /// Where the report goes; `chaos-report` beside the build's profiles without it.
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// The `federationd` to test; the one beside this program without it.
    #[arg(long, value_name = "FILE")]
    pub daemon: Option<PathBuf>,
    /// The commit to name in the report; asked of git without it.
    #[arg(long, value_name = "HASH")]
    pub commit: Option<String>,
}

/// Cycles of each class and writes of each cycle, with and without `--quick`.
const QUICK: (u16, u32) = (9, 300);
const FULL: (u16, u32) = (20, 2_000);
/// How long `--quick` may take, all in all.
const QUICK_LIMIT: Duration = Duration::from_secs(110);
/// How long one cycle may take otherwise.
const CYCLE_LIMIT: Duration = Duration::from_mins(1);

impl Options {
    /// The schedule to play.
    ///
    /// # Errors
    /// If the file that was named is not one.
    pub fn schedule(&self) -> Result<Schedule> {
        if let Some(path) = &self.schedule {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("{} cannot be read", path.display()))?;
            return serde_json::from_str(&text)
                .with_context(|| format!("{} is not a schedule", path.display()));
        }
        let (cycles, writes) = if self.quick { QUICK } else { FULL };
        let mut classes = if self.fault.is_empty() { FaultClass::ALL.to_vec() } else { self.fault.clone() };
        classes.dedup();
        Ok(Schedule::draw(&ScheduleSpec {
            // Short enough to be typed.
            seed: self.seed.unwrap_or_else(|| system_rng().random_range(0..1_000_000)),
            nodes: self.nodes.into(),
            writes: self.writes.unwrap_or(writes),
            cycles: self.cycles.unwrap_or(cycles).into(),
            classes,
        }))
    }

    /// The command that plays this schedule again.
    pub fn command(&self, schedule: &Schedule) -> String {
        let mut words = vec!["cargo xtask chaos".to_owned()];
        if self.quick {
            words.push("--quick".to_owned());
        }
        if let Some(path) = &self.schedule {
            words.push(format!("--schedule {}", path.display()));
            return words.join(" ");
        }
        words.push(format!("--nodes {}", self.nodes));
        words.extend(self.writes.map(|writes| format!("--writes {writes}")));
        words.extend(self.cycles.map(|cycles| format!("--cycles {cycles}")));
        if !self.fault.is_empty() {
            let classes: Vec<_> = self.fault.iter().map(|class| class.slug()).collect();
            words.push(format!("--fault {}", classes.join(",")));
        }
        words.push(format!("--seed {}", schedule.seed));
        words.join(" ")
    }

    /// How long the campaign may take.
    pub fn limit(&self, schedule: &Schedule) -> Duration {
        if self.quick {
            return QUICK_LIMIT;
        }
        CYCLE_LIMIT * u32::try_from(schedule.cycles.len()).unwrap_or(u32::MAX)
    }

    /// The daemon to test.
    ///
    /// # Errors
    /// If there is none.
    pub fn program(&self) -> Result<PathBuf> {
        let path = match &self.daemon {
            Some(path) => path.clone(),
            None => beside_this_program("federationd")?,
        };
        if !path.is_file() {
            bail!("{} is not there: build it, or name one with --daemon", path.display());
        }
        Ok(path)
    }

    /// Where the report goes.
    pub fn report_dir(&self) -> Result<PathBuf> {
        match &self.report {
            Some(dir) => Ok(dir.clone()),
            None => beside_this_program("../chaos-report"),
        }
    }
}

fn beside_this_program(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe().context("the path of this program is not known")?;
    Ok(program.parent().unwrap_or(Path::new(".")).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_of_a_report_plays_the_same_schedule() {
        for line in [
            "chaos --quick",
            "chaos --quick --nodes 5 --writes 60 --cycles 2 --fault partition,kill_replica --seed 9",
        ] {
            let options = Options::try_parse_from(line.split(' ')).unwrap();
            let schedule = options.schedule().unwrap();
            let command = options.command(&schedule);
            let words = command.split(' ').skip(2);
            let again = Options::try_parse_from(words).unwrap().schedule().unwrap();
            assert_eq!(again, schedule, "{command}");
        }
    }

    #[test]
    fn unknown_classes_and_too_few_nodes_are_refused() {
        for line in ["chaos --fault nonsense", "chaos --nodes 2", "chaos --cycles 0", "chaos --writes 1"] {
            assert!(Options::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
