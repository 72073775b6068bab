//! The simulation: builds it, with its defects where they are asked for, and runs it with the terminal it was given.

use anyhow::Result;

use crate::binaries::{Binaries, Defects, split_profile};
use crate::repository::{Repository, run_inherited};

/// Options that need a build which has defects to plant.
const NEED_DEFECTS: [&str; 2] = ["--prove-harness", "--planted-bug"];

/// Builds `sim` and passes the arguments on, except for `--profile`.
///
/// # Errors
/// If it does not build, or something was violated.
pub(crate) fn run(repository: &Repository, args: &[String]) -> Result<()> {
    let (profile, args) = split_profile(args)?;
    let needs_defects = args.iter().any(|arg| NEED_DEFECTS.iter().any(|option| arg.starts_with(option)));
    let defects = if needs_defects { Defects::Plantable } else { Defects::None };
    let binaries = Binaries::build(repository, &profile, defects, &["sim"])?;
    run_inherited(binaries.command(repository, "sim")?.args(args))
}
