//! How much may come in how much time.

use std::time::Duration;

use tokio::time::Instant;

/// A rate, and how much may come at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Tokens that come back in a second; more than none.
    pub per_second: f64,
    /// Tokens of a full bucket.
    pub burst: f64,
}

impl Rate {
    /// So many a second, and so many at once.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second: per_second as f64, burst: burst as f64 }
    }
}

/// A token bucket.
#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    rate: Rate,
    tokens: f64,
    as_of: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, tokens: rate.burst, as_of: now }
    }

    /// Takes `cost` tokens.
    ///
    /// # Errors
    /// How long until they will be there, if nobody else takes any. None were taken.
    pub(crate) fn take(&mut self, cost: f64, now: Instant) -> Result<(), Duration> {
        self.refill(now);
        if self.tokens >= cost {
            self.tokens -= cost;
            return Ok(());
        }
        let seconds = (cost - self.tokens) / self.rate.per_second;
        Err(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    /// Takes `cost` tokens, whether they are there or not: what has been spent already is paid for later. The debt is at most
    /// a full bucket.
    pub(crate) fn charge(&mut self, cost: f64, now: Instant) {
        self.refill(now);
        self.tokens = (self.tokens - cost).max(-self.rate.burst);
    }

    /// Whether there is not one token.
    pub(crate) fn is_empty(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens < 1.0
    }

    /// Whether nothing was taken for so long that it does not matter any more.
    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens >= self.rate.burst
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.as_of).as_secs_f64();
        self.tokens = passed.mul_add(self.rate.per_second, self.tokens).min(self.rate.burst);
        self.as_of = self.as_of.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_gives_its_burst_and_then_its_rate() {
        let begun = Instant::now();
        let mut bucket = TokenBucket::new(Rate { per_second: 10.0, burst: 3.0 }, begun);
        for _ in 0..3 {
            assert_eq!(bucket.take(1.0, begun), Ok(()));
        }
        assert_eq!(bucket.take(1.0, begun), Err(Duration::from_millis(100)));
        assert!(!bucket.is_full(begun));
        let later = begun + Duration::from_millis(101);
        assert_eq!(bucket.take(1.0, later), Ok(()));
        assert!(bucket.take(1.0, later).is_err());
        let long_after = later + Duration::from_hours(1);
        assert!(bucket.is_full(long_after));
        assert_eq!(bucket.take(3.0, long_after), Ok(()));
        assert!(bucket.take(1.0, begun).is_err(), "time that goes back gives nothing");
    }
}
