//! What a receiver says of one op.

use federation_core::attest::Forbidden;
use federation_core::dot::Dot;
use federation_core::id::OpHash;
use federation_core::port::store::RefusalReason;
use federation_core::quorum::ack_tracker::{AckStatus, Deferral, Refusal};
use serde::{Deserialize, Serialize};

use crate::embedding::VectorFault;
use crate::receipt::AckSignature;

/// What became of one op of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpAck {
    /// The op's name; none if its bytes could not be read.
    pub dot: Option<Dot>,
    /// The hash of the op that is held under that name; of the one received where none is.
    pub hash: OpHash,
    /// What became of it.
    pub outcome: AckOutcome,
    /// What else there is to say.
    pub note: Option<AckNote>,
    /// The signed form of this ack, where the page asked for it and the op was taken. With the answer's position it is a
    /// [`crate::receipt::SignedAck`].
    pub signature: Option<AckSignature>,
}

/// Whether an op was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AckOutcome {
    /// It is durable, and live now.
    Applied,
    /// It had been there before.
    Duplicate,
    /// It is durable that a live version had seen it.
    Superseded,
    /// It was not taken.
    Refused(OpRefusal),
}

/// Why an op was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OpRefusal {
    /// Its namespace is outside what is taken of its origin.
    NamespaceOutOfScope,
    /// Its author is not one that its origin may speak for.
    AuthorNotAllowed,
    /// Its kind is not taken.
    KindNotAllowed,
    /// Its proof is wrong.
    ProofInvalid,
    /// Its origin is not enrolled, or has no such key.
    UnknownOrigin,
    /// Another op is live under its dot.
    Equivocation,
    /// Its bytes are not an op in its one form.
    Malformed,
    /// Its content breaks the rules of its kind.
    RuleViolation,
    /// It is larger than what is taken.
    TooLarge,
    /// A queue is full: for now.
    Busy,
    /// There is no room: for now.
    DiskFull,
    /// Its HLC is too far ahead: for now.
    ClockAhead,
    /// The store takes no writes: for now.
    StoreReadOnly,
    /// It is sealed under a revoked key, and not among what is still taken under it.
    KeyRevoked,
}

/// What else there is to say of an op that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AckNote {
    /// Its vector is of no use and was left out.
    VectorRefused(VectorRefusal),
}

/// Why a vector was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VectorRefusal {
    /// It has no component.
    Empty,
    /// It has too many components.
    TooLong,
    /// A component is NaN or infinite.
    NotFinite,
    /// All components are zero.
    Zero,
    /// The model's name is empty or too long.
    Model,
    /// It is said to have unit norm and does not.
    NotUnit,
}

impl From<AckStatus> for AckOutcome {
    fn from(status: AckStatus) -> Self {
        match status {
            AckStatus::Applied => Self::Applied,
            AckStatus::Duplicate => Self::Duplicate,
            AckStatus::Superseded => Self::Superseded,
        }
    }
}

impl AckOutcome {
    /// The outcome in core's terms.
    pub fn status(self) -> Result<AckStatus, Refusal> {
        match self {
            Self::Applied => Ok(AckStatus::Applied),
            Self::Duplicate => Ok(AckStatus::Duplicate),
            Self::Superseded => Ok(AckStatus::Superseded),
            Self::Refused(refusal) => Err(refusal.class()),
        }
    }

    /// Stable, machine-readable.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Duplicate => "duplicate",
            Self::Superseded => "superseded",
            Self::Refused(refusal) => refusal.slug(),
        }
    }
}

impl From<Forbidden> for OpRefusal {
    fn from(why: Forbidden) -> Self {
        match why {
            Forbidden::NamespaceOutOfScope => Self::NamespaceOutOfScope,
            Forbidden::AuthorNotAllowed => Self::AuthorNotAllowed,
            Forbidden::KindNotAllowed => Self::KindNotAllowed,
        }
    }
}

impl OpRefusal {
    /// Whether the refusal is for good, and of which class.
    pub fn class(self) -> Refusal {
        match self {
            Self::NamespaceOutOfScope | Self::AuthorNotAllowed | Self::KindNotAllowed => {
                Refusal::ForGood(RefusalReason::Forbidden)
            }
            Self::ProofInvalid
            | Self::UnknownOrigin
            | Self::KeyRevoked
            | Self::Equivocation
            | Self::Malformed
            | Self::RuleViolation => Refusal::ForGood(RefusalReason::Invalid),
            Self::TooLarge => Refusal::ForGood(RefusalReason::TooLarge),
            Self::Busy | Self::StoreReadOnly => Refusal::ForNow(Deferral::Busy),
            Self::DiskFull => Refusal::ForNow(Deferral::DiskFull),
            Self::ClockAhead => Refusal::ForNow(Deferral::ClockAhead),
        }
    }

    /// Stable, machine-readable.
    pub fn slug(self) -> &'static str {
        match self {
            Self::NamespaceOutOfScope => "namespace_out_of_scope",
            Self::AuthorNotAllowed => "author_not_allowed",
            Self::KindNotAllowed => "kind_not_allowed",
            Self::ProofInvalid => "proof_invalid",
            Self::UnknownOrigin => "unknown_origin",
            Self::Equivocation => "equivocation",
            Self::Malformed => "malformed",
            Self::RuleViolation => "rule_violation",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
            Self::DiskFull => "disk_full",
            Self::ClockAhead => "clock_ahead",
            Self::StoreReadOnly => "store_read_only",
            Self::KeyRevoked => "key_revoked",
        }
    }
}

impl From<VectorFault> for AckNote {
    fn from(fault: VectorFault) -> Self {
        Self::VectorRefused(match fault {
            VectorFault::Empty => VectorRefusal::Empty,
            VectorFault::TooLong { .. } => VectorRefusal::TooLong,
            VectorFault::NotFinite { .. } => VectorRefusal::NotFinite,
            VectorFault::Zero => VectorRefusal::Zero,
            VectorFault::NotUnit => VectorRefusal::NotUnit,
            VectorFault::Model { .. } => VectorRefusal::Model,
        })
    }
}
