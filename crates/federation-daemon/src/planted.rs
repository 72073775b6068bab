//! Which known defect this process has, for tests and chaos campaigns. In builds with the feature `planted-bugs` alone.

use std::env;

use federation_core::planted::{Defect, plant};

/// The environment variable that names a defect has something else in it.
#[derive(Debug, thiserror::Error)]
#[error("{VARIABLE}: there is no planted bug {name:?}; there are {}", names())]
pub struct UnknownDefect {
    name: String,
}

/// Plants the defect that the environment names; without a name there is none.
///
/// # Errors
/// [`UnknownDefect`]: a harness that names a defect that is not there would take its green for a proof.
pub fn plant_from_environment() -> Result<(), UnknownDefect> {
    let name = env::var_os(VARIABLE).unwrap_or_default().to_string_lossy().into_owned();
    if name.is_empty() {
        return Ok(());
    }
    let Some(defect) = Defect::from_name(&name) else { return Err(UnknownDefect { name }) };
    tracing::warn!(bug = name, what = defect.what(), "this process has a planted bug");
    plant(Some(defect));
    Ok(())
}

fn names() -> String {
    Defect::ALL.map(Defect::name).join(", ")
}

const VARIABLE: &str = "FEDERATION_PLANTED_BUG";
