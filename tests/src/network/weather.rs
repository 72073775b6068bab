//! What a network is doing to frames at present.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use federation_core::id::NodeId;
use federation_wire::keys::NodeKey;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::counts::NetworkCounts;

/// How many times the delay a frame takes that others are to overtake.
const OVERTAKEN: std::ops::RangeInclusive<u32> = 3..=10;

/// Cuts, pauses, delays and chances, and the randomness that they are drawn from.
#[derive(Debug)]
pub(super) struct Weather {
    random: StdRng,
    pub(super) counts: NetworkCounts,
    initial_delay_max: Duration,
    pub(super) delay_max: Duration,
    pub(super) slow: BTreeMap<(NodeId, NodeId), Duration>,
    pub(super) cuts: BTreeSet<(NodeId, NodeId)>,
    pub(super) paused: BTreeSet<NodeId>,
    pub(super) chances: Chances,
    /// Who lies in its acks, with its key.
    pub(super) liars: BTreeMap<NodeId, Arc<NodeKey>>,
}

/// How many of a hundred frames something happens to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chances {
    pub(super) lost_requests: u32,
    pub(super) lost_answers: u32,
    pub(super) forged_answers: u32,
    pub(super) duplicates: u32,
    pub(super) overtaken: u32,
}

impl Weather {
    pub(super) fn new(seed: u64, delay_max: Duration) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            counts: NetworkCounts::default(),
            initial_delay_max: delay_max,
            delay_max,
            slow: BTreeMap::new(),
            cuts: BTreeSet::new(),
            paused: BTreeSet::new(),
            chances: Chances::default(),
            liars: BTreeMap::new(),
        }
    }

    /// All is as in the beginning; who is paused stays so.
    pub(super) fn heal(&mut self) {
        self.cuts.clear();
        self.slow.clear();
        self.chances = Chances::default();
        self.liars.clear();
        self.delay_max = self.initial_delay_max;
    }

    pub(super) fn is_cut(&self, from: &NodeId, to: &NodeId) -> bool {
        self.cuts.contains(&(from.clone(), to.clone()))
    }

    /// Whether no PING between the two is answered.
    pub(super) fn is_silent(&self, a: &NodeId, b: &NodeId) -> bool {
        self.is_cut(a, b) || self.is_cut(b, a) || self.paused.contains(a) || self.paused.contains(b)
    }

    /// How long a frame is on its way.
    pub(super) fn draw_delay(&mut self, from: &NodeId, to: &NodeId) -> Duration {
        let mut delay = self.draw_up_to(self.delay_max);
        if self.happens(self.chances.overtaken) {
            delay *= self.random.random_range(OVERTAKEN);
            self.counts.reordered += 1;
        }
        if let Some(more) = self.slow.get(&(from.clone(), to.clone())) {
            delay += *more;
            self.counts.slowed += 1;
        }
        delay
    }

    pub(super) fn draw_up_to(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.random.random_range(0..=most))
    }

    /// Whether what happens to that many of a hundred happens now.
    pub(super) fn happens(&mut self, percent: u32) -> bool {
        percent > 0 && self.random.random_range(0..100) < percent
    }
}
