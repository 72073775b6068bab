//! What is wrong with an entry of the tokens file.

use std::fmt;

use federation_core::id::IdError;
use federation_core::scope::ScopeError;

use super::id::TokenIdError;
use super::secret::SecretHashError;

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFault {
    /// Place of the entry in the file, from 1.
    pub entry: usize,
    /// The id that the entry gives.
    pub id: String,
    /// The field at fault.
    pub field: &'static str,
    /// What is wrong with it.
    pub kind: TokenFaultKind,
}

/// What is wrong with a field of an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFaultKind {
    /// The id is not one.
    #[error(transparent)]
    Id(#[from] TokenIdError),
    /// Two entries have this id.
    #[error("another entry has the same id: choose another")]
    DuplicateId,
    /// The hash is not one.
    #[error(transparent)]
    Hash(#[from] SecretHashError),
    /// Two entries have this hash: one secret cannot have the rights of both.
    #[error("another entry has the same hash: remove one of them")]
    DuplicateHash,
    /// An agent is not one.
    #[error("{0}; \"*\" alone stands for any agent")]
    Agent(IdError),
    /// There is no agent, or there are too many.
    #[error("a token has 1 to {limit} agents, this one has {count}")]
    AgentCount {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The namespaces are no scope.
    #[error("{}", with_why(.0))]
    Scope(ScopeError),
    /// A token that reads or writes reaches nothing.
    #[error("a token that may read or write needs a namespace, as in \"team/**\"")]
    NoNamespace,
    /// There is no right.
    #[error("a token needs a right: read, write, metrics or admin")]
    NoRight,
    /// A time is not one.
    #[error("a time is written as in 2030-01-31T00:00:00Z")]
    Time,
    /// It ends before it begins.
    #[error("the token expires before it was created")]
    Order,
    /// There are too many entries.
    #[error("there are more than {limit} tokens: revoke those that have expired")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token {} ({:?}), {}: {}", self.entry, self.id, self.field, self.kind)
    }
}

impl std::error::Error for TokenFault {}

/// Faults of a start are told in one line each, so the reason stands with them.
fn with_why(error: &ScopeError) -> String {
    match error {
        ScopeError::Glob { why, .. } => format!("{error}: {why}"),
        ScopeError::TooMany { .. } => error.to_string(),
    }
}
