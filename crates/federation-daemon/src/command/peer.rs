//! `federationd peer add|show|remove|export`.

use std::path::PathBuf;

use clap::Subcommand;
use federation_wire::identity::{Enrolment, KeyState, PeersFile};
use federation_wire::keys::{KeyError, PublicKey};

use crate::command::keys::{self, IdArgs, IdentityError};
use crate::config::raw::default_of;
use crate::enrolment::{EnrolError, peers_file};

/// Options of `peer`.
#[derive(Clone, Debug, clap::Args)]
pub struct PeerArgs {
    /// The enrolments.
    #[arg(long, global = true, default_value = default_of("peers_file"))]
    pub peers_file: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub action: PeerAction,
}

/// What to do with the enrolments.
#[derive(Clone, Debug, Subcommand)]
pub enum PeerAction {
    /// Enrol a node.
    Add(AddArgs),
    /// Show who is enrolled.
    Show,
    /// Retire a node: it is no longer dialled and may not call; what it signed is still taken, by relay.
    Remove {
        /// Its node id.
        id: String,
    },
    /// Print the commands that enrol this node and all its peers at a new one.
    Export(IdArgs),
}

/// Options of `peer add`.
#[derive(Clone, Debug, clap::Args)]
pub struct AddArgs {
    /// Its node id.
    #[arg(long, required_unless_present = "from")]
    pub id: Option<String>,
    /// Its peer URL: https, host and port; http for one on loopback with `peer_tls = "off"`.
    #[arg(long, required_unless_present = "from")]
    pub url: Option<String>,
    /// Its public key, as in ed25519:...
    #[arg(long, required_unless_present = "from")]
    pub key: Option<String>,
    /// The line that `federationd id` prints there, instead of --id, --url and --key.
    #[arg(long, conflicts_with_all = ["id", "url", "key"])]
    pub from: Option<String>,
    /// Trust it in full: all namespaces, both ways, and as a relay. Scopes are not heeded yet: without it, today too.
    #[arg(long)]
    pub full: bool,
    /// Replace an entry of that id.
    #[arg(long)]
    pub replace: bool,
}

/// Why a command about peers failed.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The enrolments.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// This node's own identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The key is not one.
    #[error("--key: {0}")]
    Key(#[from] KeyError),
}

/// Runs the command.
pub fn run(args: PeerArgs) -> Result<(), PeerError> {
    let path = &args.peers_file;
    match args.action {
        PeerAction::Add(add) => {
            let mut file = peers_file::load_or_new(path)?;
            let enrolment = enrolment(&add)?;
            let id = enrolment.id.clone();
            if !add.replace && file.peers.iter().any(|peer| peer.id == id) {
                return Err(EnrolError::Enrolled { id }.into());
            }
            peers_file::replace(&mut file, enrolment);
            peers_file::save(path, &file)?;
            println!("enrolled {id} in {}", path.display());
        }
        PeerAction::Show => show(&peers_file::load(path)?),
        PeerAction::Remove { id } => {
            let mut file = peers_file::load(path)?;
            peers_file::retire(&mut file, &id)?;
            peers_file::save(path, &file)?;
            println!("retired {id} in {}", path.display());
        }
        PeerAction::Export(own) => {
            println!("{}", keys::line(&own)?);
            for line in peers_file::load_or_new(path)?.peers.iter().filter_map(export_line) {
                println!("{line}");
            }
        }
    }
    Ok(())
}

fn enrolment(add: &AddArgs) -> Result<Enrolment, PeerError> {
    let of = |option: &Option<String>, name: &'static str| match (option, &add.from) {
        (Some(value), _) => Ok(value.clone()),
        (None, Some(line)) => value_in(line, name),
        (None, None) => Err(EnrolError::Line { missing: name }),
    };
    let (id, url, key) = (of(&add.id, "--id")?, of(&add.url, "--url")?, of(&add.key, "--key")?);
    let key: PublicKey = key.parse()?;
    let mut enrolment = Enrolment::full(&id, &url, &key);
    let full = add.full || add.from.as_deref().is_some_and(|line| words(line).any(|word| word == "--full"));
    if !full {
        for scope in
            [&mut enrolment.replicates, &mut enrolment.grant, &mut enrolment.accept, &mut enrolment.relay]
        {
            scope.clear();
        }
    }
    Ok(enrolment)
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split_whitespace()
}

/// The word behind `name` in a line of `federationd id`.
fn value_in(line: &str, name: &'static str) -> Result<String, EnrolError> {
    words(line)
        .skip_while(|word| *word != name)
        .nth(1)
        .map(str::to_owned)
        .ok_or(EnrolError::Line { missing: name })
}

fn show(file: &PeersFile) {
    if file.peers.is_empty() {
        println!("nobody is enrolled");
    }
    for peer in &file.peers {
        println!("{}  {}", peer.id, peer.url.as_deref().unwrap_or("(not dialled)"));
        for key in &peer.keys {
            let state = if key.state == KeyState::Active { "active" } else { "retired" };
            println!("    key        {} {state}", key.key);
        }
        let scopes = [
            ("replicates", &peer.replicates),
            ("grant", &peer.grant),
            ("accept", &peer.accept),
            ("relay", &peer.relay),
        ];
        for (name, globs) in scopes {
            println!("    {name:<10} {}", if globs.is_empty() { "nothing".into() } else { globs.join(", ") });
        }
    }
}

/// The command that enrols a peer elsewhere; none for one that is retired.
fn export_line(peer: &Enrolment) -> Option<String> {
    let url = peer.url.as_ref()?;
    let key = peer.keys.iter().find(|key| key.state == KeyState::Active)?;
    let everything = ["**".to_owned()];
    let is_full =
        [&peer.replicates, &peer.grant, &peer.accept, &peer.relay].iter().all(|s| **s == everything);
    let full = if is_full { " --full" } else { "" };
    Some(format!("federationd peer add{full} --id {} --url {url} --key {}", peer.id, key.key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_another_node_is_read() {
        let line = "federationd peer add --full --id b --url http://127.0.0.1:2 --key ed25519:x";
        assert_eq!(value_in(line, "--id").unwrap(), "b");
        assert_eq!(value_in(line, "--key").unwrap(), "ed25519:x");
        let error = value_in("--id b", "--url").unwrap_err();
        assert!(matches!(error, EnrolError::Line { missing: "--url" }));
        assert!(value_in("--id", "--id").is_err());
    }
}
