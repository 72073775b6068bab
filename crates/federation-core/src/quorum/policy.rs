//! How many replicas a write needs.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use crate::limits::NODES_MAX;
use crate::time::DurationMs;

/// How many replicas there are, how many of them must hold a write before it is answered, and how long that may take.
///
/// Valid as made: `1 <= w <= n <= NODES_MAX`. Nothing is clamped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuorumPolicy {
    n: usize,
    w: usize,
    ack_timeout: DurationMs,
    clock_skew_warn: DurationMs,
}

impl QuorumPolicy {
    /// The policy of `n` replicas, this node included, of which `w` must hold a write within `ack_timeout`.
    ///
    /// A peer whose clock differs by more than `clock_skew_warn` is worth a warning.
    ///
    /// # Errors
    /// Where the numbers contradict each other: see [`PolicyError`].
    pub fn new(
        n: usize,
        w: usize,
        ack_timeout: DurationMs,
        clock_skew_warn: DurationMs,
    ) -> Result<Self, PolicyError> {
        check_n(n)?;
        check_w(w, n)?;
        if ack_timeout == DurationMs(0) && w > 1 {
            return Err(PolicyError::NoTime { w });
        }
        Ok(Self { n, w, ack_timeout, clock_skew_warn })
    }

    /// Replicas, this node included.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Replicas that must hold a write, this node included.
    pub fn w(&self) -> usize {
        self.w
    }

    /// How long a write waits for its quorum.
    pub fn ack_timeout(&self) -> DurationMs {
        self.ack_timeout
    }

    /// How far a peer's clock may differ without a warning.
    pub fn clock_skew_warn(&self) -> DurationMs {
        self.clock_skew_warn
    }
}

/// The smallest number of replicas of which any two sets of that size share one.
pub const fn majority(n: usize) -> usize {
    n / 2 + 1
}

/// How many replicas a write is to wait for, before the number of replicas is known.
///
/// In text: `one`, `majority`, `all`, or a number from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WriteLevel {
    /// This node alone.
    One,
    /// More than half.
    #[default]
    Majority,
    /// Every one.
    All,
    /// This many.
    Count(usize),
}

impl WriteLevel {
    /// The number that it asks for among `n` replicas. A [`WriteLevel::Count`] is what it says, also above `n`:
    /// a write in a namespace with too few replicas fails, it does not shrink.
    pub fn needed(self, n: usize) -> usize {
        match self {
            Self::One => 1,
            Self::Majority => majority(n),
            Self::All => n,
            Self::Count(count) => count,
        }
    }

    /// The number that it asks for among `n` replicas, which can supply it.
    ///
    /// # Errors
    /// [`PolicyError::OutOfRange`] if they cannot, [`PolicyError::NoReplica`] or
    /// [`PolicyError::TooManyReplicas`] if `n` itself is none.
    pub fn resolve(self, n: usize) -> Result<usize, PolicyError> {
        check_n(n)?;
        let w = self.needed(n);
        check_w(w, n)?;
        Ok(w)
    }
}

impl fmt::Display for WriteLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One => f.write_str("one"),
            Self::Majority => f.write_str("majority"),
            Self::All => f.write_str("all"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

impl FromStr for WriteLevel {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Self, LevelError> {
        match text {
            "one" => Ok(Self::One),
            "majority" => Ok(Self::Majority),
            "all" => Ok(Self::All),
            // `parse` takes a sign; a level has none.
            _ if text.starts_with('+') => Err(LevelError::Unknown),
            _ => match text.parse::<usize>() {
                Ok(0) => Err(LevelError::Zero),
                Ok(count) => Ok(Self::Count(count)),
                Err(error) => Err(LevelError::from(error)),
            },
        }
    }
}

/// Why numbers make no quorum policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// More acknowledgements than replicas, or none.
    #[error("a write quorum of {w} is not possible with {n} replicas: W must be 1 to {n}")]
    OutOfRange {
        /// What was asked for.
        w: usize,
        /// How many replicas there are, this node included.
        n: usize,
    },
    /// No replica at all, not even this node.
    #[error("there are no replicas: this node is one")]
    NoReplica,
    /// More replicas than a mesh may have.
    #[error("{n} replicas are more than a mesh may have: {limit}")]
    TooManyReplicas {
        /// How many.
        n: usize,
        /// The limit.
        limit: usize,
    },
    /// No time to wait, but peers to wait for.
    #[error("an acknowledgement timeout of 0 ms leaves no time for a write quorum of {w}")]
    NoTime {
        /// What was asked for.
        w: usize,
    },
}

/// Why a text is not a write level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// Zero replicas.
    #[error("a write level of 0 is not possible: this node always holds its own writes")]
    Zero,
    /// Neither a word that is known nor a number that fits.
    #[error("a write level is \"one\", \"majority\", \"all\" or a number from 1")]
    Unknown,
}

impl From<ParseIntError> for LevelError {
    fn from(_: ParseIntError) -> Self {
        Self::Unknown
    }
}

fn check_n(n: usize) -> Result<(), PolicyError> {
    match n {
        0 => Err(PolicyError::NoReplica),
        _ if n > NODES_MAX => Err(PolicyError::TooManyReplicas { n, limit: NODES_MAX }),
        _ => Ok(()),
    }
}

fn check_w(w: usize, n: usize) -> Result<(), PolicyError> {
    if (1..=n).contains(&w) { Ok(()) } else { Err(PolicyError::OutOfRange { w, n }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: DurationMs = DurationMs(2_000);
    const SKEW: DurationMs = DurationMs(500);

    #[test]
    fn w_outside_1_to_n_is_an_error_that_names_both_numbers() {
        let check = |n, w, valid: bool| {
            let made = QuorumPolicy::new(n, w, TIMEOUT, SKEW);
            assert_eq!(made.is_ok(), valid, "n {n} w {w}: {made:?}");
            if let Ok(policy) = made {
                assert_eq!((policy.n(), policy.w()), (n, w), "never clamped");
            }
        };
        for n in 1..=7 {
            for w in 0..=9 {
                check(n, w, 1 <= w && w <= n);
            }
        }
        check(0, 0, false);
        check(0, 1, false);
        check(NODES_MAX, NODES_MAX, true);
        check(NODES_MAX + 1, 1, false);
        let text = QuorumPolicy::new(3, 4, TIMEOUT, SKEW).unwrap_err().to_string();
        assert!(text.contains('4') && text.contains('3'), "{text}");
        let text = QuorumPolicy::new(3, 0, TIMEOUT, SKEW).unwrap_err().to_string();
        assert!(text.contains('0') && text.contains('3'), "{text}");
        assert_eq!(
            QuorumPolicy::new(3, 2, DurationMs(0), SKEW),
            Err(PolicyError::NoTime { w: 2 }),
            "no time to wait for a peer"
        );
        assert!(QuorumPolicy::new(3, 1, DurationMs(0), SKEW).is_ok(), "nothing to wait for");
    }

    #[test]
    fn levels_resolve() {
        let check = |level: WriteLevel, n, expect: Option<usize>| {
            assert_eq!(level.resolve(n).ok(), expect, "{level} of {n}");
        };
        let majorities = [1, 2, 2, 3, 3, 4, 4];
        for (n, expect) in (1..).zip(majorities) {
            check(WriteLevel::One, n, Some(1));
            check(WriteLevel::Majority, n, Some(expect));
            check(WriteLevel::All, n, Some(n));
            for count in 0..=9 {
                check(WriteLevel::Count(count), n, (1 <= count && count <= n).then_some(count));
            }
        }
        assert_eq!(WriteLevel::default(), WriteLevel::Majority);
        assert_eq!(WriteLevel::Count(5).needed(3), 5, "does not shrink");
        assert_eq!(WriteLevel::One.resolve(0), Err(PolicyError::NoReplica));
    }

    #[test]
    fn two_majorities_always_share_a_replica() {
        for n in 1..=NODES_MAX {
            assert!(2 * majority(n) > n && 2 * (majority(n) - 1) <= n, "{n}");
        }
    }

    #[test]
    fn levels_in_text() {
        let check = |text: &str, expect: Result<WriteLevel, LevelError>| {
            assert_eq!(text.parse::<WriteLevel>(), expect, "{text:?}");
            if let Ok(level) = expect {
                assert_eq!(level.to_string(), text);
            }
        };
        check("one", Ok(WriteLevel::One));
        check("majority", Ok(WriteLevel::Majority));
        check("all", Ok(WriteLevel::All));
        check("3", Ok(WriteLevel::Count(3)));
        check("0", Err(LevelError::Zero));
        check("", Err(LevelError::Unknown));
        check("-1", Err(LevelError::Unknown));
        check("+1", Err(LevelError::Unknown));
        check("One", Err(LevelError::Unknown));
        check("99999999999999999999999", Err(LevelError::Unknown));
    }
}
