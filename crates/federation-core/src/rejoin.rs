//! Coming back: is a peer the node it was, and when may a node that lost its state serve again.

use crate::id::{BootId, LogPosition, StoreId};
use crate::planted::{Defect, is_planted};
use crate::port::store::{Boot, PeerFact};

/// What a node says of its own durable state, in each hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreClaim<'a> {
    /// The life of its data directory.
    pub store: StoreId,
    /// Its boots, oldest first, the running one last and without an end.
    pub boots: &'a [Boot],
    /// The running boot.
    pub boot: BootId,
    /// Position of its last sync.
    pub position: LogPosition,
}

/// What a claim means to one who remembers the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is remembered of it.
    New,
    /// It has all it had.
    Known,
    /// It has begun anew and says so: what is remembered of it is void.
    NewStore,
    /// It has lost state that it had, and does not know: it must re-bootstrap.
    RolledBack(Rollback),
}

/// What shows that a node was rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rollback {
    /// An older life of its data directory is back.
    #[error("its store is {said}, but {remembered} was seen after it")]
    OlderStore {
        /// The store that was seen.
        remembered: StoreId,
        /// The store it has.
        said: StoreId,
    },
    /// It does not know of a boot in which it was seen.
    #[error("it does not know of its boot {boot}")]
    BootMissing {
        /// The boot.
        boot: BootId,
    },
    /// A boot in which it was seen ended, for it, before what was seen.
    #[error("its boot {boot} ended at {} for it, but was seen at {}", .ended_at.0, .seen_at.0)]
    BootEndedEarlier {
        /// The boot.
        boot: BootId,
        /// Where it ended.
        ended_at: LogPosition,
        /// Where it was seen.
        seen_at: LogPosition,
    },
    /// It is behind where it was seen, within one boot.
    #[error("it stands at {} but was seen at {} in the same boot {boot}", .said.0, .seen_at.0)]
    BehindWithinBoot {
        /// The boot.
        boot: BootId,
        /// Where it stands.
        said: LogPosition,
        /// Where it was seen.
        seen_at: LogPosition,
    },
    /// Its list of boots contradicts itself: the running boot is not its last, or an earlier one has no end.
    #[error("its list of boots contradicts itself at boot {boot}")]
    BootsInconsistent {
        /// Where.
        boot: BootId,
    },
}

/// Judges what a node says of its durable state by what is remembered of it.
///
/// `remembered` must have been recorded before the claim was made: a position that an ack brought while the
/// hello was under way is greater than the hello's and means nothing. One who sends hello looks
/// before sending.
pub fn judge(remembered: Option<&PeerFact>, claim: &StoreClaim<'_>) -> Standing {
    let Some(seen) = remembered else { return Standing::New };
    if claim.store > seen.store {
        return Standing::NewStore;
    }
    match rollback(seen, claim) {
        None => Standing::Known,
        Some(why) => Standing::RolledBack(why),
    }
}

fn rollback(seen: &PeerFact, claim: &StoreClaim<'_>) -> Option<Rollback> {
    if claim.store < seen.store {
        return Some(Rollback::OlderStore { remembered: seen.store, said: claim.store });
    }
    if claim.boots.last().is_none_or(|last| last.id != claim.boot || last.ended_at.is_some()) {
        return Some(Rollback::BootsInconsistent { boot: claim.boot });
    }
    if seen.boot == claim.boot {
        return (claim.position < seen.position).then_some(Rollback::BehindWithinBoot {
            boot: claim.boot,
            said: claim.position,
            seen_at: seen.position,
        });
    }
    let Some(boot) = claim.boots.iter().find(|boot| boot.id == seen.boot) else {
        return Some(Rollback::BootMissing { boot: seen.boot });
    };
    match boot.ended_at {
        None => Some(Rollback::BootsInconsistent { boot: boot.id }),
        Some(ended_at) => (ended_at < seen.position).then_some(Rollback::BootEndedEarlier {
            boot: boot.id,
            ended_at,
            seen_at: seen.position,
        }),
    }
}

/// The state in which a peer was when it was drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainedPeer {
    /// It has all it ever acknowledged.
    Whole,
    /// It is re-bootstrapping itself.
    Rebootstrapping,
    /// It keeps, or gives, only a part of what this node keeps.
    Partial,
}

/// How many whole peers a node that re-bootstraps must have drained before it serves: so many that every write
/// with a quorum of at least `w_min` is on one of them, and all of its `n - 1` at most.
///
/// `n` counts every node that may hold a write of this node's namespaces, this one included; `w_min` is the smallest
/// quorum that the operator's settings allow there.
pub fn drains_needed(n: usize, w_min: usize) -> usize {
    let others = n.saturating_sub(1);
    others.min(n.saturating_sub(w_min) + 1)
}

/// Whether a node that re-bootstraps may serve: [`drains_needed`] whole peers have been drained, or all `sources` there
/// are in whatever state, or else two nodes that re-bootstrap at once would wait for each other for ever.
pub fn may_serve(
    n: usize,
    w_min: usize,
    sources: usize,
    drained: impl IntoIterator<Item = DrainedPeer>,
) -> bool {
    let (mut whole, mut all) = (0, 0);
    for peer in drained {
        all += 1;
        whole += usize::from(peer == DrainedPeer::Whole);
    }
    let are_all = all >= sources && !is_planted(Defect::WaitForWholePeers);
    whole >= drains_needed(n, w_min) || are_all
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: StoreId = StoreId { created_ms: 1_000, random: 7 };
    const NEW: StoreId = StoreId { created_ms: 2_000, random: 3 };

    fn seen(store: StoreId, boot: u64, position: u64) -> PeerFact {
        PeerFact { store, boot: BootId(boot), position: LogPosition(position) }
    }

    fn boots(ended: &[(u64, u64)], running: u64) -> Vec<Boot> {
        let mut out: Vec<_> =
            ended.iter().map(|(id, at)| Boot { id: BootId(*id), ended_at: Some(LogPosition(*at)) }).collect();
        out.push(Boot { id: BootId(running), ended_at: None });
        out
    }

    fn standing(seen: Option<PeerFact>, store: StoreId, ended: &[(u64, u64)], now: (u64, u64)) -> Standing {
        let boots = boots(ended, now.0);
        let claim = StoreClaim { store, boots: &boots, boot: BootId(now.0), position: LogPosition(now.1) };
        judge(seen.as_ref(), &claim)
    }

    #[test]
    fn a_node_that_kept_its_state_is_known() {
        assert_eq!(standing(None, OLD, &[], (1, 0)), Standing::New);
        assert_eq!(standing(Some(seen(OLD, 1, 50)), OLD, &[], (1, 50)), Standing::Known);
        assert_eq!(standing(Some(seen(OLD, 1, 50)), OLD, &[], (1, 51)), Standing::Known);
        assert_eq!(standing(Some(seen(OLD, 1, 50)), OLD, &[(1, 50)], (2, 50)), Standing::Known);
        assert_eq!(standing(Some(seen(OLD, 1, 50)), OLD, &[(1, 60), (2, 70)], (3, 70)), Standing::Known);
    }

    #[test]
    fn a_newer_store_says_of_itself_that_it_is_new() {
        assert_eq!(standing(Some(seen(OLD, 1, 50)), NEW, &[], (9, 0)), Standing::NewStore);
        let twin = StoreId { random: OLD.random + 1, ..OLD };
        assert_eq!(standing(Some(seen(OLD, 1, 50)), twin, &[], (9, 0)), Standing::NewStore);
    }

    #[test]
    fn an_older_store_was_rolled_back() {
        let why = Rollback::OlderStore { remembered: NEW, said: OLD };
        assert_eq!(standing(Some(seen(NEW, 1, 0)), OLD, &[], (1, 99)), Standing::RolledBack(why));
    }

    #[test]
    fn a_missing_boot_was_rolled_back() {
        // An old image of the directory: it knows of boot 1 only, but was seen in boot 2.
        let why = Rollback::BootMissing { boot: BootId(2) };
        assert_eq!(
            standing(Some(seen(OLD, 2, 80)), OLD, &[(1, 50)], (3, 90)),
            Standing::RolledBack(why),
            "even where its log has grown past the position"
        );
    }

    #[test]
    fn a_boot_that_ended_before_what_was_seen_was_rolled_back() {
        let why = Rollback::BootEndedEarlier {
            boot: BootId(1),
            ended_at: LogPosition(49),
            seen_at: LogPosition(50),
        };
        assert_eq!(standing(Some(seen(OLD, 1, 50)), OLD, &[(1, 49)], (2, 90)), Standing::RolledBack(why));
    }

    #[test]
    fn a_lower_position_within_one_boot_was_rolled_back() {
        let why =
            Rollback::BehindWithinBoot { boot: BootId(1), said: LogPosition(49), seen_at: LogPosition(50) };
        assert_eq!(standing(Some(seen(OLD, 1, 50)), OLD, &[], (1, 49)), Standing::RolledBack(why));
    }

    #[test]
    fn a_list_of_boots_that_contradicts_itself_is_not_believed() {
        let check = |boots: &[Boot], boot: u64, at: u64| {
            let claim = StoreClaim { store: OLD, boots, boot: BootId(boot), position: LogPosition(99) };
            let why = Rollback::BootsInconsistent { boot: BootId(at) };
            assert_eq!(judge(Some(&seen(OLD, 1, 50)), &claim), Standing::RolledBack(why), "{boots:?}");
        };
        let open = |id| Boot { id: BootId(id), ended_at: None };
        let ended = |id| Boot { id: BootId(id), ended_at: Some(LogPosition(60)) };
        check(&[], 2, 2);
        check(&[open(2), open(1)], 2, 2);
        check(&[ended(1), ended(2)], 2, 2);
        check(&[open(1), open(2)], 2, 1);
    }

    #[test]
    fn enough_drained_peers_meet_every_write_quorum() {
        for n in 1..=7_usize {
            for w in 1..=n {
                let needed = drains_needed(n, w);
                assert!(needed < n, "n {n} w {w}: a node is not its own peer");
                // A write on w nodes of which this one may have been one leaves w - 1 peers that hold it;
                // where more than n-w peers are drained, one of any w nodes is among them, or all are.
                assert!(needed > n - w || needed == n - 1, "n {n} w {w}");
                assert!(needed <= n - w + 1, "n {n} w {w}: and no more than that");
            }
        }
        assert_eq!(drains_needed(3, 2), 2);
        assert_eq!(drains_needed(3, 3), 1);
        assert_eq!(drains_needed(5, 3), 3);
        assert_eq!(drains_needed(3, 1), 2);
        assert_eq!(drains_needed(1, 1), 0);
    }

    #[test]
    fn two_nodes_that_rebootstrap_at_once_do_not_wait_for_each_other() {
        use DrainedPeer::{Partial, Rebootstrapping, Whole};
        let check = |n, w, drained: &[DrainedPeer], expect: bool| {
            assert_eq!(may_serve(n, w, n - 1, drained.iter().copied()), expect, "n {n} w {w} {drained:?}");
        };
        check(3, 2, &[], false);
        check(3, 2, &[Whole], false);
        check(3, 2, &[Whole, Whole], true);
        check(3, 2, &[Whole, Rebootstrapping], true);
        check(5, 3, &[Whole, Whole, Rebootstrapping], false);
        check(5, 3, &[Whole, Whole, Whole], true);
        check(5, 3, &[Rebootstrapping; 3], false);
        check(5, 3, &[Rebootstrapping; 4], true);
        check(3, 2, &[Whole, Partial], true);
        check(4, 3, &[Whole, Partial], false);
        check(4, 3, &[Partial; 3], true);
        check(1, 1, &[], true);
    }
}
