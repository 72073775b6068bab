//! Things that must not happen: counted, logged, and shown by peer until the process ends.

use std::collections::BTreeMap;

use federation_core::dot::Dot;
use federation_core::id::{NodeId, OpHash};
use federation_core::time::WallMs;

/// Dots with two ops that are shown, the first that were seen; all are counted and logged.
pub const EQUIVOCATIONS_MAX: usize = 64;

/// Something that must not happen. No run of nodes that all keep the rules raises one, whatever its disks, clocks and
/// links do, but the last four: enrolments that differ, and a lost disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alarm {
    /// The peer brought a second op under a dot that is taken.
    Equivocation,
    /// The peer acked another hash than was sent.
    IdDrift,
    /// The peer acked an op that was not sent to it, or not as many as were.
    AckMismatch,
    /// What came as the peer's answer is not its answer to the request, or from another of its boots.
    AnswerForged,
    /// The peer sent a frame in the name of another node.
    IdentityMismatch,
    /// The peer signed something else than it acked, or not with a key of its own.
    ReceiptForged,
    /// The peer claimed dots that it cannot vouch for.
    CompletionBeyond,
    /// The peer said in hello that it has dots of this node that this node has not made, or named a store of a time that has
    /// not come.
    HelloBeyond,
    /// The peer keeps something else than it is enrolled with.
    ScopeMismatch,
    /// The peer must re-bootstrap.
    PeerMustRebootstrap,
    /// The peer says that this node must re-bootstrap.
    MustRebootstrap,
    /// The peer remembers this node, which was started with `--new-mesh`.
    NewMeshVoid,
}

impl Alarm {
    /// Stable, for machines.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Equivocation => "equivocation",
            Self::IdDrift => "id_drift",
            Self::AckMismatch => "ack_mismatch",
            Self::AnswerForged => "answer_forged",
            Self::IdentityMismatch => "identity_mismatch",
            Self::ReceiptForged => "receipt_forged",
            Self::CompletionBeyond => "completion_beyond",
            Self::HelloBeyond => "hello_beyond",
            Self::ScopeMismatch => "scope_mismatch",
            Self::PeerMustRebootstrap => "peer_must_rebootstrap",
            Self::MustRebootstrap => "must_rebootstrap",
            Self::NewMeshVoid => "new_mesh_void",
        }
    }
}

/// How often a peer raised an alarm since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmStatus {
    /// The peer.
    pub peer: NodeId,
    /// What it did.
    pub alarm: Alarm,
    /// How often.
    pub count: u64,
    /// When last, by this node's clock.
    pub last_at: WallMs,
}

/// Two ops under one dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EquivocationStatus {
    /// The dot: its origin signed both, or its key is in two hands.
    pub dot: Dot,
    /// Hash of the op that is held here.
    pub held: OpHash,
    /// Hash of the one that was refused.
    pub refused: OpHash,
    /// Who brought that one.
    pub peer: NodeId,
    /// When first, by this node's clock.
    pub at: WallMs,
}

/// What has been raised. Bounded: by the enrolled peers and the kinds of alarm, and by [`EQUIVOCATIONS_MAX`].
#[derive(Debug, Default)]
pub(crate) struct AlarmBook {
    raised: BTreeMap<(NodeId, Alarm), (u64, WallMs)>,
    equivocations: BTreeMap<Dot, EquivocationStatus>,
}

impl AlarmBook {
    pub(crate) fn raise(&mut self, peer: &NodeId, alarm: Alarm, now: WallMs) {
        let (count, last_at) = self.raised.entry((peer.clone(), alarm)).or_insert((0, now));
        *count += 1;
        *last_at = now;
    }

    pub(crate) fn note(&mut self, found: EquivocationStatus) {
        if self.equivocations.len() < EQUIVOCATIONS_MAX {
            self.equivocations.entry(found.dot.clone()).or_insert(found);
        }
    }

    pub(crate) fn alarms(&self) -> Vec<AlarmStatus> {
        let of = |((peer, alarm), (count, last_at)): (&(NodeId, Alarm), &(u64, WallMs))| AlarmStatus {
            peer: peer.clone(),
            alarm: *alarm,
            count: *count,
            last_at: *last_at,
        };
        self.raised.iter().map(of).collect()
    }

    pub(crate) fn equivocations(&self) -> Vec<EquivocationStatus> {
        self.equivocations.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use federation_core::dot::Origin;
    use federation_core::id::BootId;

    use super::*;

    #[test]
    fn what_is_kept_has_a_bound_and_what_was_first_stays() {
        let mut book = AlarmBook::default();
        let peer = NodeId::new("b").unwrap();
        for seq in 1..=2 * EQUIVOCATIONS_MAX as u64 {
            book.raise(&peer, Alarm::Equivocation, WallMs(seq));
            for refused in [[1; 32], [2; 32]] {
                let origin = Origin { node: peer.clone(), epoch: BootId(1) };
                let (held, refused) = (OpHash([0; 32]), OpHash(refused));
                let dot = Dot { origin, seq };
                book.note(EquivocationStatus { dot, held, refused, peer: peer.clone(), at: WallMs(seq) });
            }
        }
        let shown = book.equivocations();
        assert_eq!(
            (shown.len(), shown[0].dot.seq, shown[0].refused),
            (EQUIVOCATIONS_MAX, 1, OpHash([1; 32]))
        );
        let count = 2 * EQUIVOCATIONS_MAX as u64;
        let alarm = Alarm::Equivocation;
        assert_eq!(book.alarms(), [AlarmStatus { peer, alarm, count, last_at: WallMs(count) }]);
    }
}
