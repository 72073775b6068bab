//! Counters of the network side, read by whoever exports them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use federation_core::id::NodeId;

/// Upper bounds, in seconds, of the latency histograms' buckets; one more bucket takes the rest.
pub const LATENCY_BUCKETS: [f64; 14] =
    [0.000_5, 0.001, 0.002, 0.003, 0.005, 0.008, 0.012, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// A latency histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LatencyHistogram {
    /// Observations per bucket of [`LATENCY_BUCKETS`], the last for all above.
    pub counts: [u64; LATENCY_BUCKETS.len() + 1],
    /// Sum of all observations, in seconds.
    pub sum_seconds: f64,
}

impl LatencyHistogram {
    /// Adds one observation.
    pub fn observe(&mut self, span: Duration) {
        let seconds = span.as_secs_f64();
        let bucket = LATENCY_BUCKETS.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum_seconds += seconds;
    }

    /// How many observations there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Everything counted since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetCounters {
    /// Client writes by outcome: `met`, or the reason of the 503, or the slug of the refusal.
    pub write_outcomes: BTreeMap<&'static str, u64>,
    /// From the call to the answer, of writes whose quorum was met.
    pub write_latency: LatencyHistogram,
    /// From sending a page to its ack, per peer.
    pub ack_latency: BTreeMap<NodeId, LatencyHistogram>,
    /// Ops from elsewhere by what became of them: `applied`, `duplicate`, `superseded`, or the refusal's slug.
    pub admitted: BTreeMap<&'static str, u64>,
    /// Requests refused before their body was read, by slug.
    pub refused_frames: BTreeMap<&'static str, u64>,
    /// Connections of the peer listener that came to nothing: `too_many`, `handshake`, `silent`.
    pub refused_connections: BTreeMap<&'static str, u64>,
    /// Sessions ended, by direction and result: `push_complete`, `push_broken`, `pull_complete`,
    /// `pull_deferred` (something was refused for now), `pull_elsewhere` (the peer pushes meanwhile), `pull_broken`.
    pub sessions: BTreeMap<&'static str, u64>,
    /// Acks that this node signed because a write of another asked for a receipt.
    pub acks_signed: u64,
    /// Ops that were applied and came from another node than their origin.
    pub relayed_ops: u64,
    /// Completions, sent or taken, that claimed less than all because of the scopes.
    pub completions_limited: u64,
    /// Completions, sent or taken, that left something out because an op was refused.
    pub completions_withheld: u64,
    /// Ops that a peer refused for good, by the slug of the reason.
    pub dead_letters: BTreeMap<&'static str, u64>,
    /// Of those, sent once more because somebody asked for it.
    pub dead_letters_retried: u64,
    /// Of those, given up.
    pub dead_letters_discarded: u64,
    /// Re-bootstraps that this node has ended.
    pub rebootstraps_ended: u64,
    /// How the epoch of the own ops was settled: `fresh` or `continued`.
    pub epochs: BTreeMap<&'static str, u64>,
    /// Things that must not happen, by the slug of [`crate::alarm::Alarm`].
    pub alarms: BTreeMap<&'static str, u64>,
}

/// The counters of one node.
#[derive(Debug, Default)]
pub struct NetMetrics {
    counters: Mutex<NetCounters>,
}

impl NetMetrics {
    /// A copy of all counters.
    pub fn counters(&self) -> NetCounters {
        self.with(|counters| counters.clone())
    }

    /// Changes the counters.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut NetCounters) -> T) -> T {
        // A panic while counting leaves at worst a count off by one: go on.
        change(&mut self.counters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
