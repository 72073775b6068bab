//! `federationd verify --offline`.

use std::path::PathBuf;

/// Options of `verify`.
#[derive(Clone, Debug, clap::Args)]
pub struct VerifyArgs {
    /// Read the store of a stopped node. The only way there is so far.
    #[arg(long, required = true)]
    pub offline: bool,
    /// The data directory.
    #[arg(long)]
    pub data_dir: PathBuf,
}

/// Why a store is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {}

/// Runs the command.
pub fn run(_args: &VerifyArgs) -> Result<(), VerifyError> {
    Ok(())
}
