//! Schedules that are kept: bugs of the past, and the counterexamples of the design's rules.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::schedule::Schedule;

/// A schedule that is kept, a file of `tests/schedules`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// What goes wrong where it does, in a sentence or two.
    pub what: String,
    /// The counterexample of the design that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counterexample: Option<String>,
    /// The defect under which it is red (`Defect::name`): a rule that was taken out, or a planted bug.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defect: Option<String>,
    /// The guarantee or invariant that is then broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaks: Option<String>,
    /// The last commit at which it was red, if it is a bug of the past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub red_at: Option<String>,
    /// The commit that mended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub green_at: Option<String>,
    /// The run.
    pub schedule: Schedule,
}

/// All kept schedules with the names of their files, in order.
///
/// # Errors
/// If a file cannot be read or does not parse.
pub fn all() -> Result<Vec<(String, Kept)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schedules");
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in entries {
        paths.push(entry?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let name = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    paths.iter().map(|path| Ok((name(path).unwrap_or_default(), load(path)?))).collect()
}

/// One kept schedule.
///
/// # Errors
/// If the file cannot be read or does not parse.
pub fn load(path: &Path) -> Result<Kept> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no kept schedule", path.display()))
}

/// Writes a schedule so that it can be kept.
///
/// # Errors
/// If the file cannot be written.
pub fn save(path: &Path, kept: &Kept) -> Result<()> {
    let text = serde_json::to_string_pretty(kept)? + "\n";
    std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}
