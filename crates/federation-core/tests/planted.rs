//! Each planted defect of this crate breaks the rule that it names, and leaves nothing behind when it is taken out.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};

use federation_core::apply::{Applied, apply};
use federation_core::attest::{Claimable, CompletionScopes, Trust};
use federation_core::context::context;
use federation_core::dot::{Dot, Origin};
use federation_core::dot_set::DotSet;
use federation_core::epoch::{LastEpoch, PeerKnowledge, settle};
use federation_core::hlc::Hlc;
use federation_core::id::{BootId, Namespace, NodeId, OpHash};
use federation_core::node_clock::NodeClock;
use federation_core::planted::{Defect, is_planted, plant};
use federation_core::port::store::{SessionId, SessionStart};
use federation_core::record::{Record, Version, VersionState};
use federation_core::rejoin::{DrainedPeer, may_serve};
use federation_core::scope::Scope;
use federation_core::session::{SessionReceiver, SessionSender};
use federation_core::time::WallMs;
use federation_core::vector_clock::VectorClock;

/// What `observed` comes to without any defect, and with `defect`; without it again at the end.
fn without_and_with<T: PartialEq + std::fmt::Debug>(defect: Defect, observed: impl Fn() -> T) -> (T, T) {
    let planted = Planted::nothing();
    let sound = observed();
    plant(Some(defect));
    let broken = observed();
    plant(None);
    assert_eq!(observed(), sound, "nothing of {} is left", defect.name());
    drop(planted);
    (sound, broken)
}

/// What is planted holds for the process: one test at a time.
struct Planted(#[expect(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

impl Planted {
    fn nothing() -> Self {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        plant(None);
        Self(guard)
    }
}

fn origin(node: &str, epoch: u64) -> Origin {
    Origin { node: NodeId::new(node).unwrap(), epoch: BootId(epoch) }
}

fn dot(node: &str, seq: u64) -> Dot {
    Dot { origin: origin(node, 1), seq }
}

fn dots(all: &[Dot]) -> DotSet {
    all.iter().cloned().collect()
}

/// A version made at so many milliseconds.
fn version(dot: Dot, at: u64, seen: &[Dot], state: VersionState) -> Version {
    let hash = OpHash([u8::try_from(at).unwrap(); 32]);
    Version { dot, hash, hlc: Hlc::at(WallMs(at)), context: VectorClock::from(dots(seen)), state }
}

fn put(dot: Dot, at: u64) -> Version {
    version(dot, at, &[], VersionState::Present)
}

/// The dots that are live once these versions came, in this order.
fn live_after(versions: &[Version]) -> BTreeSet<Dot> {
    let (mut record, mut clock) = (Record::new(), NodeClock::new());
    for version in versions {
        apply(&mut record, &mut clock, None, version.clone()).unwrap();
        assert!(clock.contains(&version.dot), "whatever becomes of a version, its dot is known");
    }
    record.versions().iter().map(|v| v.dot.clone()).collect()
}

#[test]
fn one_defect_is_planted_at_a_time_and_can_be_changed() {
    let planted = Planted::nothing();
    assert!(!Defect::ALL.into_iter().any(is_planted));
    for defect in Defect::ALL {
        plant(Some(defect));
        let found: Vec<_> = Defect::ALL.into_iter().filter(|other| is_planted(*other)).collect();
        assert_eq!(found, [defect]);
    }
    plant(None);
    assert!(!Defect::ALL.into_iter().any(is_planted));
    drop(planted);
}

#[test]
fn lww_drop_keeps_the_latest_of_concurrent_versions() {
    let (early, late) = (put(dot("a", 1), 10), put(dot("b", 1), 20));
    for order in [[early.clone(), late.clone()], [late, early]] {
        let (sound, broken) = without_and_with(Defect::LwwDrop, || live_after(&order));
        assert_eq!(sound.len(), 2);
        assert_eq!(broken, BTreeSet::from([dot("b", 1)]));
    }
}

#[test]
fn bound_in_apply_depends_on_the_order() {
    let of = |node, at| put(dot(node, 1), at);
    let covers = version(dot("x", 1), 40, &[dot("b", 1), dot("c", 1)], VersionState::Present);
    let one = [of("a", 10), of("b", 20), of("c", 30), covers.clone()];
    let other = [of("b", 20), of("c", 30), covers, of("a", 10)];
    let (sound, broken) =
        without_and_with(Defect::BoundInApply, || [&one, &other].map(|order| live_after(order)));
    assert_eq!(sound, [(); 2].map(|()| BTreeSet::from([dot("a", 1), dot("x", 1)])));
    assert_eq!(broken, [BTreeSet::from([dot("x", 1)]), BTreeSet::from([dot("a", 1), dot("x", 1)])]);
}

#[test]
fn forget_tombstone_lets_what_was_deleted_come_back() {
    let deleted = put(dot("a", 1), 10);
    let tombstone = version(dot("b", 1), 20, &[dot("a", 1)], VersionState::Tombstone);
    let in_order = [deleted.clone(), tombstone.clone()];
    let (sound, broken) = without_and_with(Defect::ForgetTombstone, || live_after(&in_order));
    assert_eq!((sound, broken), (BTreeSet::from([dot("b", 1)]), BTreeSet::new()));
    let late = [tombstone, deleted];
    let (sound, broken) = without_and_with(Defect::ForgetTombstone, || live_after(&late));
    assert_eq!((sound, broken), (BTreeSet::from([dot("b", 1)]), BTreeSet::from([dot("a", 1)])));
}

#[test]
fn an_op_that_a_defect_drops_as_it_comes_is_said_to_be_removed() {
    let (sound, broken) = without_and_with(Defect::LwwDrop, || {
        let mut record: Record = [put(dot("b", 1), 20)].into_iter().collect();
        apply(&mut record, &mut NodeClock::new(), None, put(dot("a", 1), 10)).unwrap()
    });
    assert_eq!(sound, Applied::Live { removed: Vec::new(), concurrent: true });
    assert_eq!(broken, Applied::Live { removed: vec![dot("a", 1)], concurrent: true });
}

/// The sender's claim, and what the receiver takes of it, where each refused one op that had replaced another.
fn claimed_and_taken() -> (Vec<u64>, Vec<u64>) {
    let all: Vec<Dot> = (1..=6).map(|seq| dot("a", seq)).collect();
    let start = SessionStart {
        session: SessionId(1),
        clock: NodeClock::from(dots(&all)),
        withheld: VectorClock::new(),
        facts: Arc::default(),
        own: None,
    };
    let mut sender = SessionSender::new(start, Claimable::Everything);
    sender.refused(&dot("a", 2), &VectorClock::from(dots(&[dot("a", 1)])));
    let mut receiver = SessionReceiver::new();
    receiver.refused(&dot("a", 4), &VectorClock::from(dots(&[dot("a", 3)])));
    let claimed = sender.complete_to();
    let taken = receiver.complete(0, &claimed).unwrap();
    let seqs = |clock: &NodeClock| (1..=6).filter(|seq| clock.contains(&dot("a", *seq))).collect();
    (seqs(&claimed), seqs(&taken))
}

#[test]
fn complete_over_refused_breaks_both_ends() {
    let (sound, broken) = without_and_with(Defect::CompleteOverRefused, claimed_and_taken);
    assert_eq!(sound, (vec![3, 4, 5, 6], vec![5, 6]));
    assert_eq!(broken, (vec![1, 2, 3, 4, 5, 6], vec![1, 2, 3, 4, 5, 6]));
}

#[test]
fn complete_over_contexts_breaks_both_ends() {
    let (sound, broken) = without_and_with(Defect::CompleteOverContexts, claimed_and_taken);
    assert_eq!(sound, (vec![3, 4, 5, 6], vec![5, 6]));
    assert_eq!(broken, (vec![1, 3, 4, 5, 6], vec![1, 3, 5, 6]));
}

#[test]
fn reuse_epoch_asks_nobody() {
    let own = NodeClock::new();
    let (sound, broken) = without_and_with(Defect::ReuseEpoch, || {
        let knows_more = NodeClock::from(dots(&[Dot { origin: origin("a", 7), seq: 1 }]));
        let peers = [PeerKnowledge::Silent, PeerKnowledge::Knows(&knows_more)];
        let settle = |last| settle(&origin("a", 7).node, BootId(8), last, &own, peers);
        [LastEpoch::Unbroken(BootId(7)), LastEpoch::Interrupted(BootId(7))].map(settle)
    });
    assert_eq!((sound, broken), ([(); 2].map(|()| origin("a", 8)), [(); 2].map(|()| origin("a", 7))));
}

#[test]
fn tombstone_hides_what_it_has_not_seen() {
    let (sound, broken) = without_and_with(Defect::TombstoneHides, || {
        let tombstone = version(dot("b", 1), 20, &[], VersionState::Tombstone);
        let record: Record = [put(dot("a", 1), 10), tombstone].into_iter().collect();
        (record.visible().map(|v| v.dot.clone()), record.is_deleted())
    });
    assert_eq!((sound, broken), ((Some(dot("a", 1)), false), (None, true)));
    let (sound, broken) = without_and_with(Defect::TombstoneHides, || {
        let tombstone = version(dot("b", 1), 5, &[], VersionState::Tombstone);
        let record: Record = [put(dot("a", 1), 10), tombstone].into_iter().collect();
        record.is_deleted()
    });
    assert_eq!((sound, broken), (false, false), "an earlier one hides nothing");
}

/// Whether a writer that had read the third of three siblings is made to cover the first, which the node has, and the
/// second, which it lacks.
fn covered(token: &[Dot], clock: &[Dot]) -> [bool; 2] {
    let record: Record = [put(dot("a", 1), 10), put(dot("a", 3), 30)].into_iter().collect();
    let token = VectorClock::from(dots(token));
    let context = context(&record, &NodeClock::from(dots(clock)), Some(&token));
    [1, 2].map(|seq| context.contains(&dot("a", seq)))
}

#[test]
fn fill_unseen_holes_covers_what_the_node_has() {
    let token = [dot("a", 3)];
    let whole = [dot("a", 1), dot("a", 2), dot("a", 3)];
    let (sound, broken) = without_and_with(Defect::FillUnseenHoles, || covered(&token, &whole));
    assert_eq!((sound, broken), ([false, false], [true, true]));
    let part = [dot("a", 1), dot("a", 3)];
    let (sound, broken) = without_and_with(Defect::FillUnseenHoles, || covered(&token, &part));
    assert_eq!(
        (sound, broken),
        ([false, false], [false, false]),
        "but no hole of which the node lacks a part"
    );
}

#[test]
fn plain_maxima_cover_whatever_is_below() {
    let part = [dot("a", 1), dot("a", 3)];
    let (sound, broken) = without_and_with(Defect::PlainMaxima, || covered(&[dot("a", 3)], &part));
    assert_eq!((sound, broken), ([false, false], [true, true]));
}

#[test]
fn wait_for_whole_peers_waits_for_ever() {
    let drained = [DrainedPeer::Whole, DrainedPeer::Rebootstrapping];
    let (sound, broken) = without_and_with(Defect::WaitForWholePeers, || may_serve(3, 2, 2, drained));
    assert_eq!((sound, broken), (true, false));
}

#[test]
fn scope_leak_lets_out_what_is_not_granted() {
    let leaves = || Trust::default().lets_out(&Namespace::new("x").unwrap());
    assert_eq!(without_and_with(Defect::ScopeLeak, leaves), (false, true));
}

#[test]
fn complete_beyond_scope_claims_what_is_held_back() {
    let (all, nothing) = (Scope::everything(), Scope::nothing());
    let scopes = CompletionScopes { sender: &all, grant: &nothing, relay: &all, receiver: &all };
    let (sound, broken) = without_and_with(Defect::CompleteBeyondScope, || scopes.claimable());
    assert_eq!((sound, broken), (Claimable::Nothing, Claimable::Everything));
}
