//! Counters of a store, read by whoever shows them. Nothing here blocks, nothing goes back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a store has done since it was opened.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Microseconds that a group took to be written and synced.
    pub sync_micros: Histogram,
    /// Ops in a group that was written.
    pub group_ops: Histogram,
    /// Groups written, each with one sync.
    pub groups: Counter,
    /// Ops written.
    pub ops: Counter,
    /// Vectors of ops that came to live, of the space that this node indexes.
    pub vectors_indexed: Counter,
    /// Vectors of ops that came to live, of another space: kept with their records, in no index.
    pub vectors_other_space: Counter,
    /// Bytes written to the log, by compaction too.
    pub log_bytes: Counter,
    /// Checkpoints of the index.
    pub checkpoints: Counter,
    /// Rebuilds of the index from the log, at the opening.
    pub rebuilds: Counter,
    /// Reads of the log or the index that failed.
    pub unreadable: Counter,
    /// Live versions. Goes both ways.
    pub live_versions: Counter,
    /// Visible records. Goes both ways.
    pub visible_records: Counter,
    /// Segments of the log. Goes both ways.
    pub segments: Counter,
    /// Bytes of the groups that the log has. Goes both ways.
    pub log_size_bytes: Counter,
    /// Bytes of it that are the ops of live versions. Goes both ways.
    pub live_bytes: Counter,
    /// Bytes that compaction has written to the log again.
    pub compaction_bytes: Counter,
    /// Segments that compaction has removed.
    pub segments_removed: Counter,
}

/// A number that is added to, or set.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Its value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// How often a value fell under each bound; the bounds are powers of two of a unit of the caller's.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; HISTOGRAM_BUCKETS],
    sum: AtomicU64,
}

/// A histogram at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// `counts[i]` values were under `2^i` units and not under `2^(i-1)`; the last also holds all larger ones.
    pub counts: [u64; HISTOGRAM_BUCKETS],
    /// Their sum in units.
    pub sum: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), sum: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// What it holds. Units: microseconds for times, one for sizes.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut counts = [0; HISTOGRAM_BUCKETS];
        for (count, bucket) in counts.iter_mut().zip(&self.buckets) {
            *count = bucket.load(Ordering::Relaxed);
        }
        HistogramSnapshot { counts, sum: self.sum.load(Ordering::Relaxed) }
    }

    pub(crate) fn observe(&self, units: u64) {
        let bucket = (u64::BITS - units.leading_zeros()) as usize;
        if let Some(count) = self.buckets.get(bucket.min(HISTOGRAM_BUCKETS - 1)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(units, Ordering::Relaxed);
    }

    pub(crate) fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }
}

/// Up to half a second in microseconds, or half a million ops.
pub const HISTOGRAM_BUCKETS: usize = 21;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_their_buckets() {
        let check = |value: u64, bucket: usize| {
            let histogram = Histogram::default();
            histogram.observe(value);
            let snapshot = histogram.snapshot();
            assert_eq!(snapshot.counts.iter().position(|c| *c == 1), Some(bucket), "{value}");
            assert_eq!(snapshot.sum, value);
        };
        check(0, 0);
        check(1, 1);
        check(2, 2);
        check(3, 2);
        check(4, 3);
        check(u64::MAX, HISTOGRAM_BUCKETS - 1);
    }
}
