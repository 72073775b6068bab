//! What the product promises.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the product promises, by the name the documents give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Guarantee {
    /// No acknowledged write is lost.
    G1,
    /// An acknowledged write is on as many disks as it had to be.
    G2,
    /// All nodes reach the same state in time after healing.
    G3,
    /// A delete stays deleted.
    G4,
    /// Concurrent writes are both kept.
    G5,
    /// A quorum read sees what was acknowledged before it.
    G6,
    /// An answer that promises nothing has a documented shape, and is true.
    G7,
    /// Nothing enters that may not.
    G8,
    /// No node crashes, hangs, or grows without bound.
    G9,
    /// A session does not go back in causal order.
    G10,
}

/// Not the name of a guarantee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownGuarantee(pub String);

impl Guarantee {
    /// All of them.
    pub const ALL: [Self; 10] =
        [Self::G1, Self::G2, Self::G3, Self::G4, Self::G5, Self::G6, Self::G7, Self::G8, Self::G9, Self::G10];

    /// It in one sentence.
    pub const fn promise(self) -> &'static str {
        match self {
            Self::G1 => {
                "A write that was acknowledged is never lost: in the end it is on every node, or was replaced by one \
                 that had seen it."
            }
            Self::G2 => "When a write is acknowledged, as many disks hold it as its quorum asks for.",
            Self::G3 => {
                "When all faults have ended, all nodes are equal within 5 s and a second per 5,000 ops of backlog."
            }
            Self::G4 => "What was deleted does not come back.",
            Self::G5 => {
                "Two writes that had not seen each other are both kept until a later one has seen both."
            }
            Self::G6 => "A read of R nodes sees every write to W nodes acknowledged before it, if R + W > N.",
            Self::G7 => {
                "A write that misses its quorum is told so in the documented way, and a repeated one makes no second \
                 record."
            }
            Self::G8 => "Nothing enters a node that its origin did not sign or that its sender may not send.",
            Self::G9 => "No node crashes, hangs, or grows without bound.",
            Self::G10 => "What a session has read or written once, it does not miss in a later read.",
        }
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Display for UnknownGuarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no guarantee: they are G1 to G10", self.0)
    }
}

impl Error for UnknownGuarantee {}

impl FromStr for Guarantee {
    type Err = UnknownGuarantee;

    fn from_str(text: &str) -> Result<Self, UnknownGuarantee> {
        let found = Self::ALL.into_iter().find(|guarantee| guarantee.to_string() == text);
        found.ok_or_else(|| UnknownGuarantee(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_has_a_name_that_leads_back_to_it_and_a_promise_of_its_own() {
        for guarantee in Guarantee::ALL {
            assert_eq!(guarantee.to_string().parse(), Ok(guarantee));
        }
        let promises: BTreeSet<_> = Guarantee::ALL.map(Guarantee::promise).into();
        assert_eq!(promises.len(), Guarantee::ALL.len());
        for odd in ["", "G0", "G11", "g3", " G3"] {
            assert_eq!(odd.parse::<Guarantee>(), Err(UnknownGuarantee(odd.to_owned())));
        }
    }
}
