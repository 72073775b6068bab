//! Faults on real processes: builds the daemon and the harness, and runs the harness with the terminal it was given.

use anyhow::Result;

use crate::binaries::{Binaries, Defects, split_profile};
use crate::repository::{Repository, run_inherited};

/// Builds `federationd` and `chaos`, and passes the arguments on, except for `--profile`.
///
/// # Errors
/// If something does not build, or a promise was broken.
pub(crate) fn run(repository: &Repository, args: &[String]) -> Result<()> {
    let (profile, args) = split_profile(args)?;
    let binaries = Binaries::build(repository, &profile, Defects::None, &["federationd", "chaos"])?;
    let mut chaos = binaries.command(repository, "chaos")?;
    run_inherited(chaos.args(args).arg("--daemon").arg(binaries.path("federationd")?))
}
