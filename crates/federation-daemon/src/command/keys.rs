//! `federationd keygen` and `federationd id`.

use std::path::PathBuf;

use crate::command::serve::{hostname, node_id_env};
use crate::config::raw::default_of;
use crate::config::{Faults, Given, RawConfig, valid};
use crate::enrolment::{EnrolError, key_file};
use crate::files::{Existing, is_within};

/// Options of `keygen`.
#[derive(Clone, Debug, clap::Args)]
pub struct KeygenArgs {
    /// Where the key is written, mode 0600.
    #[arg(long, default_value = default_of("key_file"))]
    pub key_file: PathBuf,
    /// The data directory, which the key must not lie in.
    #[arg(long, default_value = default_of("data_dir"))]
    pub data_dir: PathBuf,
    /// Replace a key that is there: the node must then be enrolled anew at every peer.
    #[arg(long)]
    pub force: bool,
}

/// Options of `id`.
#[derive(Clone, Debug, clap::Args)]
pub struct IdArgs {
    /// This node's name [default: made from the machine's name].
    #[arg(long)]
    pub node_id: Option<String>,
    /// Its key file [default: federation.key].
    #[arg(long)]
    pub key_file: Option<PathBuf>,
    /// Its peer URL [default: made from the peer address].
    #[arg(long)]
    pub url: Option<String>,
    /// Config file of this node.
    #[arg(long)]
    pub config: Option<PathBuf>,
}

/// Why a command about this node's identity failed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The key file or an enrolment.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// A setting.
    #[error("{0}")]
    Faults(#[from] Faults),
}

/// Makes a key.
pub fn keygen(args: &KeygenArgs) -> Result<(), IdentityError> {
    let (path, data_dir) = (args.key_file.clone(), args.data_dir.clone());
    if is_within(&path, &data_dir) {
        return Err(EnrolError::KeyInDataDir { path, data_dir }.into());
    }
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    let key = key_file::create(&path, existing)?;
    println!("wrote {}: key {} {}", path.display(), key.id(), key.public());
    Ok(())
}

/// Prints the line that enrols this node at another.
pub fn id(args: &IdArgs) -> Result<(), IdentityError> {
    println!("{}", line(args)?);
    Ok(())
}

/// The command that enrols this node at another, in one line.
pub fn line(args: &IdArgs) -> Result<String, IdentityError> {
    let mut faults = Vec::new();
    let flags =
        RawConfig { node_id: args.node_id.clone(), key_file: args.key_file.clone(), ..RawConfig::default() };
    let raw = flags.clone().over(valid::read_config_file(args.config.as_deref(), &mut faults));
    let given = Given { flags, node_id_env: node_id_env(), hostname: hostname(), ..Given::default() };
    let id = valid::node_id(&given, &raw).map_err(|fault| faults.push(fault)).ok();
    let (Some(id), true) = (id, faults.is_empty()) else { return Err(Faults(faults).into()) };
    let key_path = raw.key_file.unwrap_or_else(|| default_of("key_file").into());
    let key = key_file::read(&key_path)?;
    let listen = raw.peer_listen.unwrap_or_else(|| default_of("peer_listen").to_owned());
    let scheme = if raw.peer_tls.as_deref() == Some("off") { "http" } else { "https" };
    let url = args.url.clone().unwrap_or_else(|| format!("{scheme}://{listen}"));
    Ok(format!("federationd peer add --full --id {id} --url {url} --key {}", key.public()))
}
