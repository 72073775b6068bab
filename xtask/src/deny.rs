//! Dependencies: where they come from, under which licence, and which are banned.

use std::env;
use std::path::Path;

use anyhow::{Result, bail};

use crate::repository::{Repository, run_inherited};

const INSTALL: &str = "cargo-deny is not installed: `cargo install --locked cargo-deny`";

/// Runs cargo-deny by `deny.toml`: without a network, or with one for the advisories too.
///
/// # Errors
/// If cargo-deny is not installed or finds something.
pub(crate) fn run(repository: &Repository, advisories: bool) -> Result<()> {
    if !is_installed("cargo-deny") {
        bail!(INSTALL);
    }
    let mut cargo = repository.cargo();
    cargo.arg("deny");
    if advisories {
        cargo.args(["check", "advisories", "bans", "licenses", "sources"]);
    } else {
        cargo.args(["--offline", "check", "bans", "licenses", "sources"]);
    }
    run_inherited(&mut cargo)
}

/// Whether a program of that name is in the search path, or beside cargo's own.
pub(crate) fn is_installed(program: &str) -> bool {
    let searched = env::var_os("PATH").unwrap_or_default();
    let home = env::var_os("CARGO_HOME").map(|home| Path::new(&home).join("bin"));
    env::split_paths(&searched).chain(home).any(|directory| directory.join(program).is_file())
}
