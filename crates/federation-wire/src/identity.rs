//! Who is enrolled: the entries of `peers.toml`, and the directory they make.
//!
//! The raw types derive serde and hold what the file says; [`Directory::new`] turns them into what they mean, with all
//! faults at once. Reading and writing the file belongs to the daemon.

mod directory;
mod url;

pub(crate) use directory::ACCEPTED_SERIES_MAX;
pub use directory::{Directory, DirectoryFault, EnrolledKey, EnrolledNode, FaultKind, KeyRefusal};
pub use url::{PeerUrl, UrlError};

use federation_core::id::BootId;
use serde::{Deserialize, Serialize};

/// The file: one `[[peer]]` per node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeersFile {
    /// The entries, in the order of the file.
    #[serde(default, rename = "peer", skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Enrolment>,
}

/// One node's entry. A scope that is absent means nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// Its node id.
    pub id: String,
    /// Its peer URL; absent: an origin that is trusted, but not dialled and not in n.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its keys.
    pub keys: Vec<KeyEntry>,
    /// What it keeps: what counts in n.
    #[serde(default)]
    pub replicates: Vec<String>,
    /// What may leave to it.
    #[serde(default)]
    pub grant: Vec<String>,
    /// In what ops of this origin are taken, direct or relayed.
    #[serde(default)]
    pub accept: Vec<String>,
    /// In what its completion is trusted for other origins.
    #[serde(default)]
    pub relay: Vec<String>,
    /// Whom it may speak for: agent ids, or what they begin with (`team-*`); `*` is anyone. Absent: nobody.
    #[serde(default)]
    pub authors: Vec<String>,
    /// The kinds of records that are taken from it; `*` is any. Absent: none.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// SHA-256 of its certificate, as 64 hexadecimal digits, where an operator brings a PKI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_fingerprint: Option<String>,
    /// What it speaks.
    #[serde(default, skip_serializing_if = "ProtocolChoice::is_auto")]
    pub protocol: ProtocolChoice,
}

/// One key of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// `ed25519:` and 43 characters of base64url.
    pub key: String,
    /// Its id as 16 hexadecimal digits, for people; must be the key's own where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What it is good for.
    pub state: KeyState,
    /// Of a revoked key: what it sealed before it fell into other hands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<AcceptedSeries>,
}

/// The part of a series of ops that is still taken under a revoked key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptedSeries {
    /// The epoch: 16 hexadecimal digits.
    pub epoch: String,
    /// The last number that is taken, from 1.
    pub last_seq: u64,
}

/// What a key is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Connects and seals.
    Active,
    /// Verifies what it sealed before, and nothing else.
    Retired,
    /// Verifies the part of it that is named as accepted, and nothing else.
    Revoked,
}

impl KeyState {
    /// The word of the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Revoked => "revoked",
        }
    }
}

/// What a node speaks on the peer routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProtocolChoice {
    /// What hello finds out.
    #[default]
    Auto,
    /// The native frame.
    Native,
    /// The JSON contract.
    Json,
}

impl ProtocolChoice {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

impl AcceptedSeries {
    /// This series, up to this number.
    pub fn new(epoch: BootId, last_seq: u64) -> Self {
        Self { epoch: epoch.to_string(), last_seq }
    }
}

impl KeyEntry {
    /// The entry of a key that connects and seals.
    pub fn active(key: &crate::keys::PublicKey) -> Self {
        let id = Some(key.id().to_string());
        Self { key: key.to_string(), id, state: KeyState::Active, accepted: Vec::new() }
    }
}

impl Enrolment {
    /// All that says what it is trusted with.
    pub fn trust_lists(&mut self) -> [&mut Vec<String>; 6] {
        let Self { replicates, grant, accept, relay, authors, kinds, .. } = self;
        [replicates, grant, accept, relay, authors, kinds]
    }

    /// The entry of a node that is trusted in full: `**` in all four scopes, `*` for authors and kinds, one active key.
    pub fn full(id: &str, url: &str, key: &crate::keys::PublicKey) -> Self {
        let all = || vec!["**".to_owned()];
        Self {
            id: id.to_owned(),
            url: Some(url.to_owned()),
            keys: vec![KeyEntry::active(key)],
            replicates: all(),
            grant: all(),
            accept: all(),
            relay: all(),
            authors: vec!["*".to_owned()],
            kinds: vec!["*".to_owned()],
            tls_fingerprint: None,
            protocol: ProtocolChoice::Auto,
        }
    }
}
