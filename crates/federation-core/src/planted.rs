//! Known defects, one of which can be planted, to show that tests, the simulator and chaos campaigns can go red.
//!
//! Each stands at its site as `if is_planted(Defect::...)`. Without the feature `planted-bugs`, which no release
//! build has, that is false at compile time and nothing of it is left.

#[cfg(feature = "planted-bugs")]
use std::sync::atomic::{AtomicU8, Ordering};

/// A rule of the design that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Defect {
    /// Groups are written and never synced.
    LazyFsync,
    /// Pages are acknowledged before the store has answered.
    AckBeforeCommit,
    /// A session's pages leave ops out.
    CursorSkips,
    /// Segments of the log go before what is live in them was copied.
    RemoveBeforeCopy,
    /// Tombstones are not kept.
    ForgetTombstone,
    /// Of concurrent versions one is kept.
    LwwDrop,
    /// Frames are taken again.
    AcceptReplay,
    /// Completion covers what was refused.
    CompleteOverRefused,
    /// Completion covers what a refused op had replaced.
    CompleteOverContexts,
    /// What an ended boot had is believed of the next.
    BelieveOldBoots,
    /// The last epoch always goes on.
    ReuseEpoch,
    /// Tombstones compete for visibility.
    TombstoneHides,
    /// Holes are filled over unseen versions.
    FillUnseenHoles,
    /// Nodes that re-bootstrap wait for each other.
    WaitForWholePeers,
    /// The merge drops siblings beyond a bound.
    BoundInApply,
    /// Contexts have no holes.
    PlainMaxima,
    /// A wiped origin gives up the numbers that it has lost.
    VoidLostSeqs,
    /// Namespaces outside the scope leave and enter.
    ScopeLeak,
    /// Completion covers what is held back.
    CompleteBeyondScope,
    /// What a revoked key seals is taken.
    BelieveRevokedKeys,
}

/// A defect that cannot be planted yet: what it would break is not built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StillToCome {
    /// The name that it will have.
    pub name: &'static str,
    /// What will be wrong.
    pub what: &'static str,
    /// The counterexample of the design that it lets happen.
    pub counterexample: Option<&'static str>,
    /// What must be built first.
    pub needs: &'static str,
}

impl Defect {
    /// All of them: those of the chaos campaigns, then the rules of the design in the order of their counterexamples.
    pub const ALL: [Self; 20] = [
        Self::LazyFsync,
        Self::AckBeforeCommit,
        Self::CursorSkips,
        Self::RemoveBeforeCopy,
        Self::ForgetTombstone,
        Self::LwwDrop,
        Self::AcceptReplay,
        Self::CompleteOverRefused,
        Self::CompleteOverContexts,
        Self::BelieveOldBoots,
        Self::ReuseEpoch,
        Self::TombstoneHides,
        Self::FillUnseenHoles,
        Self::WaitForWholePeers,
        Self::BoundInApply,
        Self::PlainMaxima,
        Self::VoidLostSeqs,
        Self::ScopeLeak,
        Self::CompleteBeyondScope,
        Self::BelieveRevokedKeys,
    ];

    /// Its name, as options and environment variables have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LazyFsync => "lazy-fsync",
            Self::AckBeforeCommit => "ack-before-commit",
            Self::CursorSkips => "cursor-skips",
            Self::RemoveBeforeCopy => "remove-before-copy",
            Self::ForgetTombstone => "forget-tombstone",
            Self::LwwDrop => "lww-drop",
            Self::AcceptReplay => "accept-replay",
            Self::CompleteOverRefused => "complete-over-refused",
            Self::CompleteOverContexts => "complete-over-contexts",
            Self::BelieveOldBoots => "believe-old-boots",
            Self::ReuseEpoch => "reuse-epoch",
            Self::TombstoneHides => "tombstone-hides",
            Self::FillUnseenHoles => "fill-unseen-holes",
            Self::WaitForWholePeers => "wait-for-whole-peers",
            Self::BoundInApply => "bound-in-apply",
            Self::PlainMaxima => "plain-maxima",
            Self::VoidLostSeqs => "void-lost-seqs",
            Self::ScopeLeak => "scope-leak",
            Self::CompleteBeyondScope => "complete-beyond-scope",
            Self::BelieveRevokedKeys => "believe-revoked-keys",
        }
    }

    /// The defect of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|defect| defect.name() == name)
    }

    /// What is wrong, in one sentence.
    pub const fn what(self) -> &'static str {
        match self {
            Self::LazyFsync => {
                "A group is written to the log and never synced, and all that waits for it is answered."
            }
            Self::AckBeforeCommit => {
                "The ops of a page are acknowledged as applied while the store still works on them."
            }
            Self::CursorSkips => "Some ops of a session are never sent, and the session is claimed complete.",
            Self::RemoveBeforeCopy => {
                "Compaction removes segments of the log before what is live in them was copied."
            }
            Self::ForgetTombstone => "A delete removes what it covers and leaves no tombstone.",
            Self::LwwDrop => "Of concurrent versions only the one with the greatest time stays.",
            Self::AcceptReplay => {
                "A request is taken whatever its boot, time and nonce say, so also a second time."
            }
            Self::CompleteOverRefused => "Completion covers the ops that the receiver refused.",
            Self::CompleteOverContexts => {
                "Completion leaves out a refused op, but not the versions that it had replaced."
            }
            Self::BelieveOldBoots => {
                "What was known of a peer's clock outlives its boot, and what was meant for one boot counts in the next."
            }
            Self::ReuseEpoch => "A node goes on with its last series of dots, whatever its peers know of it.",
            Self::TombstoneHides => {
                "A tombstone with the latest time hides versions that whoever deleted had not seen."
            }
            Self::FillUnseenHoles => {
                "Holes of a context are filled over versions that the writer had not seen, and over what these cover."
            }
            Self::WaitForWholePeers => {
                "A node that re-bootstraps counts no peer that does so too, not even when there are no others."
            }
            Self::BoundInApply => {
                "The merge keeps two versions of a record and drops the oldest beyond that."
            }
            Self::PlainMaxima => "A context covers every number up to its greatest.",
            Self::VoidLostSeqs => {
                "A node whose disk was lost takes all numbers of its earlier epochs that a peer knows for its own."
            }
            Self::ScopeLeak => "An op leaves or enters outside the scope of the peer.",
            Self::CompleteBeyondScope => {
                "Completion covers ops that the sender does not send, because they are outside its scope or its grant."
            }
            Self::BelieveRevokedKeys => "Ops are taken under a revoked key whatever their numbers are.",
        }
    }

    /// The counterexample of the design that it lets happen, where it is one of its rules that is taken out.
    pub const fn counterexample(self) -> Option<&'static str> {
        match self {
            Self::LazyFsync
            | Self::AckBeforeCommit
            | Self::CursorSkips
            | Self::RemoveBeforeCopy
            | Self::ForgetTombstone
            | Self::LwwDrop
            | Self::AcceptReplay
            | Self::ScopeLeak
            | Self::BelieveRevokedKeys => None,
            Self::CompleteOverRefused => Some("1"),
            Self::CompleteOverContexts => Some("1b"),
            Self::BelieveOldBoots => Some("2"),
            Self::ReuseEpoch => Some("4"),
            Self::TombstoneHides => Some("6"),
            Self::FillUnseenHoles => Some("8"),
            Self::WaitForWholePeers => Some("10"),
            Self::BoundInApply => Some("11"),
            Self::PlainMaxima => Some("12"),
            Self::VoidLostSeqs => Some("13"),
            Self::CompleteBeyondScope => Some("5"),
        }
    }
}

/// The defects that are still to come, with what each waits for.
pub const STILL_TO_COME: [StillToCome; 4] = [
    StillToCome {
        name: "overlook-rollback",
        what: "A peer whose disk went back to an older state is served and believed as if it had not.",
        counterexample: Some("3"),
        needs: "the verdict that a peer must re-bootstrap",
    },
    StillToCome {
        name: "collect-lone-only",
        what: "A tombstone is collected only where it has no siblings.",
        counterexample: Some("6b"),
        needs: "collection of tombstones",
    },
    StillToCome {
        name: "collect-unasked",
        what: "A tombstone is collected by what the peers have, whatever the collector itself has.",
        counterexample: Some("7"),
        needs: "collection of tombstones",
    },
    StillToCome {
        name: "dead-if-covered",
        what: "A version is called dead although a live one at the peer had seen it.",
        counterexample: Some("9"),
        needs: "the exchange of dead versions at the end of a re-bootstrap",
    },
];

/// Whether this defect is planted in this process.
#[cfg(feature = "planted-bugs")]
pub fn is_planted(defect: Defect) -> bool {
    PLANTED.load(Ordering::Relaxed) == number(defect)
}

/// Whether this defect is planted in this process: never, without the feature `planted-bugs`.
#[cfg(not(feature = "planted-bugs"))]
pub const fn is_planted(_: Defect) -> bool {
    false
}

/// Plants a defect in this process in place of the one before; `None` takes it out. It holds for every node that the
/// process runs, from the next time that each passes the site.
#[cfg(feature = "planted-bugs")]
pub fn plant(defect: Option<Defect>) {
    PLANTED.store(defect.map_or(NONE, number), Ordering::Relaxed);
}

#[cfg(feature = "planted-bugs")]
static PLANTED: AtomicU8 = AtomicU8::new(NONE);

#[cfg(feature = "planted-bugs")]
const NONE: u8 = 0;

#[cfg(feature = "planted-bugs")]
const fn number(defect: Defect) -> u8 {
    defect as u8 + 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_lead_back_to_their_defects() {
        for defect in Defect::ALL {
            assert_eq!(Defect::from_name(defect.name()), Some(defect));
        }
        assert_eq!(Defect::from_name("collect-unasked"), None, "it is still to come");
        assert_eq!(Defect::from_name(""), None);
    }

    #[test]
    fn every_name_and_every_counterexample_stands_once() {
        let names: BTreeSet<_> =
            Defect::ALL.iter().map(|d| d.name()).chain(STILL_TO_COME.iter().map(|d| d.name)).collect();
        assert_eq!(names.len(), Defect::ALL.len() + STILL_TO_COME.len());
        let mut counterexamples: Vec<_> = Defect::ALL.iter().filter_map(|d| d.counterexample()).collect();
        counterexamples.extend(STILL_TO_COME.iter().filter_map(|d| d.counterexample));
        counterexamples.sort_unstable();
        let all = ["1", "10", "11", "12", "13", "1b", "2", "3", "4", "5", "6", "6b", "7", "8", "9"];
        assert_eq!(counterexamples, all);
    }

    #[cfg(not(feature = "planted-bugs"))]
    #[test]
    fn nothing_is_planted_without_the_feature() {
        const { assert!(!is_planted(Defect::LazyFsync)) }
        assert!(!Defect::ALL.into_iter().any(is_planted));
    }
}
