//! Rate limits: token buckets, one per caller, in a table that is bounded.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What may be spent at once, as time: after a pause, a caller may send two seconds' worth of requests.
const BURST: Duration = Duration::from_secs(2);
/// The deepest debt, as time: what a failed authentication costs never shuts a caller out for longer.
const DEBT_MAX: Duration = Duration::from_secs(4);
/// Callers that are told apart, at some 50 bytes each. All beyond share one bucket.
const CALLERS_MAX: usize = 65_536;
/// How often a full table is looked through for callers that have nothing spent.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// One bucket per caller.
///
/// Of a bucket only the time is kept at which it will be full again (a form known as the generic cell rate
/// algorithm): one that is full says nothing, and is forgotten.
#[derive(Debug)]
pub struct Buckets<K> {
    /// The time in which one request's worth comes back.
    interval: Duration,
    callers_max: usize,
    table: Mutex<Table<K>>,
}

#[derive(Debug)]
struct Table<K> {
    /// When the bucket of each is full again.
    callers: HashMap<K, Instant>,
    /// When the one bucket of all who have no place in the table is.
    others: Option<Instant>,
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
        Self { interval: Duration::from_secs(1) / per_sec.get(), callers_max, table: Mutex::new(table) }
    }

    /// Takes one request's worth from the bucket of `caller`.
    ///
    /// # Errors
    /// [`Limited`]; nothing is taken then.
    pub fn take(&self, caller: K, now: Instant) -> Result<(), Limited> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = table.bucket(caller, now, self.callers_max);
        let spent = full_at.saturating_duration_since(now) + self.interval;
        if let Some(over) = spent.checked_sub(BURST).filter(|over| !over.is_zero()) {
            return Err(Limited { retry_after: over });
        }
        *full_at = now + spent;
        Ok(())
    }

    /// Takes the worth of `requests` more, whether it is there or not.
    pub fn charge(&self, caller: K, requests: u32, now: Instant) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = table.bucket(caller, now, self.callers_max);
        let spent = full_at.saturating_duration_since(now) + self.interval * requests;
        *full_at = now + spent.min(DEBT_MAX);
    }
}

impl<K: Eq + Hash> Table<K> {
    /// When the bucket of `caller` is full again.
    fn bucket(&mut self, caller: K, now: Instant, callers_max: usize) -> &mut Instant {
        let is_known = self.callers.contains_key(&caller);
        if !is_known && self.callers.len() >= callers_max {
            self.sweep(now);
        }
        if is_known || self.callers.len() < callers_max {
            self.callers.entry(caller).or_insert(now)
        } else {
            self.others.get_or_insert(now)
        }
    }

    fn sweep(&mut self, now: Instant) {
        if self.swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP_EVERY) {
            self.swept = Some(now);
            self.callers.retain(|_, full_at| *full_at > now);
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
    fn a_burst_is_let_in_and_then_the_rate() {
        let (buckets, now) = (buckets(10, 8), Instant::now());
        assert_eq!(let_in(&buckets, 1, now), 20);
        let limited = buckets.take(1, now).unwrap_err();
        assert_eq!(limited.retry_after, Duration::from_millis(100));
        assert!(buckets.take(1, now + Duration::from_millis(99)).is_err());
        assert_eq!(let_in(&buckets, 1, now + Duration::from_millis(100)), 1);
        assert_eq!(let_in(&buckets, 1, now + Duration::from_millis(600)), 5);
        assert_eq!(
            let_in(&buckets, 1, now + Duration::from_hours(1)),
            20,
            "no more than the burst is saved up"
        );
        assert_eq!(let_in(&buckets, 2, now), 20, "another caller has a bucket of its own");
    }

    #[test]
    fn a_charge_makes_a_debt_that_is_bounded() {
        let (buckets, now) = (buckets(10, 8), Instant::now());
        buckets.charge(1, 10, now);
        assert_eq!(let_in(&buckets, 1, now), 10);
        buckets.charge(1, 1_000_000, now);
        let limited = buckets.take(1, now).unwrap_err();
        assert_eq!(limited.retry_after, Duration::from_millis(2_100));
        assert_eq!(let_in(&buckets, 1, now + DEBT_MAX), 20);
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
