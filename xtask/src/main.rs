//! The project's own commands: `cargo xtask <command>`.
//!
//! Each command spawns the tool that does the work and adds what the tool does not know: the order, the layers,
//! the house rules. Nothing here is part of the product, and nothing depends on it.

mod binaries;
mod chaos;
mod ci;
mod deny;
mod fuzz;
mod layers;
mod progress;
mod repository;
mod sim;
mod source;
mod tidy;
mod violation;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::repository::Repository;

/// Developer commands of this repository.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All checks of a change, the tests last. Never writes to the tree.
    Ci,
    /// Which crate may depend on which, and what each must never have.
    Layers,
    /// House rules that neither the compiler nor clippy knows.
    Tidy,
    /// Licences, sources and banned packages of the dependencies, by cargo-deny, without a network.
    Deny {
        /// Ask for the advisories too. Needs a network, for the `RustSec` database.
        #[arg(long)]
        advisories: bool,
    },
    /// Runs a fuzz target, or all of them in turn, by cargo-fuzz on a nightly toolchain.
    Fuzz(fuzz::Options),
    /// The simulation: builds `federation-tests`' binary `sim` and runs it.
    #[command(disable_help_flag = true)]
    Sim {
        /// Passed on, `--help` too; `--profile dev` builds that profile instead of release.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Faults on real processes: builds `federationd` and `federation-tests`' binary `chaos`, and runs that.
    #[command(disable_help_flag = true)]
    Chaos {
        /// Passed on, `--help` too; `--profile dev` builds that profile instead of release.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<()> {
    let repository = Repository::find()?;
    match command {
        Command::Ci => ci::run(&repository),
        Command::Layers => violation::report("layers", &layers::check(&repository)?),
        Command::Tidy => violation::report("tidy", &tidy::check(&repository)?),
        Command::Deny { advisories } => deny::run(&repository, *advisories),
        Command::Fuzz(options) => fuzz::run(&repository, options),
        Command::Sim { args } => sim::run(&repository, args),
        Command::Chaos { args } => chaos::run(&repository, args),
    }
}
