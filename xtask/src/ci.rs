//! All checks of a change.
//!
//! The cheap ones first; the tests last and with their own output, so that the test runner's summary ends
//! the log. The committed fuzz corpora are replayed by an ordinary test of `federation-tests`.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::progress::Step;
use crate::repository::{Repository, run_inherited, shown};
use crate::{layers, tidy, violation};

/// A check before the tests.
struct Check {
    name: &'static str,
    run: fn(&Repository) -> Result<()>,
}

const CHECKS: [Check; 5] = [
    Check { name: "fmt", run: fmt },
    Check { name: "layers", run: |repository| violation::report("layers", &layers::check(repository)?) },
    Check { name: "tidy", run: |repository| violation::report("tidy", &tidy::check(repository)?) },
    Check { name: "clippy", run: clippy },
    Check { name: "docs", run: docs },
];

/// Runs every check, then the tests. All checks are run even if one fails; the tests only if none did.
///
/// # Errors
/// If a check or a test fails, or if the tree is not as it was.
pub(crate) fn run(repository: &Repository) -> Result<()> {
    let before = repository.status()?;
    let mut failed = Vec::new();
    for (index, check) in CHECKS.iter().enumerate() {
        let step = Step::begin(check.name, index + 1, CHECKS.len() + 1);
        let result = (check.run)(repository);
        step.end(if result.is_ok() { "ok" } else { "FAILED" });
        if let Err(error) = result {
            eprintln!("{error:#}");
            failed.push(check.name);
        }
    }
    if !failed.is_empty() {
        unchanged(repository, &before)?;
        bail!("failed: {} (the tests were not run)", failed.join(", "));
    }
    let tested = run_inherited(repository.cargo().args(["test", "--workspace"]));
    unchanged(repository, &before)?;
    tested
}

fn unchanged(repository: &Repository, before: &str) -> Result<()> {
    let after = repository.status()?;
    if after != before {
        bail!("the checks changed the tree, git status was\n{before}and is\n{after}");
    }
    Ok(())
}

fn fmt(repository: &Repository) -> Result<()> {
    run_captured(repository.cargo().args(["fmt", "--all", "--check"]))
}

fn clippy(repository: &Repository) -> Result<()> {
    run_captured(repository.cargo().args([
        "clippy",
        "--quiet",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ]))
}

fn docs(repository: &Repository) -> Result<()> {
    let mut cargo = repository.cargo();
    cargo.env("RUSTDOCFLAGS", "-D warnings");
    run_captured(cargo.args(["doc", "--quiet", "--locked", "--no-deps", "--workspace"]))
}

/// Runs a command and shows its output only if it fails.
fn run_captured(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} cannot be started", shown(command)))?;
    if output.status.success() {
        return Ok(());
    }
    eprint!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    bail!("{} failed: {}", shown(command), output.status)
}
