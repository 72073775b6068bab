//! The smallest history that breaks each rule of the merge, played as it was found. A1 is the first op of A, T:A1 a
//! tombstone that is op A1.

use std::collections::BTreeSet;
use std::sync::Arc;

use federation_core::attest::{Claimable, Trust};
use federation_core::decide::{Admission, Change};
use federation_core::dot::Dot;
use federation_core::dot_set::DotSet;
use federation_core::epoch::{LastEpoch, PeerKnowledge, settle};
use federation_core::id::{BootId, LogPosition, StoreId};
use federation_core::limits::{CLOCK_DRIFT_MAX, SIBLINGS_MAX};
use federation_core::node_clock::NodeClock;
use federation_core::op::Body;
use federation_core::port::store::{Boot, PeerFact, SessionId, SessionStart};
use federation_core::rejoin::{DrainedPeer, Rollback, Standing, StoreClaim, judge, may_serve};
use federation_core::scope::Scope;
use federation_core::seq_ranges::SeqRange;
use federation_core::session::{SessionReceiver, SessionSender};
use federation_core::time::DurationMs;
use federation_core::vector_clock::VectorClock;

use crate::mesh::{End, Mesh, Mood, Read, origin};
use crate::replica::{Replica, key, key_in, put};

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

fn three() -> Mesh {
    Mesh::new(&["a", "b", "c"])
}

/// A client that has read exactly these versions, all of them with empty contexts.
fn read_of(dots: &[&Dot]) -> Read {
    let dots: BTreeSet<Dot> = dots.iter().map(|d| (*d).clone()).collect();
    Read { token: VectorClock::from(dots.iter().cloned().collect::<DotSet>()), saw: dots }
}

#[test]
fn counterexample_01_completion_leaves_out_what_was_refused() {
    let mut mesh = three();
    mesh.replicas[A].now = mesh.replicas[A].now.saturating_add(CLOCK_DRIFT_MAX).saturating_add(DurationMs(1));
    let a1 = mesh.write(A, &key("r"), put("1"), None);
    mesh.session(A, B);
    assert!(!mesh.replicas[B].clock.contains(&a1), "B refused A1 and must not claim to have it");
    mesh.session(B, C);
    assert!(!mesh.replicas[C].clock.contains(&a1), "nor let C claim it");

    mesh.replicas[B].now = mesh.replicas[A].now;
    mesh.session(A, B);
    assert_eq!(mesh.replicas[B].live(&key("r")), BTreeSet::from([a1]), "the retry is applied, no duplicate");
}

#[test]
fn counterexample_01b_completion_leaves_out_what_a_refused_op_had_replaced() {
    for (mood, writes) in [(Mood::Busy, 2), (Mood::Forbidding, 3)] {
        let mut mesh = three();
        let dots: Vec<Dot> = (0..writes).map(|_| mesh.write(A, &key("r"), put("x"), None)).collect();
        // The last one is refused; those before it are nowhere live any more.
        mesh.moods[B] = mood;
        mesh.session(A, B);
        for again in ["the session that was refused", "the next, with the op among the dead letters"] {
            assert_eq!(mesh.replicas[B].clock, NodeClock::new(), "{again}");
            mesh.session(A, B);
        }
        mesh.converge();
        mesh.assert_converged();
        assert!(dots.iter().all(|dot| mesh.replicas[B].clock.contains(dot)));
    }
}

#[test]
fn counterexample_01b_each_end_of_a_session_withholds_dot_and_context() {
    let o = origin("a", 1);
    let dot = |seq| Dot { origin: o.clone(), seq };
    let mut clock = NodeClock::new();
    clock.insert_range(&o, SeqRange { first: 1, last: 9 });
    let context = |seqs: &[u64]| VectorClock::from(seqs.iter().map(|s| dot(*s)).collect::<DotSet>());
    let start = |withheld| SessionStart {
        session: SessionId(1),
        clock: clock.clone(),
        withheld,
        facts: Arc::default(),
        own: None,
    };

    let mut sender = SessionSender::new(start(context(&[1])), Claimable::Everything);
    let page = sender.next_page();
    sender.refused(&dot(4), &context(&[2, 3]));
    let claimed = sender.complete_to();
    let mut receiver = SessionReceiver::new();
    assert!(receiver.complete(sender.pages(), &claimed).is_err(), "a page is missing");
    receiver.handled(page);
    receiver.refused(&dot(9), &context(&[7]));
    assert!(receiver.complete(sender.pages() + 1, &claimed).is_err(), "another page is missing");
    let merged = receiver.complete(sender.pages(), &claimed).unwrap();
    let expect: DotSet = [5, 6, 8].into_iter().map(dot).collect();
    assert_eq!(merged.into_dots(), expect);
    assert!(SessionReceiver::new().complete(0, &claimed).is_ok(), "a session without pages is whole");
}

#[test]
fn counterexample_03_a_node_that_was_rolled_back_does_not_serve_what_was_deleted_and_collected() {
    let mut mesh = three();
    let c1 = mesh.write(C, &key("r"), put("1"), None);
    mesh.session(C, A);
    mesh.session(C, B);
    let backup = mesh.replicas[C].clone();
    let seen =
        PeerFact { store: StoreId { created_ms: 1, random: 1 }, boot: BootId(9), position: LogPosition(100) };
    let t = mesh.write(A, &key("r"), Body::Delete, None);
    mesh.send(&t, B).unwrap();
    mesh.send(&t, C).unwrap();
    // A and B collect the tombstone: no live version is left, the clock stays.
    for at in [A, B] {
        mesh.replicas[at].commit(vec![Change::DropDead { key: key("r"), dots: vec![t.clone()] }]);
    }
    // The old disk of C knows of no boot 9; its own origin is complete, so no session would mend it.
    let boots =
        [Boot { id: BootId(3), ended_at: Some(LogPosition(50)) }, Boot { id: BootId(10), ended_at: None }];
    let claim = StoreClaim { store: seen.store, boots: &boots, boot: BootId(10), position: LogPosition(999) };
    assert_eq!(judge(Some(&seen), &claim), Standing::RolledBack(Rollback::BootMissing { boot: BootId(9) }));
    mesh.replicas[C] = backup;
    assert!(mesh.replicas[C].live(&key("r")).contains(&c1));
    for peer in [A, B] {
        let peer = mesh.replicas[peer].clone();
        mesh.replicas[C].drop_what_is_dead_at(&peer);
    }
    assert!(mesh.replicas[C].record(&key("r")).is_empty(), "the zombie is gone");
}

#[test]
fn counterexample_04_a_lost_series_of_dots_goes_on_only_if_every_peer_confirms_it() {
    use PeerKnowledge::{Knows, Silent};

    let node = origin("c", 7).node;
    let of = |seqs: &[u64]| {
        NodeClock::from(seqs.iter().map(|s| Dot { origin: origin("c", 7), seq: *s }).collect::<DotSet>())
    };
    let (own, same, more) = (of(&[1]), of(&[1]), of(&[2]));
    let check = |peers: &[PeerKnowledge<'_>], expect: u64| {
        let settle = |last| settle(&node, BootId(8), last, &own, peers.iter().copied());
        assert_eq!(settle(LastEpoch::Unbroken(BootId(7))), origin("c", expect), "{peers:?}");
        assert_eq!(settle(LastEpoch::Interrupted(BootId(7))), origin("c", 8), "whatever they say: {peers:?}");
    };
    check(&[Knows(&same), Knows(&same)], 7);
    check(&[Knows(&same), Silent], 8);
    check(&[Silent, Silent], 8);
    check(&[Knows(&same), Knows(&more)], 8);
    check(&[], 7);
}

#[test]
fn counterexample_05_completion_covers_nothing_that_is_held_back() {
    let mut mesh = three();
    let y = Scope::parse(["y"]).unwrap();
    mesh.trusts.insert((A, C), Trust { grant: y, ..Trust::full() });
    // B has the ops of A, and grants C both namespaces. C believes A in everything.
    let x1 = mesh.write(A, &key_in("x", "r"), put("x"), None);
    let y1 = mesh.write(A, &key_in("y", "r"), put("y"), None);
    mesh.session(A, B);
    mesh.session(A, C);
    assert_eq!(mesh.replicas[C].live(&key_in("y", "r")), BTreeSet::from([y1]));
    assert!(!mesh.replicas[C].clock.contains(&x1), "A never sent it, so C must not claim to have it");
    mesh.session(B, C);
    assert_eq!(mesh.replicas[C].live(&key_in("x", "r")), BTreeSet::from([x1]), "B sends it");
}

#[test]
fn counterexample_05_own_ops_are_claimed_of_the_present_epoch_alone() {
    // B keeps less than C. Before, it kept more: of that time its clock has ops that are not on its new disk.
    let mut mesh = three();
    let x1 = mesh.write(B, &key_in("x", "r"), put("x"), None);
    mesh.session(B, A);
    let y = Scope::parse(["y"]).unwrap();
    mesh.trusts.insert((A, B), Trust { replicates: y.clone(), ..Trust::full() });
    mesh.replicas[B].facts.replica_scope = y;
    mesh.come_back_wiped(B);
    assert!(mesh.replicas[B].clock.contains(&x1), "B does not keep it, so it may claim it");
    assert!(mesh.replicas[B].live(&key_in("x", "r")).is_empty());
    let y1 = mesh.write(B, &key_in("y", "r"), put("1"), None);
    let y2 = mesh.write(B, &key_in("y", "r"), put("2"), None);
    mesh.session(B, C);
    assert!(!mesh.replicas[C].clock.contains(&x1), "what B cannot send, it must not claim to C");
    assert!(mesh.replicas[C].clock.contains(&y1), "what B has replaced itself, it claims: {y2} is there");
    mesh.session(A, C);
    assert_eq!(mesh.replicas[C].live(&key_in("x", "r")), BTreeSet::from([x1]));
}

#[test]
fn a_scope_that_grows_is_filled_again() {
    let mut mesh = three();
    let y = Scope::parse(["y"]).unwrap();
    mesh.replicas[C].keep(y.clone());
    mesh.trusts.insert((A, C), Trust { replicates: y, ..Trust::full() });
    let x1 = mesh.write(A, &key_in("x", "r"), put("x"), None);
    let y1 = mesh.write(A, &key_in("y", "r"), put("1"), None);
    let y2 = mesh.write(A, &key_in("y", "r"), put("2"), None);
    mesh.session(A, C);
    assert!(
        [&x1, &y1, &y2].iter().all(|dot| mesh.replicas[C].clock.contains(dot)),
        "one that C does not keep"
    );
    mesh.replicas[C].keep(Scope::everything());
    mesh.check();
    mesh.trusts.clear();
    mesh.restart(C, End::CutOff, |_| true);
    mesh.session(A, C);
    assert_eq!(mesh.replicas[C].live(&key_in("x", "r")), BTreeSet::from([x1]));
    assert_eq!(mesh.replicas[C].clock, mesh.replicas[A].clock);
}

#[test]
fn counterexample_06_a_delete_that_had_not_seen_a_version_does_not_hide_it() {
    let mut mesh = three();
    let a0 = mesh.write(A, &key("r"), put("0"), None);
    mesh.send(&a0, C).unwrap();
    let read = mesh.read(A, &key("r"));
    let c1 = mesh.write(C, &key("r"), put("1"), None);
    mesh.replicas[A].now = mesh.replicas[A].now.saturating_add(DurationMs(1_000));
    let t = mesh.write(A, &key("r"), Body::Delete, Some(&read));
    mesh.send(&c1, A).unwrap();
    mesh.send(&t, C).unwrap();
    for at in [A, C] {
        let record = mesh.replicas[at].record(&key("r"));
        assert_eq!(
            record.visible().map(|v| &v.dot),
            Some(&c1),
            "hidden at {at}, by a later delete that had not seen it"
        );
        assert!(!record.is_deleted());
        assert_eq!(record.versions().len(), 2, "a conflict until resolved");
    }
    let t2 = mesh.write(C, &key("r"), Body::Delete, None);
    assert!(mesh.replicas[C].record(&key("r")).is_deleted(), "a delete that saw both deletes");
    assert_eq!(mesh.send(&t2, A), Ok(Admission::Applied { concurrent: false }));
}

#[test]
fn counterexample_08_holes_are_not_filled_over_unseen_versions() {
    let mut mesh = three();
    // A1 and A2 are siblings: the writer of A2 had seen nothing.
    let a1 = mesh.write(A, &key("r"), put("1"), None);
    let a2 = mesh.write(A, &key("r"), put("2"), Some(&read_of(&[])));
    for to in [B, C] {
        mesh.send(&a1, to).unwrap();
        mesh.send(&a2, to).unwrap();
    }
    let c1 = mesh.write(C, &key("r"), put("3"), Some(&read_of(&[&a1])));
    // The writer of C2 has seen A2 alone. C has A1, and holds it no longer: C1 has replaced it.
    let c2 = mesh.write(C, &key("r"), put("4"), Some(&read_of(&[&a2])));
    assert!(!mesh.made[&c2].op.op.context.contains(&a1), "a version that the writer of C2 never saw");
    mesh.send(&c2, A).unwrap();
    mesh.send(&c2, B).unwrap();
    mesh.come_back_wiped(C);
    assert!(!mesh.replicas[C].clock.contains(&c1), "C1 is lost with the disk");
    for replica in &mesh.replicas {
        assert_eq!(replica.live(&key("r")), BTreeSet::from([a1.clone(), c2.clone()]), "{}", replica.node);
    }
}

#[test]
fn counterexample_08_holes_are_not_filled_over_what_the_node_lacks() {
    let mut mesh = three();
    let a1 = mesh.write(A, &key("r"), put("1"), None);
    let a2 = mesh.write(A, &key("r"), put("2"), Some(&read_of(&[])));
    mesh.send(&a2, C).unwrap();
    let c1 = mesh.write(C, &key("r"), put("3"), None);
    assert!(!mesh.made[&c1].op.op.context.contains(&a1));
    mesh.send(&a1, C).unwrap();
    assert_eq!(mesh.replicas[C].live(&key("r")), BTreeSet::from([a1, c1]));
}

#[test]
fn holes_over_other_records_are_filled_and_keep_contexts_small() {
    let mut mesh = three();
    for i in 0..50 {
        mesh.write(A, &key(["r0", "r1"][i % 2]), put("x"), None);
    }
    for record in ["r0", "r1"] {
        for version in mesh.replicas[A].record(&key(record)).versions() {
            assert_eq!(version.context.range_count(), 1, "{:?}", version.context);
        }
    }
}

#[test]
fn counterexample_09_a_version_is_not_dead_where_a_live_one_covers_it() {
    let mut mesh = three();
    let c1 = mesh.write(C, &key("r"), put("1"), None);
    mesh.session(C, A);
    mesh.session(C, B);
    let c2 = mesh.write(C, &key("r"), put("2"), None);
    // A is wiped, gets C1 from B, and refuses C2.
    mesh.replicas[A] = mesh.wiped(A);
    mesh.session(B, A);
    assert_eq!(mesh.replicas[A].live(&key("r")), BTreeSet::from([c1.clone()]));
    let c = mesh.replicas[C].clone();
    assert!(c.clock.contains(&c1) && c.record(&key("r")).version(&c1).is_none());
    mesh.replicas[A].drop_what_is_dead_at(&c);
    assert_eq!(
        mesh.replicas[A].live(&key("r")),
        BTreeSet::from([c1]),
        "A has the one version until it takes {c2}"
    );
}

#[test]
fn counterexample_10_two_nodes_that_rebootstrap_at_once_do_not_wait_for_each_other() {
    assert!(!may_serve(3, 2, 2, [DrainedPeer::Whole]));
    assert!(may_serve(3, 2, 2, [DrainedPeer::Whole, DrainedPeer::Rebootstrapping]));
}

#[test]
fn counterexample_11_the_merge_drops_nothing_for_a_bound() {
    let names: Vec<String> = (0..SIBLINGS_MAX + 4).map(|i| format!("n{i}")).collect();
    let mut mesh = Mesh::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let dots: Vec<Dot> = (0..mesh.n()).map(|at| mesh.write(at, &key("r"), put("x"), None)).collect();
    let mut backwards = Replica::new("z", 99);
    let mut forwards = backwards.clone();
    for dot in &dots {
        forwards.admit(mesh.made[dot].op.clone());
    }
    for dot in dots.iter().rev() {
        backwards.admit(mesh.made[dot].op.clone());
    }
    assert_eq!(forwards.record(&key("r")).versions().len(), SIBLINGS_MAX + 4);
    assert_eq!(forwards.records, backwards.records);
}

#[test]
fn counterexample_12_contexts_have_holes() {
    let mut mesh = three();
    let a1 = mesh.write(A, &key("r"), put("1"), None);
    let a2 = mesh.write(A, &key("r"), put("2"), Some(&read_of(&[])));
    for dot in [&a1, &a2] {
        mesh.send(dot, B).unwrap();
    }
    let b1 = mesh.write(B, &key("r"), put("3"), Some(&read_of(&[&a2])));
    mesh.send(&b1, A).unwrap();
    for at in [A, B] {
        assert_eq!(
            mesh.replicas[at].live(&key("r")),
            BTreeSet::from([a1.clone(), b1.clone()]),
            "nobody had read A1"
        );
    }
}

#[test]
fn counterexample_13_an_old_disk_that_returns_brings_its_ops_along() {
    let mut mesh = three();
    let a1 = mesh.write(A, &key("r"), put("1"), None);
    let old_disk = mesh.replicas[A].clone();
    mesh.come_back_wiped(A);
    let again = mesh.write(A, &key("r"), put("2"), None);
    assert_ne!(again, a1, "a new series");
    mesh.send(&again, B).unwrap();
    mesh.come_back_with(A, old_disk, |_| true);
    mesh.converge();
    mesh.assert_converged();
    let both = BTreeSet::from([a1, again]);
    assert!(mesh.replicas.iter().all(|r| r.live(&key("r")) == both), "the lost op was never declared void");
}
