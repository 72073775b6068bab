//! Rate limits: a token bucket for each caller, in a table that is bounded.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use federation_net::rate::{Rate, TokenBucket};
use tokio::time::Instant;

/// What may be spent at once, in seconds: after a pause, a caller may send so many seconds' worth of requests. What a failed
/// authentication costs shuts a caller out for no longer either.
const BURST_SECS: u32 = 2;
/// Callers that are told apart, at some 100 bytes each. All beyond share one bucket.
const CALLERS_MAX: usize = 65_536;
/// How often a full table is looked through for callers that have nothing spent.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// One bucket per caller. One that is full is forgotten where its place is needed.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    callers_max: usize,
    table: Mutex<Table<K>>,
}

#[derive(Debug)]
struct Table<K> {
    callers: HashMap<K, TokenBucket>,
    /// The one bucket of all who have no place in the table.
    others: Option<TokenBucket>,
    /// When the table was last looked through.
    swept: Option<Instant>,
}

/// The caller has spent what it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// When the next request will be let in, from now.
    pub retry_after: Duration,
}

impl<K: Eq + Hash> Buckets<K> {
    /// Buckets that fill at so many requests per second.
    pub fn new(per_sec: NonZeroU32) -> Self {
        Self::bounded(per_sec, CALLERS_MAX)
    }

    fn bounded(per_sec: NonZeroU32, callers_max: usize) -> Self {
        let table = Table { callers: HashMap::new(), others: None, swept: None };
        let rate = Rate::new(per_sec.get(), per_sec.get().saturating_mul(BURST_SECS));
        Self { rate, callers_max, table: Mutex::new(table) }
    }

    /// Takes one request's worth from the bucket of `caller`.
    ///
    /// # Errors
    /// [`Limited`]; nothing is taken then.
    pub fn take(&self, caller: K, now: Instant) -> Result<(), Limited> {
        self.with_bucket(caller, now, |bucket| bucket.take(1.0, now))
            .map_err(|retry_after| Limited { retry_after })
    }

    /// Takes the worth of `requests` more, whether it is there or not.
    pub fn charge(&self, caller: K, requests: f64, now: Instant) {
        self.with_bucket(caller, now, |bucket| bucket.charge(requests, now));
    }

    fn with_bucket<T>(&self, caller: K, now: Instant, use_it: impl FnOnce(&mut TokenBucket) -> T) -> T {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = table.callers.contains_key(&caller);
        if !is_known && table.callers.len() >= self.callers_max {
            table.sweep(now);
        }
        let full = || TokenBucket::new(self.rate, now);
        use_it(if is_known || table.callers.len() < self.callers_max {
            table.callers.entry(caller).or_insert_with(full)
        } else {
            table.others.get_or_insert_with(full)
        })
    }
}

impl<K: Eq + Hash> Table<K> {
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP_EVERY) {
            self.swept = Some(now);
            self.callers.retain(|_, bucket| !bucket.is_full(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(per_sec: u32, callers_max: usize) -> Buckets<u32> {
        Buckets::bounded(NonZeroU32::new(per_sec).unwrap(), callers_max)
    }

    /// How many requests are let in, one after another at the same time.
    fn let_in(buckets: &Buckets<u32>, caller: u32, now: Instant) -> usize {
        (0..10_000).take_while(|_| buckets.take(caller, now).is_ok()).count()
    }

    #[test]
    fn two_seconds_worth_are_let_in_and_each_caller_has_its_own() {
        let (buckets, now) = (buckets(10, 8), Instant::now());
        assert_eq!(let_in(&buckets, 1, now), 20);
        assert_eq!(buckets.take(1, now), Err(Limited { retry_after: Duration::from_millis(100) }));
        assert_eq!(let_in(&buckets, 1, now + Duration::from_millis(600)), 6);
        assert_eq!(let_in(&buckets, 2, now), 20);
    }

    #[test]
    fn a_failure_is_paid_for_and_shuts_out_for_no_longer_than_two_seconds() {
        let (buckets, now) = (buckets(10, 8), Instant::now());
        buckets.charge(1, 10.0, now);
        assert_eq!(let_in(&buckets, 1, now), 10);
        buckets.charge(1, 1e6, now);
        assert_eq!(buckets.take(1, now), Err(Limited { retry_after: Duration::from_millis(2_100) }));
    }

    #[test]
    fn the_table_is_bounded_and_who_has_no_place_shares_one_bucket() {
        let (buckets, now) = (buckets(10, 2), Instant::now());
        assert!(buckets.take(1, now).is_ok() && buckets.take(2, now).is_ok());
        assert_eq!(let_in(&buckets, 3, now), 20);
        assert_eq!(let_in(&buckets, 4, now), 0, "shared with 3");
        assert_eq!(let_in(&buckets, 1, now), 19, "whoever has a place keeps it");
        assert_eq!(buckets.table.lock().unwrap().callers.len(), 2);
        // 2 is full again by then, 1 not yet: its place goes to 4, at the next look through the table.
        let later = now + SWEEP_EVERY;
        assert_eq!(let_in(&buckets, 4, later), 20);
        assert_eq!(buckets.table.lock().unwrap().callers.len(), 2);
    }
}
