//! How far a search goes.

/// What may happen in the histories of a search, and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) nodes: usize,
    pub(crate) records: usize,
    /// Client writes, of which the second of each history is a delete. The merge does not look at what an op says,
    /// so that every one could be.
    pub(crate) writes: usize,
    /// Writes that the other nodes refuse, and how they do.
    pub(crate) refusals: usize,
    pub(crate) refusal: Refusal,
    /// Reads whose token a later write names, when it is stale or not.
    pub(crate) reads: usize,
    /// Whether ops also go out one by one as they are made, each to arrive at any time or never.
    pub(crate) live_lane: LiveLane,
    /// Sessions under way at one time.
    pub(crate) sessions: usize,
    /// Restarts that lose nothing.
    pub(crate) restarts: usize,
    /// Disks that go back to an image, or to nothing: never two before the first node is whole again.
    pub(crate) losses: usize,
    pub(crate) loss: Loss,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The op is ahead of the others' clocks, until time has passed.
    ClockAhead,
    /// The others forbid it, until an operator lifts that at the end.
    Forbidden,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LiveLane {
    Open,
    /// All is left to sessions.
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Its peers see it at hello: the node re-bootstraps.
    Noticed,
    /// The image was taken after the last hello: the node goes on as after any restart.
    Unnoticed,
}

/// Nodes that must hold a write before it is acknowledged, of three; of two, both.
pub(crate) const W: usize = 2;

impl Bounds {
    /// Two nodes, one record, two writes, one session at a time, no fault.
    pub(crate) const SMALLEST: Self = Self {
        nodes: 2,
        records: 1,
        writes: 2,
        refusals: 0,
        refusal: Refusal::ClockAhead,
        reads: 0,
        live_lane: LiveLane::Open,
        sessions: 1,
        restarts: 0,
        losses: 0,
        loss: Loss::Noticed,
    };
}
