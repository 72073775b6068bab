//! What a coordinator refuses, and what it makes of input that no honest node sends.

use std::collections::BTreeSet;

use federation_core::apply::{Applied, apply};
use federation_core::context::context;
use federation_core::decide::{Admission, Change, Condition, WriteRefusal};
use federation_core::dot::Dot;
use federation_core::dot_set::DotSet;
use federation_core::hlc::Hlc;
use federation_core::id::{AgentId, OpHash};
use federation_core::limits::{CLOCK_DRIFT_MAX, CONTEXT_RANGES_MAX, OP_BYTES_MAX, SIBLINGS_MAX};
use federation_core::node_clock::NodeClock;
use federation_core::op::{Body, Op};
use federation_core::record::{Record, Version, VersionState};
use federation_core::scope::Scope;
use federation_core::seq_ranges::SeqRange;
use federation_core::time::{DurationMs, WallMs};
use federation_core::vector_clock::VectorClock;

use crate::mesh::{Mesh, origin};
use crate::replica::{Replica, key, key_in, mutation, put, seal};

fn foreign(node: &str, seq: u64, context: &[(&str, u64)]) -> Op {
    let context: DotSet =
        context.iter().map(|(node, seq)| Dot { origin: origin(node, 1), seq: *seq }).collect();
    Op {
        dot: Dot { origin: origin(node, 1), seq },
        hlc: Hlc::at(WallMs(1_000_000)),
        key: key("r"),
        author: AgentId::new("agent").unwrap(),
        context: context.into(),
        body: put(node),
    }
}

#[test]
fn absent_holds_where_no_namespace_shows_a_record_of_that_id() {
    let mut replica = Replica::new("a", 1);
    let absent = |ns| mutation(&key_in(ns, "r"), put("x"), Condition::Absent, None);
    assert!(replica.mutate(absent("n1")).is_ok());
    let exists = |ns| Err(WriteRefusal::Exists { key: key_in(ns, "r") });
    assert_eq!(replica.mutate(absent("n1")).map(drop), exists("n1"));
    assert_eq!(replica.mutate(absent("n2")).map(drop), exists("n1"));
    replica.write(&key_in("n1", "r"), Body::Delete, None).unwrap();
    // Both in one group: the second sees the first, which no index knows of yet.
    let plan = replica.commit(vec![Change::Write(absent("n2")), Change::Write(absent("n1"))]);
    assert_eq!(plan.ops.len(), 1);
    assert_eq!(replica.mutate(absent("n1")).map(drop), exists("n2"));
}

#[test]
fn absent_in_a_scope_asks_the_namespaces_of_the_scope_and_no_other() {
    let mut replica = Replica::new("a", 1);
    let scope = Scope::parse(["n2", "n3"]).unwrap();
    let absent = |ns| mutation(&key_in(ns, "r"), put("x"), Condition::AbsentIn(scope.clone()), None);
    replica.write(&key_in("n1", "r"), put("x"), None).unwrap();
    assert!(replica.mutate(absent("n2")).is_ok(), "what stands in n1 is not told");
    let exists = Err(WriteRefusal::Exists { key: key_in("n2", "r") });
    assert_eq!(replica.mutate(absent("n2")).map(drop), exists);
    assert_eq!(replica.mutate(absent("n3")).map(drop), exists);
}

#[test]
fn present_and_visible_hold_for_what_a_reader_sees() {
    let mut replica = Replica::new("a", 1);
    let mut check = |body: Body, condition: Condition, expect: Result<(), WriteRefusal>| {
        let made = replica.mutate(mutation(&key("r"), body, condition.clone(), None));
        assert_eq!(made.as_ref().map(drop).map_err(Clone::clone), expect, "{condition:?}");
        made.ok().map(|op| op.op.dot)
    };
    let nobody = Dot { origin: origin("z", 1), seq: 1 };
    check(put("x"), Condition::Present, Err(WriteRefusal::Missing));
    check(put("x"), Condition::Visible(nobody.clone()), Err(WriteRefusal::Missing));
    let first = check(put("1"), Condition::None, Ok(())).unwrap();
    check(put("x"), Condition::Visible(nobody.clone()), Err(WriteRefusal::Changed));
    check(put("x"), Condition::Live(nobody.clone()), Err(WriteRefusal::Changed));
    let second = check(put("2"), Condition::Live(first.clone()), Ok(())).unwrap();
    check(put("x"), Condition::Live(first.clone()), Err(WriteRefusal::Changed));
    let second = check(put("2"), Condition::Visible(second), Ok(())).unwrap();
    check(put("x"), Condition::Visible(first), Err(WriteRefusal::Changed));
    check(put("3"), Condition::Present, Ok(()));
    check(Body::Delete, Condition::Present, Ok(()));
    check(Body::Delete, Condition::Present, Err(WriteRefusal::Deleted));
    check(put("x"), Condition::Visible(second), Err(WriteRefusal::Deleted));
    check(put("4"), Condition::Absent, Ok(()));
}

#[test]
fn visible_compares_with_the_winner_among_siblings() {
    let mut replica = Replica::new("m", 1);
    for (node, ms) in [("a", 5), ("z", 5), ("b", 4)] {
        let op = Op { hlc: Hlc::at(WallMs(ms)), ..foreign(node, 1, &[]) };
        replica.admit(seal(op));
    }
    let visible = |node: &str| {
        let dot = Dot { origin: origin(node, 1), seq: 1 };
        mutation(&key("r"), put("x"), Condition::Visible(dot), None)
    };
    assert_eq!(replica.mutate(visible("a")).err(), Some(WriteRefusal::Changed));
    assert_eq!(replica.mutate(visible("b")).err(), Some(WriteRefusal::Changed));
    assert!(replica.mutate(visible("z")).is_ok(), "the same time: the greater origin wins");
}

#[test]
fn the_seventeenth_sibling_is_refused_and_a_write_that_replaces_is_not() {
    let mut replica = Replica::new("m", 1);
    let blind = || Some(VectorClock::new());
    for _ in 0..SIBLINGS_MAX {
        replica.write(&key("r"), put("x"), blind()).unwrap();
    }
    let refusal = WriteRefusal::TooManySiblings { count: SIBLINGS_MAX + 1, limit: SIBLINGS_MAX };
    let before = replica.clock.clone();
    assert_eq!(replica.write(&key("r"), put("x"), blind()).err(), Some(refusal));
    assert_eq!(replica.clock, before, "nothing of it stays");
    // One more comes from a peer all the same, and a writer that has seen one of them still may not add.
    assert_eq!(replica.admit(seal(foreign("p", 1, &[]))), Admission::Applied { concurrent: true });
    let one = VectorClock::from(
        [replica.record(&key("r")).versions()[0].dot.clone()].into_iter().collect::<DotSet>(),
    );
    assert!(replica.write(&key("r"), put("x"), Some(one)).is_err());
    assert!(replica.write(&key("r"), put("x"), None).is_ok(), "a write that has seen them all");
    assert_eq!(replica.record(&key("r")).versions().len(), 1);
}

#[test]
fn an_op_over_the_limit_is_refused_and_leaves_nothing() {
    let mut replica = Replica::new("m", 1);
    let huge = put(&"x".repeat(OP_BYTES_MAX));
    let refusal = replica.write(&key("r"), huge, None).unwrap_err();
    assert!(
        matches!(refusal, WriteRefusal::TooLarge { bytes, limit_bytes: OP_BYTES_MAX } if bytes > OP_BYTES_MAX)
    );
    assert_eq!((replica.clock.clone(), replica.last_hlc), (NodeClock::new(), None));
    assert_eq!(replica.write(&key("r"), put("x"), None).unwrap().op.dot.seq, 1, "its number was not used");
}

#[test]
fn a_context_that_no_decoder_takes_is_refused() {
    let token = |ranges: usize| {
        let dots = (0..ranges as u64).map(|i| Dot { origin: origin("p", 1), seq: 2 * i + 1 });
        Some(VectorClock::from(dots.collect::<DotSet>()))
    };
    let mut replica = Replica::new("m", 1);
    let refusal = WriteRefusal::ContextTooLarge { ranges: CONTEXT_RANGES_MAX + 1, limit: CONTEXT_RANGES_MAX };
    let too_many = replica.write(&key("r"), Body::Delete, token(CONTEXT_RANGES_MAX + 1));
    assert_eq!(too_many.err(), Some(refusal));
    let few = replica.write(&key("r"), Body::Delete, token(100)).unwrap();
    assert_eq!(few.op.context.range_count(), 100);
}

#[test]
fn an_own_op_is_later_than_the_last_and_than_all_it_replaces() {
    let mut replica = Replica::new("m", 1);
    let write = |id| Change::Write(mutation(&key(id), put("x"), Condition::None, None));
    let plan = replica.commit(vec![write("r0"), write("r1")]);
    assert!(plan.ops[1].op.hlc > plan.ops[0].op.hlc, "within a group, and the records differ");
    assert!(replica.write(&key("r2"), put("x"), None).unwrap().op.hlc > plan.ops[1].op.hlc);

    // The peer's clock is ahead, within the drift: the edit of its version wins against it all the same.
    let later = replica.now.saturating_add(CLOCK_DRIFT_MAX);
    let ahead = Op { hlc: Hlc::at(WallMs(later.0 - 5_000)), ..foreign("p", 1, &[]) };
    let theirs = ahead.hlc;
    replica.admit(seal(ahead));
    assert!(replica.write(&key("r"), put("x"), None).unwrap().op.hlc > theirs);
}

#[test]
fn a_context_gets_no_origin_nothing_above_a_maximum_and_no_part_of_a_hole() {
    let dots = |of: &[(&str, u64)]| -> DotSet {
        of.iter().map(|(node, seq)| Dot { origin: origin(node, 1), seq: *seq }).collect()
    };
    let check = |clock: &[(&str, u64)], expect: &[(&str, u64)]| {
        let token = VectorClock::from(dots(&[("p", 2), ("p", 5)]));
        let made = context(&Record::new(), &NodeClock::from(dots(clock)), Some(&token));
        assert_eq!(made, VectorClock::from(dots(expect)), "with the clock {clock:?}");
    };
    check(&[], &[("p", 2), ("p", 5)]);
    check(&[("p", 1)], &[("p", 1), ("p", 2), ("p", 5)]);
    check(&[("p", 3)], &[("p", 2), ("p", 5)]);
    check(&[("p", 3), ("p", 4)], &[("p", 2), ("p", 3), ("p", 4), ("p", 5)]);
    check(&[("p", 6), ("q", 1)], &[("p", 2), ("p", 5)]);
}

#[test]
fn an_op_ahead_of_the_clock_is_refused_for_now() {
    let mut replica = Replica::new("m", 1);
    let due = replica.now.saturating_add(CLOCK_DRIFT_MAX);
    let ahead = seal(Op { hlc: Hlc::at(due.saturating_add(DurationMs(1))), ..foreign("a", 1, &[]) });
    assert_eq!(replica.admit(ahead.clone()), Admission::ClockAhead);
    assert_eq!(replica.clock, NodeClock::new(), "the retry must not be a duplicate");
    let just = seal(Op { hlc: Hlc::at(due), ..foreign("b", 1, &[]) });
    assert_eq!(replica.admit(just), Admission::Applied { concurrent: false });
    replica.now = replica.now.saturating_add(DurationMs(1));
    assert_eq!(replica.admit(ahead.clone()), Admission::Applied { concurrent: true });
    // What is here already is acked, whatever the time.
    replica.now = WallMs(0);
    let held = Some(ahead.sealed.op.hash);
    assert_eq!(replica.admit(ahead.clone()), Admission::Duplicate { held });
    replica.write(&key("r"), put("x"), None).unwrap();
    assert_eq!(replica.admit(ahead), Admission::Duplicate { held: None }, "replaced");
}

#[test]
fn another_op_under_a_live_dot_is_equivocation_on_whichever_record() {
    let mut replica = Replica::new("m", 1);
    let op = seal(foreign("a", 1, &[]));
    let hash = op.sealed.op.hash;
    replica.admit(op.clone());
    let other = seal(Op { key: key("elsewhere"), ..foreign("a", 1, &[]) });
    let plan_before = (replica.records.clone(), replica.clock.clone());
    assert_eq!(replica.admit(other.clone()), Admission::Equivocation { held: hash });
    assert_eq!((replica.records.clone(), replica.clock.clone()), plan_before);
    assert_eq!(replica.admit(op), Admission::Duplicate { held: Some(hash) });
    replica.admit(seal(foreign("b", 1, &[("a", 1)])));
    assert_eq!(
        replica.admit(other),
        Admission::Duplicate { held: None },
        "replaced: nothing to compare with"
    );
}

#[test]
fn a_write_never_falls_under_a_context_that_names_dots_it_has_not_made_yet() {
    // A version of a peer, or a client's token, names own dots of the future: a disk was rolled back, or
    // someone lies. The new op takes a number that nobody has named.
    let mut replica = Replica::new("m", 1);
    replica.admit(seal(foreign("p", 1, &[("m", 1), ("m", 7)])));
    let blind = VectorClock::new();
    assert_eq!(replica.write(&key("r"), put("x"), Some(blind)).unwrap().op.dot.seq, 8);

    let mut replica = Replica::new("m", 1);
    let token: DotSet = [Dot { origin: origin("m", 1), seq: 3 }].into_iter().collect();
    let made = replica.write(&key("r"), put("x"), Some(token.clone().into())).unwrap();
    assert_eq!(made.op.dot.seq, 4);
    assert!(!made.op.context.contains(&made.op.dot));
    let again = replica.write(&key("r"), put("y"), Some(token.into())).unwrap();
    assert_eq!(again.op.dot.seq, 5, "a sibling: the token has not seen the first");
    assert_eq!(replica.live(&key("r")), BTreeSet::from([made.op.dot, again.op.dot]));
}

#[test]
fn a_write_without_a_number_left_is_refused() {
    let check = |replica: &mut Replica| {
        assert_eq!(replica.write(&key("r"), put("x"), None).err(), Some(WriteRefusal::NoEpoch));
    };
    let mut named = Replica::new("m", 1);
    named.admit(seal(foreign("p", 1, &[("m", u64::MAX)])));
    check(&mut named);
    let mut claimed = Replica::new("m", 1);
    let mut all = NodeClock::new();
    all.insert_range(&origin("m", 1), SeqRange { first: 1, last: u64::MAX });
    all.insert_range(&origin("p", 1), SeqRange { first: 1, last: u64::MAX });
    assert_eq!(all.dot_count(), u64::MAX, "saturates");
    claimed.complete(all);
    check(&mut claimed);
}

#[test]
fn versions_that_cover_each_other_remove_nothing_unseen_and_keep_the_index_whole() {
    // No honest writer makes them: contexts are transitive. P1 covers Q1, Q1 covers P1 and R1.
    let p1 = || seal(foreign("p", 1, &[("q", 1)]));
    let q1 = || seal(foreign("q", 1, &[("p", 1), ("r", 1)]));
    let r1 = || seal(foreign("r", 1, &[]));
    // P1 is covered by S1, which stays, and itself covers R1: a superseded op replaces nothing.
    let s1 = || seal(foreign("s", 1, &[("p", 2)]));
    let p2 = || seal(foreign("p", 2, &[("r", 1)]));
    for order in
        [[p1(), q1(), r1(), s1(), p2()], [r1(), s1(), p2(), q1(), p1()], [s1(), p2(), r1(), p1(), q1()]]
    {
        let mut replica = Replica::new("m", 1);
        replica.commit(order.iter().cloned().map(Change::Admit).collect());
        let mut again = Replica::new("m", 1);
        for op in order {
            again.admit(op);
        }
        assert_eq!(replica.records, again.records);
    }
    let mut replica = Replica::new("m", 1);
    replica.admit(r1());
    replica.admit(s1());
    assert_eq!(replica.admit(p2()), Admission::Superseded);
    assert!(replica.live(&key("r")).contains(&r1().op.dot), "an op that is not live has replaced another");
}

#[test]
fn a_merge_of_a_superseded_version_reports_what_it_does() {
    let version = |op: &Op| Version {
        dot: op.dot.clone(),
        hash: OpHash([0; 32]),
        hlc: op.hlc,
        context: op.context.clone(),
        state: VersionState::Present,
    };
    let (mut record, mut clock) = (Record::new(), NodeClock::new());
    apply(&mut record, &mut clock, None, version(&foreign("r", 1, &[]))).unwrap();
    apply(&mut record, &mut clock, None, version(&foreign("s", 1, &[("p", 2)]))).unwrap();
    let before = record.clone();
    let op = foreign("p", 2, &[("r", 1)]);
    assert_eq!(apply(&mut record, &mut clock, None, version(&op)), Ok(Applied::Superseded));
    assert_eq!(record, before);
}

#[test]
fn an_origin_that_admits_its_own_lost_op_goes_on_behind_it() {
    let mut mesh = Mesh::new(&["a", "b"]);
    let first = mesh.write(0, &key("r"), put("1"), None);
    let op = mesh.made[&first].op.clone();
    let mut fresh = Replica::new("a", 1);
    fresh.admit(op);
    assert_eq!(fresh.write(&key("r"), put("2"), None).unwrap().op.dot.seq, first.seq + 1);
}
