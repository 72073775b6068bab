//! What a run has reached.

use std::time::Duration;

/// How often a run reached what it is meant to reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Writes that were answered OK.
    pub acknowledged: u64,
    /// Writes that were committed and not promised.
    pub not_met: u64,
    /// Writes that were refused with nothing written.
    pub refused: u64,
    /// Writes that were never answered: their node had lost its power, or their caller had gone.
    pub unanswered: u64,
    /// Power cuts.
    pub crashes: u64,
    /// Partitions.
    pub partitions: u64,
    /// Disks that were emptied or went back to a copy.
    pub lost_disks: u64,
    /// Wall clocks that were set.
    pub clock_jumps: u64,
    /// Nodes that stood still for a while.
    pub pauses: u64,
    /// Disks that were full for a while.
    pub full_disks: u64,
    /// Disks that failed once.
    pub failed_disks: u64,
    /// Recoveries in the middle of a run.
    pub recoveries: u64,
    /// Dots given twice by a disk that went back, of ops that nobody else had seen.
    pub reused_unseen: u64,
    /// Records with more than one live version at the end.
    pub siblings: u64,
    /// How long the nodes took to be equal after the last fault.
    pub converged_in: Duration,
    /// The run's trace as a number: equal for equal runs.
    pub digest: u64,
}

impl Coverage {
    /// Both together; the slower convergence of the two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            acknowledged: self.acknowledged + other.acknowledged,
            not_met: self.not_met + other.not_met,
            refused: self.refused + other.refused,
            unanswered: self.unanswered + other.unanswered,
            crashes: self.crashes + other.crashes,
            partitions: self.partitions + other.partitions,
            lost_disks: self.lost_disks + other.lost_disks,
            clock_jumps: self.clock_jumps + other.clock_jumps,
            pauses: self.pauses + other.pauses,
            full_disks: self.full_disks + other.full_disks,
            failed_disks: self.failed_disks + other.failed_disks,
            recoveries: self.recoveries + other.recoveries,
            reused_unseen: self.reused_unseen + other.reused_unseen,
            siblings: self.siblings + other.siblings,
            converged_in: self.converged_in.max(other.converged_in),
            digest: self.digest.rotate_left(1) ^ other.digest,
        }
    }
}
