//! Fuzzing of the decoders, by cargo-fuzz on a nightly toolchain.
//!
//! New inputs go to `fuzz/work/<target>`, which git ignores; the ones worth keeping are minimised and
//! moved up by hand, and are then replayed by every run of the tests.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::deny::is_installed;
use crate::repository::{Repository, run_inherited};

const INSTALL: &str = "cargo-fuzz is not installed: `rustup toolchain install nightly` and \
                       `cargo install --locked cargo-fuzz`";

/// What to fuzz.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A target of `fuzz/fuzz_targets`; all of them in turn without it.
    target: Option<String>,
    /// How long, per target.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
}

/// Runs the targets.
///
/// # Errors
/// If cargo-fuzz is not installed, a target does not exist, or one crashes.
pub(crate) fn run(repository: &Repository, options: &Options) -> Result<()> {
    if !is_installed("cargo-fuzz") {
        bail!(INSTALL);
    }
    let known = targets(repository)?;
    let chosen = match &options.target {
        None => known,
        Some(target) if known.contains(target) => vec![target.clone()],
        Some(target) => bail!("there is no target {target}; there are {}", known.join(", ")),
    };
    for target in chosen {
        let work = format!("fuzz/work/{target}");
        fs::create_dir_all(repository.root().join(&work))
            .with_context(|| format!("{work} cannot be made"))?;
        // The proxy of rustup, not the cargo that runs this: it alone knows `+nightly`.
        let mut cargo = Command::new("cargo");
        cargo.current_dir(repository.root());
        // Without the address sanitizer: no code of this workspace that a target reaches is unsafe, and it costs half the speed.
        cargo.args([
            "+nightly",
            "fuzz",
            "run",
            "--sanitizer",
            "none",
            &target,
            &work,
            &format!("fuzz/corpus/{target}"),
            "--",
        ]);
        cargo.args([format!("-max_total_time={}", options.seconds), "-max_len=65536".to_owned()]);
        run_inherited(&mut cargo).with_context(|| format!("target {target}"))?;
    }
    Ok(())
}

/// Names of the targets: the files of `fuzz/fuzz_targets`.
fn targets(repository: &Repository) -> Result<Vec<String>> {
    let names = repository
        .paths()?
        .into_iter()
        .filter_map(|path| Some(path.strip_prefix("fuzz/fuzz_targets/")?.strip_suffix(".rs")?.to_owned()));
    Ok(names.collect())
}
