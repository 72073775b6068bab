//! `federationd keygen` and `federationd id`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use federation_core::id::NodeId;
use federation_wire::keys::PublicKey;

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
    /// Make the key that is to follow this one, beside it, and print the line that tells the peers.
    #[arg(long, conflicts_with_all = ["force", "activate"])]
    pub rotate: bool,
    /// Make the key of --rotate the one in use, from the next reload on. What the old one sealed stays proven.
    #[arg(long, conflicts_with = "force")]
    pub activate: bool,
    /// This node's name in the printed lines [default: made from the machine's name].
    #[arg(long)]
    pub node_id: Option<String>,
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
    if args.rotate {
        return rotate(&path, &node_named(args)?);
    }
    if args.activate {
        return activate(&path, &node_named(args)?);
    }
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    told(&path, key_file::create(&path, existing)?.active().public());
    Ok(())
}

/// Makes the next key. It is known to every peer before the node signs with it: nobody refuses it then.
fn rotate(path: &Path, node: &NodeId) -> Result<(), IdentityError> {
    key_file::read(path)?;
    let next = key_file::create(&next_path(path), Existing::Keep)?;
    let public = next.active().public();
    told(&next_path(path), public);
    println!("run at every peer, and reload it there:");
    println!("    federationd peer rotate {node} --add {public}");
    println!("then, here, and reload this node:");
    println!("    federationd keygen --activate --key-file {}", path.display());
    Ok(())
}

fn activate(path: &Path, node: &NodeId) -> Result<(), IdentityError> {
    let mut keys = key_file::read(path)?;
    let next_path = next_path(path);
    let next = Arc::clone(key_file::read(&next_path)?.active());
    // The same where an earlier call was cut off before its last step.
    if keys.active().id() != next.id() {
        let malformed = |fault| EnrolError::KeyMalformed { path: path.to_owned(), fault };
        keys = keys.rotated(next).map_err(malformed)?;
        key_file::write(path, &keys, Existing::Replace)?;
    }
    std::fs::remove_file(&next_path).map_err(|source| EnrolError::Write { path: next_path, source })?;
    told(path, keys.active().public());
    if let Some(old) = keys.former().last() {
        println!("reload this node, then run at every peer, and reload it there:");
        println!("    federationd peer rotate {node} --retire {}", old.public.id());
    }
    Ok(())
}

fn told(path: &Path, key: &PublicKey) {
    println!("wrote {}: key {} {key}", path.display(), key.id());
}

/// Where the key that is to follow lies.
fn next_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".next");
    name.into()
}

fn node_named(args: &KeygenArgs) -> Result<NodeId, IdentityError> {
    let flags = RawConfig { node_id: args.node_id.clone(), ..RawConfig::default() };
    let given = Given { flags, node_id_env: node_id_env(), hostname: hostname(), ..Given::default() };
    valid::node_id(&given, &RawConfig::default()).map_err(|fault| Faults(vec![fault]).into())
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
    let keys = key_file::read(&key_path)?;
    let listen = raw.peer_listen.unwrap_or_else(|| default_of("peer_listen").to_owned());
    let scheme = if raw.peer_tls.as_deref() == Some("off") { "http" } else { "https" };
    let url = args.url.clone().unwrap_or_else(|| format!("{scheme}://{listen}"));
    Ok(format!("federationd peer add --full --id {id} --url {url} --key {}", keys.active().public()))
}
