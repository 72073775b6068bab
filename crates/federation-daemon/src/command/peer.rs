//! `federationd peer add|show|remove|export`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use federation_core::id::{BootId, KeyId};
use federation_wire::identity::{AcceptedSeries, Enrolment, KeyState, PeersFile};
use federation_wire::keys::{KeyError, OwnKeys, PublicKey};

use crate::command::keys::{self, IdArgs, IdentityError};
use crate::config::raw::default_of;
use crate::enrolment::{EnrolError, key_file, peers_file};
use crate::files::Existing;

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
    /// Add a node's next key beside the one it has, or retire the one that it no longer uses.
    Rotate {
        /// Its node id.
        id: String,
        /// The key that it is going to use, as in ed25519:...
        #[arg(long, required_unless_present = "retire")]
        add: Option<String>,
        /// The id of the key that it no longer uses: 16 hexadecimal digits.
        #[arg(long)]
        retire: Option<String>,
    },
    /// Take nothing more from a key that has fallen into other hands, but what is named as accepted.
    Revoke(RevokeArgs),
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
    /// Trust it in full: all namespaces, both ways, and as a relay. Each scope that is given stands instead.
    #[arg(long)]
    pub full: bool,
    /// What it keeps: a glob on namespaces, as in 'team/**'; may be given again. It must be what the node says itself.
    #[arg(long, value_name = "GLOB")]
    pub replicates: Vec<String>,
    /// What may leave to it.
    #[arg(long, value_name = "GLOB")]
    pub grant: Vec<String>,
    /// In what ops of its making are taken, whoever brings them.
    #[arg(long, value_name = "GLOB")]
    pub accept: Vec<String>,
    /// In what its completion is believed for the ops of others.
    #[arg(long, value_name = "GLOB")]
    pub relay: Vec<String>,
    /// An agent that it may speak for, or what such ids begin with, as in 'team-*'; may be given again [default: *].
    #[arg(long, value_name = "AGENT")]
    pub author: Vec<String>,
    /// A kind of records that is taken from it; may be given again [default: *].
    #[arg(long, value_name = "KIND")]
    pub kind: Vec<String>,
    /// Replace an entry of that id.
    #[arg(long)]
    pub replace: bool,
}

/// Options of `peer revoke`.
#[derive(Clone, Debug, clap::Args)]
pub struct RevokeArgs {
    /// Its node id.
    pub id: String,
    /// The id of the key, 16 hexadecimal digits [default: all keys of the node]. At the node itself: a key of before.
    #[arg(long)]
    pub key: Option<String>,
    /// This node's own keys: where the key stands, if it is one of them.
    #[arg(long, default_value = default_of("key_file"))]
    pub key_file: PathBuf,
    /// The last number of a series that is still taken, as `<epoch>:<number>`; `GET /api/v1/origins/<id>` of a node that
    /// is trusted lists what it has. May be repeated.
    #[arg(long, required_unless_present = "accept_nothing")]
    pub accept: Vec<String>,
    /// Take nothing at all that this key sealed, not even what other nodes hold of it.
    #[arg(long, conflicts_with = "accept")]
    pub accept_nothing: bool,
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
        PeerAction::Rotate { id, add, retire } => {
            let mut file = peers_file::load(path)?;
            if let Some(key) = add {
                peers_file::add_key(&mut file, &id, &key.parse()?)?;
            }
            if let Some(key) = retire {
                peers_file::retire_key(&mut file, &id, key_id(&key)?)?;
            }
            peers_file::save(path, &file)?;
            println!("rotated {id} in {}; reload the node for it to count", path.display());
        }
        PeerAction::Revoke(args) => revoke(path, &args)?,
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
    let scopes = [&add.replicates, &add.grant, &add.accept, &add.relay];
    let [replicates, grant, accept, relay, authors, kinds] = enrolment.trust_lists();
    for (scope, given) in [replicates, grant, accept, relay].into_iter().zip(scopes) {
        if !full || !given.is_empty() {
            scope.clone_from(given);
        }
    }
    for (list, given) in [(authors, &add.author), (kinds, &add.kind)] {
        if !given.is_empty() {
            list.clone_from(given);
        }
    }
    Ok(enrolment)
}

/// Revokes keys of a peer, or one that was this node's own: the same line serves at every node.
fn revoke(peers: &Path, args: &RevokeArgs) -> Result<(), PeerError> {
    let key = args.key.as_deref().map(key_id).transpose()?;
    let accepted = args.accept.iter().map(|text| series(text)).collect::<Result<Vec<_>, _>>()?;
    let mut file = peers_file::load_or_new(peers)?;
    let is_enrolled = file.peers.iter().any(|peer| peer.id == args.id);
    let own = key.filter(|_| !is_enrolled).map(|key| own_keys(args, key)).transpose()?.flatten();
    let written = if let Some((key, own)) = own {
        let malformed = |fault| EnrolError::KeyMalformed { path: args.key_file.clone(), fault };
        key_file::write(&args.key_file, &own.revoked(key, &accepted).map_err(malformed)?, Existing::Replace)?;
        &args.key_file
    } else {
        let accepted: Vec<_> =
            accepted.iter().map(|(epoch, last)| AcceptedSeries::new(*epoch, *last)).collect();
        peers_file::revoke(&mut file, &args.id, key, &accepted)?;
        peers_file::save(peers, &file)?;
        peers
    };
    println!("revoked {} in {}; reload the node for it to count", args.id, written.display());
    println!("run at every other node, {} itself too if it goes on, and reload it there:", args.id);
    println!("    {}", revoke_line(args));
    Ok(())
}

/// This node's own keys, if `key` is one of them.
fn own_keys(args: &RevokeArgs, key: KeyId) -> Result<Option<(KeyId, OwnKeys)>, EnrolError> {
    match key_file::read(&args.key_file) {
        Ok(own) => Ok(own.public(key).is_some().then_some((key, own))),
        Err(EnrolError::KeyMissing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn key_id(text: &str) -> Result<KeyId, EnrolError> {
    text.parse().map_err(|_| EnrolError::KeyIdForm { given: text.to_owned() })
}

fn series(text: &str) -> Result<(BootId, u64), EnrolError> {
    let parts =
        text.split_once(':').and_then(|(epoch, last)| Some((epoch.parse().ok()?, last.parse().ok()?)));
    parts.ok_or_else(|| EnrolError::Accept { given: text.to_owned() })
}

/// The same revocation, for another node.
fn revoke_line(revoke: &RevokeArgs) -> String {
    let mut line = format!("federationd peer revoke {}", revoke.id);
    let options = revoke.key.iter().map(|key| format!(" --key {key}"));
    line.extend(options.chain(revoke.accept.iter().map(|series| format!(" --accept {series}"))));
    if revoke.accept_nothing {
        line.push_str(" --accept-nothing");
    }
    line
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
            let id = key.key.parse::<PublicKey>().map(|key| key.id().to_string()).unwrap_or_default();
            println!("    key        {id} {} {}", key.state.as_str(), key.key);
            for series in &key.accepted {
                println!("               accepted to {}:{}", series.epoch, series.last_seq);
            }
        }
        let scopes = [
            ("replicates", &peer.replicates),
            ("grant", &peer.grant),
            ("accept", &peer.accept),
            ("relay", &peer.relay),
            ("authors", &peer.authors),
            ("kinds", &peer.kinds),
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
    let lists = [
        ("replicates", &peer.replicates, "**"),
        ("grant", &peer.grant, "**"),
        ("accept", &peer.accept, "**"),
        ("relay", &peer.relay, "**"),
        ("author", &peer.authors, "*"),
        ("kind", &peer.kinds, "*"),
    ];
    let is_full = lists.iter().all(|(_, list, everything)| **list == [*everything]);
    let trust = if is_full {
        " --full".to_owned()
    } else {
        let quoted = lists.iter().flat_map(|(name, list, _)| list.iter().map(move |glob| (name, glob)));
        // Whoever may speak for nobody, or of no kind, is not given any by the line.
        let is_taken = !peer.authors.is_empty() && !peer.kinds.is_empty();
        quoted
            .filter(|(name, _)| is_taken || **name != "accept")
            .map(|(name, glob)| format!(" --{name} '{}'", glob.replace('\'', r"'\''")))
            .collect::<Vec<_>>()
            .concat()
    };
    Some(format!("federationd peer add{trust} --id {} --url {url} --key {}", peer.id, key.key))
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
