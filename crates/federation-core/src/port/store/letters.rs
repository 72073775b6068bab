//! Dead letters: what is remembered of the ops that a peer refused for good.

use super::Facts;
use crate::dot::Dot;
use crate::id::NodeId;

/// A live op that a peer refused for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why.
    pub reason: RefusalReason,
    /// Whether somebody has given it up: it is then sent again only if it is asked for by name.
    pub is_discarded: bool,
}

/// Why a peer refused an op for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalReason {
    /// Out of scope, author not the origin's, kind not allowed.
    Forbidden,
    /// Proof or content not valid there.
    Invalid,
    /// Larger than it takes.
    TooLarge,
}

impl RefusalReason {
    /// Whether the peer may take the op once its settings are others.
    pub const fn may_end(self) -> bool {
        match self {
            Self::Forbidden | Self::Invalid => true,
            Self::TooLarge => false,
        }
    }

    /// Stable, for machines.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::Invalid => "invalid",
            Self::TooLarge => "too_large",
        }
    }
}

impl DeadLetter {
    /// Whether it goes to the peer once more by itself, when the peer takes other ops than it did.
    pub const fn may_end(self) -> bool {
        self.reason.may_end() && !self.is_discarded
    }
}

impl Facts {
    /// The dead letter of an op at a peer.
    pub fn dead_letter(&self, peer: &NodeId, dot: &Dot) -> Option<DeadLetter> {
        self.dead_letters.get(peer).and_then(|letters| letters.get(dot)).copied()
    }

    /// The dead letters of a peer.
    pub fn dead_letters_of(&self, peer: &NodeId) -> impl Iterator<Item = (&Dot, DeadLetter)> {
        self.dead_letters.get(peer).into_iter().flatten().map(|(dot, letter)| (dot, *letter))
    }
}
