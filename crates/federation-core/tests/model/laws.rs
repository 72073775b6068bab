//! Laws of the merge and of the clocks.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use federation_core::apply::{Applied, Equivocation, apply, drop_dead, repair};
use federation_core::decide::Received;
use federation_core::dot::Dot;
use federation_core::dot_set::DotSet;
use federation_core::hlc::Hlc;
use federation_core::id::{OpHash, RecordKey};
use federation_core::limits::CLOCK_DRIFT_MAX;
use federation_core::node_clock::NodeClock;
use federation_core::op::Body;
use federation_core::record::{Record, Version};
use federation_core::time::WallMs;
use federation_core::vector_clock::VectorClock;

use crate::mesh::{Mesh, Read, origin};
use crate::replica::{Replica, key, put};

/// A random history of three writers on two records, as the ops it made.
fn ops() -> impl Strategy<Value = Vec<Received>> {
    let step = (0..3_usize, 0..2_usize, 0..4_usize, 0..3_usize, any::<bool>());
    prop::collection::vec(step, 1..24).prop_map(|steps| {
        let mut mesh = Mesh::new(&["a", "b", "c"]);
        let mut reads: Vec<Vec<Read>> = vec![Vec::new(), Vec::new()];
        for (at, record, choice, other, is_delete) in steps {
            let key = key(["r0", "r1"][record]);
            let read = reads[record].get(other).cloned();
            let body = if is_delete { Body::Delete } else { put("x") };
            match choice {
                0 => mesh.session(at, other),
                1 => reads[record].push(mesh.read(at, &key)),
                2 => drop(mesh.try_write(at, &key, body, read.as_ref())),
                _ => drop(mesh.try_write(at, &key, body, None)),
            }
        }
        mesh.made.into_values().map(|made| made.op).collect()
    })
}

/// What the merge alone makes of ops in this order.
fn merged<'a>(ops: impl IntoIterator<Item = &'a Received>) -> (BTreeMap<RecordKey, Record>, NodeClock) {
    let (mut records, mut clock) = (BTreeMap::<RecordKey, Record>::new(), NodeClock::new());
    for Received { op, sealed } in ops {
        let record = records.entry(op.key.clone()).or_default();
        let held = record.version(&op.dot).map(|v| v.hash);
        apply(record, &mut clock, held, Version::of(op, sealed.op.hash)).unwrap();
    }
    (records, clock)
}

fn ops_and_two_orders() -> impl Strategy<Value = (Vec<Received>, Vec<Received>)> {
    ops().prop_flat_map(|ops| (Just(ops.clone()).prop_shuffle(), Just(ops).prop_shuffle()))
}

fn dots() -> impl Strategy<Value = DotSet> {
    prop::collection::btree_set((0..3_u64, 1..12_u64), 0..12).prop_map(|dots| {
        dots.into_iter().map(|(epoch, seq)| Dot { origin: origin("a", epoch), seq }).collect()
    })
}

fn plain(set: &DotSet) -> BTreeSet<Dot> {
    (0..3)
        .flat_map(|epoch| (1..14).map(move |seq| Dot { origin: origin("a", epoch), seq }))
        .filter(|dot| set.contains(dot))
        .collect()
}

fn joined(a: &DotSet, b: &DotSet) -> DotSet {
    let mut out = a.clone();
    out.join(b);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn apply_is_commutative((one, two) in ops_and_two_orders()) {
        prop_assert_eq!(merged(&one), merged(&two));
    }

    #[test]
    fn apply_is_commutative_over_any_part_of_a_history((one, two) in ops_and_two_orders(), keep in any::<u32>()) {
        // Gaps: what is missing may be what another op has seen.
        let parts: BTreeSet<&Dot> =
            one.iter().enumerate().filter(|(i, _)| keep >> (i % 32) & 1 == 1).map(|(_, r)| &r.op.dot).collect();
        let part = |ops: &[Received]| {
            let ops: Vec<_> = ops.iter().filter(|r| parts.contains(&r.op.dot)).cloned().collect();
            merged(&ops)
        };
        prop_assert_eq!(part(&one), part(&two));
    }

    #[test]
    fn apply_is_associative((one, two) in ops_and_two_orders(), cut in 0..24_usize) {
        // What came of some ops, then of the others, is what came of all: through replicas that merge.
        let (left, right) = one.split_at(cut.min(one.len()));
        let mut grouped = Mesh::new(&["x", "y", "z"]);
        for (at, ops) in [(0, left), (1, right), (2, &two[..])] {
            for op in ops {
                grouped.replicas[at].admit(op.clone());
            }
        }
        let state = |r: &Replica| (r.records.clone(), r.clock.clone());
        let mut ours = grouped.replicas[0].clone();
        for op in grouped.replicas[1].ops.values() {
            ours.admit(op.clone());
        }
        ours.complete(grouped.replicas[1].clock.clone());
        prop_assert_eq!(state(&ours), state(&grouped.replicas[2]));
    }

    #[test]
    fn apply_is_idempotent((one, two) in ops_and_two_orders()) {
        let twice: Vec<_> = one.iter().chain(&two).cloned().collect();
        prop_assert_eq!(merged(&one), merged(&twice));
    }

    #[test]
    fn repair_finds_the_same_as_apply((one, two) in ops_and_two_orders()) {
        // The clock is ahead of the ops, as where an index is made anew from a log.
        let (records, clock) = merged(&one);
        let (mut again, mut ahead) = (BTreeMap::<RecordKey, Record>::new(), clock.clone());
        for Received { op, sealed } in two.iter().chain(&two) {
            let record = again.entry(op.key.clone()).or_default();
            repair(record, &mut ahead, Version::of(op, sealed.op.hash));
        }
        prop_assert_eq!(records, again);
        prop_assert_eq!(clock, ahead);
    }

    #[test]
    fn the_visible_value_is_the_put_with_the_greatest_rank(ops in ops()) {
        let (records, _) = merged(&ops);
        for record in records.values() {
            let puts = record.versions().iter().filter(|v| !v.is_tombstone());
            let expect = puts.max_by_key(|v| (v.hlc, v.dot.clone()));
            prop_assert_eq!(record.visible(), expect);
            let all_tombstones = record.versions().iter().all(Version::is_tombstone);
            prop_assert_eq!(record.is_deleted(), all_tombstones && !record.is_empty());
        }
    }

    #[test]
    fn drop_dead_takes_what_is_named_and_nothing_else(ops in ops(), odd in any::<bool>()) {
        let (records, _) = merged(&ops);
        let is_dead = |dot: &Dot| (dot.seq % 2 == 1) == odd;
        for record in records.values() {
            let mut rest = record.clone();
            let dropped: BTreeSet<_> = drop_dead(&mut rest, is_dead).into_iter().collect();
            for version in record.versions() {
                prop_assert_eq!(rest.version(&version.dot).is_none(), is_dead(&version.dot));
                prop_assert_eq!(dropped.contains(&version.dot), is_dead(&version.dot));
            }
        }
    }

    #[test]
    fn dot_sets_are_sets(a in dots(), b in dots()) {
        let (pa, pb) = (plain(&a), plain(&b));
        prop_assert_eq!(a.dot_count(), pa.len() as u64);
        prop_assert_eq!(plain(&joined(&a, &b)), pa.union(&pb).cloned().collect::<BTreeSet<_>>());
        prop_assert_eq!(plain(&a.minus(&b)), pa.difference(&pb).cloned().collect::<BTreeSet<_>>());
        prop_assert_eq!(a.contains_all(&b), pb.is_subset(&pa));
        prop_assert_eq!(a == b, pa == pb, "equal sets are equal values");
        prop_assert_eq!(a.minus(&a), DotSet::new());
        for epoch in 0..3 {
            let origin = origin("a", epoch);
            let greatest = pa.iter().filter(|d| d.origin == origin).map(|d| d.seq).max();
            prop_assert_eq!(a.max_seq(&origin), greatest.unwrap_or(0));
        }
        let rebuilt: DotSet = pa.into_iter().collect();
        prop_assert_eq!(rebuilt, a);
    }

    #[test]
    fn clocks_are_a_lattice(a in dots(), b in dots(), c in dots()) {
        prop_assert_eq!(joined(&a, &b), joined(&b, &a));
        prop_assert_eq!(joined(&a, &joined(&b, &c)), joined(&joined(&a, &b), &c));
        prop_assert_eq!(joined(&a, &a), a.clone());
        let top = joined(&a, &b);
        prop_assert!(top.contains_all(&a) && top.contains_all(&b), "an upper bound");
        prop_assert!(!c.contains_all(&a) || !c.contains_all(&b) || c.contains_all(&top), "the least one");
        prop_assert_eq!(a.contains_all(&b), joined(&a, &b) == a, "the order is that of the join");
    }

    #[test]
    fn a_shared_clock_does_not_change_under_its_copies(a in dots(), b in dots()) {
        let (copy, before) = (a.clone(), plain(&a));
        let mut changed = a.clone();
        changed.join(&b);
        changed.subtract(&a);
        prop_assert_eq!(plain(&copy), before);
    }

    #[test]
    fn hlc_grows_over_what_it_follows(now in 0..5_000_000_u64, last in 0..5_000_000_u64, covered in 0..5_000_000_u64) {
        let (now, last, covered) = (WallMs(now), Hlc::at(WallMs(last)), Hlc::at(WallMs(covered)));
        let made = Hlc::advance(now, Some(last), Some(covered));
        prop_assert!(made >= Hlc::at(now), "never behind the wall clock");
        prop_assert!(!made.is_ahead_of(now), "never refused by one whose clock is right");
        if last.next().max(covered.next()).wall() <= now.saturating_add(CLOCK_DRIFT_MAX) {
            prop_assert!(made > last && made > covered);
        } else {
            prop_assert_eq!(made, Hlc::at(now), "one clock that was far ahead does not drag the others along");
        }
    }

    #[test]
    fn hlc_never_goes_back_while_the_wall_clock_stays_within_the_drift(ticks in prop::collection::vec(0..50_000_u64, 1..40)) {
        let mut last = None;
        for tick in ticks {
            let made = Hlc::advance(WallMs(1_000_000 + tick), last, None);
            prop_assert!(last.is_none_or(|last| made > last));
            last = Some(made);
        }
    }
}

#[test]
fn hlc_bits_keep_order_at_the_ends() {
    assert_eq!(Hlc::from_bits(u64::MAX).next(), Hlc::from_bits(u64::MAX), "no wrap to the beginning");
    assert_eq!(Hlc::at(WallMs(u64::MAX)).wall(), WallMs((1 << 48) - 1));
    assert!(!Hlc::from_bits(u64::MAX).is_ahead_of(WallMs(u64::MAX)));
    assert!(Hlc::from_bits(u64::MAX).is_ahead_of(WallMs(0)));
}

#[test]
fn a_duplicate_changes_nothing_and_a_superseded_op_enters_the_clock_alone() {
    let mut mesh = Mesh::new(&["a", "b", "c"]);
    let first = mesh.write(0, &key("r"), put("1"), None);
    let second = mesh.write(0, &key("r"), put("2"), None);
    let version = |dot: &Dot| {
        let made = &mesh.made[dot].op;
        Version::of(&made.op, made.sealed.op.hash)
    };
    let (mut record, mut clock) = (Record::new(), NodeClock::new());
    let live = Applied::Live { removed: vec![], concurrent: false };
    assert_eq!(apply(&mut record, &mut clock, None, version(&second)), Ok(live));
    assert_eq!(apply(&mut record, &mut clock, None, version(&first)), Ok(Applied::Superseded));
    assert!(clock.contains(&first) && record.version(&first).is_none());
    let before = (record.clone(), clock.clone());
    assert_eq!(apply(&mut record, &mut clock, None, version(&first)), Ok(Applied::Duplicate));
    let held = Some(version(&second).hash);
    assert_eq!(apply(&mut record, &mut clock, held, version(&second)), Ok(Applied::Duplicate));
    assert_eq!((record, clock), before);
}

#[test]
fn the_merge_itself_tells_a_live_duplicate_from_another_op_under_its_dot() {
    let mut mesh = Mesh::new(&["a"]);
    let dot = mesh.write(0, &key("r"), put("1"), None);
    let op = &mesh.made[&dot].op;
    let version = Version::of(&op.op, op.sealed.op.hash);
    let (mut record, mut clock) = (Record::new(), NodeClock::new());
    // Live, on whichever record, and the clock does not say so: it is asked second.
    let held = Some(version.hash);
    assert_eq!(apply(&mut record, &mut clock, held, version.clone()), Ok(Applied::Duplicate));
    let other = OpHash([1; 32]);
    assert_ne!(other, version.hash);
    let refused = apply(&mut record, &mut clock, Some(other), version);
    assert_eq!(refused, Err(Equivocation { held: other }));
    assert_eq!((record, clock), (Record::new(), NodeClock::new()), "nothing changed");
}

#[test]
fn contexts_are_not_shared_between_records() {
    let mut mesh = Mesh::new(&["a"]);
    mesh.write(0, &key("r0"), put("1"), None);
    let second = mesh.write(0, &key("r1"), put("2"), None);
    assert_eq!(
        mesh.made[&second].op.op.context,
        VectorClock::new(),
        "a new record's first op has seen nothing"
    );
}
