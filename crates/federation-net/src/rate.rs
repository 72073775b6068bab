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

    /// The time in which so many tokens come back; rounded down, so that the tokens of a burst one by one take no longer than
    /// the burst.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what is too large is bounded"
    )]
    fn time_of(&self, tokens: f64) -> Duration {
        Duration::from_nanos((tokens * 1e9 / self.per_second) as u64).min(TIME_MAX)
    }

    /// The time in which an empty bucket fills.
    fn time_to_fill(&self) -> Duration {
        self.time_of(self.burst)
    }
}

/// The longest that is reckoned with: sums of a few of it are still points in time.
const TIME_MAX: Duration = Duration::from_hours(24 * 36_525);

/// A token bucket.
///
/// Of its level only the time is kept at which it will be full again (a form known as the generic cell rate algorithm): no
/// fraction of a token is lost between two looks, and one that is full says nothing and can be forgotten.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate: Rate,
    full_at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, full_at: now }
    }

    /// Takes `cost` tokens.
    ///
    /// # Errors
    /// How long until they will be there, if nobody else takes any. None were taken.
    pub fn take(&mut self, cost: f64, now: Instant) -> Result<(), Duration> {
        let spent = self.spent_with(cost, now);
        if let Some(over) = spent.checked_sub(self.rate.time_to_fill()).filter(|over| !over.is_zero()) {
            return Err(over);
        }
        self.full_at = now + spent;
        Ok(())
    }

    /// Takes `cost` tokens, whether they are there or not: what has been spent already is paid for later. The debt is at most
    /// a full bucket.
    pub fn charge(&mut self, cost: f64, now: Instant) {
        self.full_at = now + self.spent_with(cost, now).min(2 * self.rate.time_to_fill());
    }

    /// Whether there is not one token.
    pub fn is_empty(&self, now: Instant) -> bool {
        self.spent_with(1.0, now) > self.rate.time_to_fill()
    }

    /// Whether nothing was taken for so long that it does not matter any more.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }

    /// What is spent once `cost` more tokens are, as the time in which it comes back.
    fn spent_with(&self, cost: f64, now: Instant) -> Duration {
        self.full_at.saturating_duration_since(now) + self.rate.time_of(cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Ten a second, three at once.
    fn bucket(now: Instant) -> TokenBucket {
        TokenBucket::new(Rate { per_second: 10.0, burst: 3.0 }, now)
    }

    /// How many tokens are taken one by one at the same time.
    fn taken(bucket: &mut TokenBucket, now: Instant) -> usize {
        (0..100).take_while(|_| bucket.take(1.0, now).is_ok()).count()
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let begun = Instant::now();
        let mut bucket = bucket(begun);
        assert!(bucket.is_full(begun) && !bucket.is_empty(begun));
        assert_eq!(taken(&mut bucket, begun), 3);
        assert!(!bucket.is_full(begun) && bucket.is_empty(begun));
        assert_eq!(bucket.take(1.0, begun), Err(ms(100)));
        assert_eq!(bucket.take(2.5, begun), Err(ms(250)));
        assert_eq!(bucket.take(1.0, begun + ms(99)), Err(ms(1)));
        assert_eq!(taken(&mut bucket, begun + ms(100)), 1, "looking took nothing");
        assert_eq!(bucket.take(0.25, begun + ms(125)), Ok(()));
        assert!(bucket.take(0.25, begun + ms(125)).is_err());
        let long_after = begun + Duration::from_hours(1);
        assert!(bucket.is_full(long_after));
        assert_eq!(taken(&mut bucket, long_after), 3, "no more than the burst is saved up");
        assert!(bucket.take(1.0, begun).is_err(), "time that goes back gives nothing");
    }

    #[test]
    fn a_burst_is_given_whole_whatever_the_rate() {
        let begun = Instant::now();
        for per_second in 1..=97 {
            let mut bucket = TokenBucket::new(Rate::new(per_second, 97), begun);
            assert_eq!(taken(&mut bucket, begun), 97, "{per_second} a second");
        }
    }

    #[test]
    fn a_charge_makes_a_debt_that_is_bounded() {
        let begun = Instant::now();
        let mut bucket = bucket(begun);
        bucket.charge(2.0, begun);
        assert_eq!(taken(&mut bucket, begun), 1);
        bucket.charge(1e9, begun);
        assert_eq!(bucket.take(1.0, begun), Err(ms(400)));
        assert_eq!(taken(&mut bucket, begun + ms(600)), 3);
    }

    #[test]
    fn no_rate_and_no_cost_is_too_large() {
        let begun = Instant::now();
        for rate in [Rate { per_second: 1e-300, burst: 1e300 }, Rate { per_second: 1e9, burst: 1e-9 }] {
            let mut bucket = TokenBucket::new(rate, begun);
            for cost in [1e-300, 1.0, 1e300, f64::INFINITY, f64::NAN] {
                bucket.charge(cost, begun);
                let _ = (bucket.take(cost, begun), bucket.is_empty(begun), bucket.is_full(begun));
            }
        }
    }
}
