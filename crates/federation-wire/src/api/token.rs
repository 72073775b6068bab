//! Client tokens: the entries of the tokens file, and what they mean.
//!
//! The raw types derive serde and hold what the file says; [`Tokens::new`] turns them into what they mean, with all
//! faults at once. Reading and writing the file belongs to the daemon.

mod fault;
mod id;
mod secret;
mod tokens;

pub use fault::{TokenFault, TokenFaultKind};
pub use id::{TokenId, TokenIdError};
pub use secret::{ClientSecret, SecretError, SecretHash};
pub use tokens::{Agents, Token, Tokens};

use serde::{Deserialize, Serialize};

/// The file: one `[[token]]` per token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokensFile {
    /// The entries, in the order of the file.
    #[serde(default, rename = "token", skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenEntry>,
}

/// One token. The secret itself stands nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// Its public name, as it stands in logs.
    pub id: String,
    /// The hash of its secret, as [`SecretHash`] prints it.
    pub hash: String,
    /// The agents that it may write as, or `*` alone for any.
    pub agents: Vec<String>,
    /// The namespaces that it reaches, as globs; absent means none.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// What it may do there.
    pub rights: Vec<Right>,
    /// When it was made, as an RFC 3339 time.
    pub created: String,
    /// When it ends, as an RFC 3339 time; absent means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// What a token may do. No right includes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// See memories.
    Read,
    /// Create, change and delete memories.
    Write,
    /// See the node's metrics.
    Metrics,
    /// See and steer the node itself.
    Admin,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Metrics, Self::Admin];

    /// The word, as it stands in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Metrics => "metrics",
            Self::Admin => "admin",
        }
    }
}
