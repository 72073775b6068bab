//! What goes wrong with the key file and the enrolments.

use std::io;
use std::path::PathBuf;

use federation_core::id::KeyId;
use federation_wire::identity::DirectoryFault;
use federation_wire::keys::KeyError;

/// Why a key or an enrolment could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// There is no key file.
    #[error("key file {}: missing; make one with `federationd keygen --key-file {}`", path.display(), path.display())]
    KeyMissing {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner may use the key file.
    #[error("key file {}: its mode is {mode:04o}, open to others; run `chmod 600 {}`", path.display(), path.display())]
    KeyTooOpen {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The path names something else.
    #[error("key file {}: not a regular file", path.display())]
    KeyNotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file holds something else.
    #[error("key file {}: {fault}; restore it from a copy, or make a new key and enrol it at every peer", path.display())]
    KeyMalformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: KeyError,
    },
    /// There is a key file already.
    #[error(
        "key file {}: exists; with --force it is replaced, and this node must be enrolled anew at every peer",
        path.display()
    )]
    KeyExists {
        /// The file.
        path: PathBuf,
    },
    /// The key would lie in the data directory.
    #[error(
        "key file {}: lies in the data directory {}; a lost or restored disk must not take the node's identity along: \
         put it beside the config",
        path.display(),
        data_dir.display()
    )]
    KeyInDataDir {
        /// The file.
        path: PathBuf,
        /// The directory.
        data_dir: PathBuf,
    },
    /// A file could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The enrolments that were named are not there.
    #[error(
        "peers file {}: missing; a file that is named must exist: enrol a peer with `federationd peer add --peers-file {}`",
        path.display(),
        path.display()
    )]
    PeersMissing {
        /// The file.
        path: PathBuf,
    },
    /// The enrolments have another form.
    #[error("peers file {}: {message}", path.display())]
    PeersForm {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        message: String,
    },
    /// Entries of the enrolments are faulty.
    #[error("peers file {}: {}", path.display(), listed(faults))]
    PeersFaulty {
        /// The file.
        path: PathBuf,
        /// Each fault, with its entry and field.
        faults: Vec<DirectoryFault>,
    },
    /// There is no entry of that id.
    #[error("{id} is not enrolled")]
    NotEnrolled {
        /// The id.
        id: String,
    },
    /// There is an entry of that id.
    #[error("{id} is enrolled already; `federationd peer remove {id}` retires it, --replace replaces it")]
    Enrolled {
        /// The id.
        id: String,
    },
    /// The node has this key.
    #[error("the key {key} of {id} is enrolled already")]
    KeyEnrolled {
        /// The node.
        id: String,
        /// The key.
        key: KeyId,
    },
    /// The node has no such key.
    #[error("{id} has no key {key}: `federationd peer show` lists those that it has")]
    KeyNotEnrolled {
        /// The node.
        id: String,
        /// The key.
        key: KeyId,
    },
    /// The key is revoked, which nothing undoes.
    #[error("the key {key} of {id} is revoked: it can be neither retired nor used again")]
    KeyRevoked {
        /// The node.
        id: String,
        /// The key.
        key: KeyId,
    },
    /// No active key would be left.
    #[error(
        "{id} would have no key to connect with: add its new one first, or take it out of the mesh with \
         `federationd peer remove {id}`"
    )]
    LastKey {
        /// The node.
        id: String,
        /// The key.
        key: KeyId,
    },
    /// What is still accepted is not in its form.
    #[error("--accept takes <epoch, 16 hexadecimal digits>:<last number>, not {given:?}")]
    Accept {
        /// What was given.
        given: String,
    },
    /// The key's id is not one.
    #[error("a key id is 16 hexadecimal digits, not {given:?}")]
    KeyIdForm {
        /// What was given.
        given: String,
    },
    /// The line is not one that `federationd id` prints.
    #[error(
        "--from takes the line that `federationd id` prints at the other node: {missing} is missing in it"
    )]
    Line {
        /// The option that is missing.
        missing: &'static str,
    },
    /// This node's id is not known.
    #[error(transparent)]
    Id(#[from] federation_core::id::IdError),
}

fn listed(faults: &[DirectoryFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
