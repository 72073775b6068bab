//! Hybrid logical clock (Kulkarni, Demirbas, Madappa, Avva, Leone: "Logical Physical Clocks", 2014).
//!
//! It picks a winner between concurrent versions and shows times. It never decides what a peer still needs.

use std::fmt;

use crate::limits::CLOCK_DRIFT_MAX;
use crate::time::WallMs;

/// 48 bits of milliseconds since the Unix epoch, 16 bits of counter, ordered as one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc(u64);

const COUNTER_BITS: u32 = 16;
const WALL_MAX: u64 = (1 << 48) - 1;

impl Hlc {
    /// The time `now` with a zero counter. Times past the year 10889 saturate.
    #[must_use]
    pub fn at(now: WallMs) -> Self {
        Self(now.0.min(WALL_MAX) << COUNTER_BITS)
    }

    /// The clock value in its one-number form, as it is stored and sent.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The one-number form.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The wall-clock part.
    #[must_use]
    pub fn wall(self) -> WallMs {
        WallMs(self.0 >> COUNTER_BITS)
    }

    /// The next value after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The HLC of a new op: `max(now, last + 1, covered + 1)`, but `now` where that would be more than
    /// [`CLOCK_DRIFT_MAX`] ahead. `last` is the newest HLC made here, `covered` the greatest among
    /// the versions that the op replaces.
    #[must_use]
    pub fn advance(now: WallMs, last: Option<Hlc>, covered: Option<Hlc>) -> Self {
        let at_now = Self::at(now);
        let ahead = [last, covered].into_iter().flatten().map(Hlc::next).fold(at_now, Hlc::max);
        if ahead.is_ahead_of(now) { at_now } else { ahead }
    }

    /// Whether this value is more than [`CLOCK_DRIFT_MAX`] ahead of `now`.
    #[must_use]
    pub fn is_ahead_of(self, now: WallMs) -> bool {
        self.wall() > now.saturating_add(CLOCK_DRIFT_MAX)
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.wall().0, self.0 & 0xffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advances_past_what_was_made_and_covered() {
        let now = WallMs(1_000);
        assert_eq!(Hlc::advance(now, None, None), Hlc::at(now));
        let last = Hlc::at(WallMs(2_000));
        assert_eq!(Hlc::advance(now, Some(last), None), last.next());
        let covered = Hlc::at(WallMs(3_000));
        assert_eq!(Hlc::advance(now, Some(last), Some(covered)), covered.next());
    }

    #[test]
    fn a_value_too_far_ahead_does_not_spread() {
        let now = WallMs(1_000);
        let far = Hlc::at(now.saturating_add(CLOCK_DRIFT_MAX)).next();
        assert!(!far.is_ahead_of(now));
        let too_far = Hlc::at(WallMs(now.0 + CLOCK_DRIFT_MAX.0 + 1));
        assert!(too_far.is_ahead_of(now));
        assert_eq!(Hlc::advance(now, Some(too_far), None), Hlc::at(now));
    }

    #[test]
    fn counter_overflow_moves_to_the_next_millisecond() {
        let full = Hlc::from_bits((7 << 16) | 0xffff);
        assert_eq!(full.next(), Hlc::at(WallMs(8)));
    }
}
