//! Times and spans as types. The crate reads no clock: every `now` is an argument.

use std::fmt;

/// Milliseconds of wall-clock time since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallMs(pub u64);

/// A span in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DurationMs(pub u64);

/// Milliseconds of this process's monotonic clock since its start. Meaningless in any other process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonoMs(pub u64);

impl WallMs {
    /// This time plus `span`, at most the largest time there is.
    #[must_use]
    pub fn saturating_add(self, span: DurationMs) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl MonoMs {
    /// This time plus `span`, at most the largest time there is.
    #[must_use]
    pub fn saturating_add(self, span: DurationMs) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The span from `earlier` to this time; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> DurationMs {
        DurationMs(self.0.saturating_sub(earlier.0))
    }
}

impl DurationMs {
    /// The same span for timers of the standard library.
    #[must_use]
    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl fmt::Display for DurationMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}
