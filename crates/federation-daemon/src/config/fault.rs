//! What is wrong with a start, each fault with its place and its cure.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use federation_core::id::IdError;
use federation_core::quorum::levels::NamespaceLevelError;
use federation_core::quorum::policy::{LevelError, PolicyError};
use federation_core::scope::ScopeError;
use federation_net::tls::PkiFault;
use federation_wire::identity::UrlError;

use crate::enrolment::EnrolError;
use crate::files::PrivateFileError;
use crate::tokens_file::TokensError;

/// One reason not to start.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The config file could not be read.
    #[error("--config {}: cannot be read: {source}; a file that is named must exist", path.display())]
    ConfigUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The config file has another form, or a key that is not known.
    #[error("--config {}: {message}", path.display())]
    ConfigForm {
        /// The file.
        path: PathBuf,
        /// What the parser says, with line and key.
        message: String,
    },
    /// The node id is not one.
    #[error("node_id: {id:?} (from {from}) is not a node id: {fault}; set --node-id")]
    NodeId {
        /// What was given.
        id: String,
        /// Where it came from.
        from: &'static str,
        /// What is wrong.
        fault: IdError,
    },
    /// A setting that a running node does not take in has changed.
    #[error(
        "{setting}: has changed, and counts only from the next start on; put it back, or restart the node"
    )]
    NeedsRestart {
        /// The setting.
        setting: &'static str,
    },
    /// An address is not one.
    #[error("{setting}: {text:?} is not an address like 127.0.0.1:9077")]
    Address {
        /// The setting.
        setting: &'static str,
        /// What was given.
        text: String,
    },
    /// An address off loopback, without TLS.
    #[error(
        "{setting}: {address} is not on loopback and would be plain HTTP: {cure}, or listen on 127.0.0.0/8 or ::1"
    )]
    NotLoopback {
        /// The setting.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// What makes it TLS.
        cure: &'static str,
    },
    /// A setting that is one of a few words.
    #[error("{setting}: {text:?} is not one of {words}")]
    Choice {
        /// The setting.
        setting: &'static str,
        /// What was given.
        text: String,
        /// What it may be.
        words: &'static str,
    },
    /// A setting without the ones that belong to it.
    #[error("{missing}: is not given, and belongs to {given}: give {all}, or none of them")]
    Incomplete {
        /// What was given.
        given: &'static str,
        /// What is missing.
        missing: &'static str,
        /// What belongs together.
        all: &'static str,
    },
    /// A file of a certificate or its key.
    #[error("{setting} {}: {problem}", path.display())]
    TlsFile {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: TlsFileProblem,
    },
    /// The trust domain is not one.
    #[error(
        "peer_spiffe_domain: {text:?} is not a trust domain: lower-case letters, digits and . - _ alone, as in example.org"
    )]
    SpiffeDomain {
        /// What was given.
        text: String,
    },
    /// A peer to which no certificate can belong.
    #[error(
        "peer {id}: nothing says which certificate is its own: set its tls_fingerprint in the peers file, or peer_spiffe_domain"
    )]
    PeerUnbound {
        /// The peer.
        id: String,
    },
    /// TLS could not be set up.
    #[error("TLS: {}", chain(.0))]
    Tls(#[from] federation_net::tls::TlsError),
    /// An address could not be bound.
    #[error(
        "{setting}: {address} cannot be listened on: {source}; stop what uses it, or choose another port"
    )]
    Port {
        /// The setting.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// One half of the embedding space without the other.
    #[error(
        "{given} is set and {missing} is not: a space has both, or the node indexes no vectors with neither"
    )]
    HalfASpace {
        /// The setting that was given.
        given: &'static str,
        /// The one that was not.
        missing: &'static str,
    },
    /// The name of the model is empty or too long.
    #[error("embedding_model: takes {bytes} bytes, allowed are 1 to {limit_bytes}")]
    ModelName {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit_bytes: usize,
    },
    /// A number outside its range.
    #[error("{setting}: {value} is not possible, it must be {min} to {max}")]
    Range {
        /// The setting.
        setting: &'static str,
        /// What was given.
        value: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// The key or the enrolments.
    #[error(transparent)]
    Enrolment(#[from] EnrolError),
    /// The client tokens.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// Anybody could come to an open client address.
    #[error(
        "listen: {address} is not on loopback, and there are no client tokens: make one with `federationd token create` \
         and set tokens_file, or listen on loopback"
    )]
    OpenOffLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The replica scope is not one.
    #[error("replica_scope: {}", chain(.0))]
    ReplicaScope(#[source] ScopeError),
    /// The write level is not one.
    #[error("quorum_writes: {text:?}: {fault}")]
    Level {
        /// What was given.
        text: String,
        /// What is wrong.
        fault: LevelError,
    },
    /// The write level of some namespaces is not one.
    #[error("quorum_writes_in: {text:?}: {fault}")]
    NamespaceLevel {
        /// What was given.
        text: String,
        /// What is wrong.
        fault: NamespaceLevelError,
    },
    /// The write level does not fit the number of nodes.
    #[error("{setting}: {level}: {fault}; {n} = this node and {} peers: lower W, or enrol and pick more peers", n.saturating_sub(1))]
    Quorum {
        /// The setting.
        setting: &'static str,
        /// The level.
        level: String,
        /// Nodes that count.
        n: usize,
        /// What is wrong.
        fault: PolicyError,
    },
    /// A peer URL is not one.
    #[error("quorum_peers: {url:?}: {fault}")]
    PeerUrl {
        /// What was given.
        url: String,
        /// What is wrong.
        fault: UrlError,
    },
    /// A peer URL stands there twice.
    #[error("quorum_peers: {url} stands there twice: name each peer once")]
    PeerTwice {
        /// The URL.
        url: String,
    },
    /// A peer URL has no enrolment.
    #[error(
        "quorum_peers: {url} is not enrolled in {}; run `federationd id` there, and here \
         `federationd peer add --full --id <id> --url {url} --key <key> --peers-file {}`",
        peers_file.display(),
        peers_file.display()
    )]
    PeerNotEnrolled {
        /// The URL.
        url: String,
        /// The enrolments.
        peers_file: PathBuf,
    },
    /// A peer that was picked was removed.
    #[error("quorum_peers: {url} belongs to {id}, which is retired: enrol it anew, or do not pick it")]
    PeerRetired {
        /// The URL.
        url: String,
        /// The node.
        id: String,
    },
    /// This node stands among its peers.
    #[error("peers file {}: {found} is this node itself: remove that entry", peers_file.display())]
    SelfPeer {
        /// What tells it: its id, its key or its address.
        found: String,
        /// The enrolments.
        peers_file: PathBuf,
    },
    /// Plain HTTP to a peer off loopback.
    #[error(
        "peer {id}: {url} is plain HTTP off loopback: enrol it with https:// (`federationd peer add --replace`), and leave peer_tls on there"
    )]
    PeerUrlOffLoopback {
        /// The peer.
        id: String,
        /// Its URL.
        url: String,
    },
    /// The data directory cannot be used.
    #[error("data_dir {}: {problem}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: DataDirProblem,
    },
    /// The node did not start for another reason.
    #[error(transparent)]
    Node(#[from] federation_net::error::StartError),
}

/// Why a file of a certificate or its key is not taken.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileProblem {
    /// It cannot be read, or is open to others.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// It is not PEM. What it holds is not told: it may be a key.
    #[error("is not PEM, as in -----BEGIN CERTIFICATE----- or -----BEGIN PRIVATE KEY-----")]
    NotPem,
    /// It is PEM of something else.
    #[error("is PEM without a private key (RSA, ECDSA or Ed25519) in it")]
    NotInIt,
    /// What it holds is not taken.
    #[error(transparent)]
    Pki(#[from] PkiFault),
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirProblem {
    /// It is something else than a directory.
    #[error("is not a directory")]
    NotADirectory,
    /// `--new-mesh` on a directory that holds something.
    #[error(
        "is not empty, and --new-mesh begins a new mesh: start without --new-mesh, or choose an empty directory"
    )]
    NotEmpty,
    /// It cannot be made or written.
    #[error("cannot be written: {0}; mend its owner or mode, or choose another directory")]
    Unwritable(io::Error),
    /// The disk is full.
    #[error("its disk is full: free at least {} MiB, or choose another directory", needed_bytes / (1024 * 1024))]
    Full {
        /// What the store needs.
        needed_bytes: u64,
    },
    /// The store says so.
    #[error("{}", chain(.0))]
    Store(#[from] federation_store::OpenError),
    /// Another process has it.
    #[error("is in use by another process: stop that one, or choose another directory")]
    InUse,
}

/// An error with all that it came from: a start that fails is told once, in full.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// All reasons not to start, at once.
#[derive(Debug)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "federationd does not start: {one}"),
            several => {
                write!(f, "federationd does not start, for {} reasons:", several.len())?;
                several.iter().try_for_each(|fault| write!(f, "\n  - {fault}"))
            }
        }
    }
}

impl std::error::Error for Faults {}
