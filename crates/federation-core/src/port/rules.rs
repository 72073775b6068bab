//! What a valid record of a kind is.

use crate::op::Op;

/// Why an op's content breaks the rules of its kind. A stable slug and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{slug}: {message}")]
pub struct RuleViolation {
    /// Stable, machine-readable.
    pub slug: &'static str,
    /// For people: names the field and the limit.
    pub message: String,
}

/// The rules that an op's content must meet, by kind. Pure and the same on every node: a rule that differs
/// between nodes keeps them different.
pub trait RecordRules: Send + Sync {
    /// Whether `op` may be stored.
    fn check(&self, op: &Op) -> Result<(), RuleViolation>;
}
