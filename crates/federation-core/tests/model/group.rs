//! A group is decided as its changes would be one by one.

use proptest::prelude::*;

use federation_core::decide::{Change, Condition, Decision, GroupPlan, Received};
use federation_core::dot::Dot;
use federation_core::dot_set::DotSet;
use federation_core::node_clock::NodeClock;
use federation_core::op::{Body, Op};

use crate::mesh::Mesh;
use crate::replica::{Replica, key, mutation, put};

/// What became of each change, with the op itself for a write.
#[derive(Debug, PartialEq)]
enum Came {
    Wrote(Box<Op>),
    Else(Decision),
}

fn came(plan: &GroupPlan) -> Vec<Came> {
    plan.decisions
        .iter()
        .map(|decision| match decision {
            Decision::Written { op } => Came::Wrote(Box::new(plan.ops[*op].op.clone())),
            other => Came::Else(other.clone()),
        })
        .collect()
}

/// Ops of two other nodes on three records, with gaps and siblings.
fn foreign(writes: &[(usize, usize, bool)]) -> Vec<Received> {
    let mut mesh = Mesh::new(&["x", "y"]);
    for (at, record, meets) in writes {
        mesh.write(*at, &key(["r0", "r1", "r2"][*record]), put("f"), None);
        if *meets {
            mesh.session(1 - at, *at);
        }
    }
    mesh.made.into_values().map(|made| made.op).collect()
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let writes = prop::collection::vec((0..2_usize, 0..3_usize, any::<bool>()), 1..12);
    let kinds = prop::collection::vec((0..8_usize, 0..32_usize, 0..4_usize), 1..24);
    (writes, kinds).prop_map(|(writes, kinds)| {
        let ops = foreign(&writes);
        let any_dot = |i: usize| ops[i % ops.len()].op.dot.clone();
        let change = |(kind, i, j): (usize, usize, usize)| {
            let key = key(["r0", "r1", "r2"][i % 3]);
            let condition = match j {
                0 => Condition::Absent,
                1 => Condition::Present,
                2 => Condition::Visible(any_dot(i)),
                _ => Condition::None,
            };
            match kind {
                0 | 1 => Change::Write(mutation(&key, put("w"), condition, None)),
                2 => Change::Write(mutation(&key, Body::Delete, condition, None)),
                3 => {
                    // A client that has read one version of the record, or nothing.
                    let read: DotSet =
                        ops.iter().filter(|o| o.op.key == key).take(j).map(|o| o.op.dot.clone()).collect();
                    Change::Write(mutation(&key, put("t"), Condition::None, Some(read.into())))
                }
                4 | 5 => Change::Admit(ops[i % ops.len()].clone()),
                6 if j == 0 => {
                    let seen: DotSet = [any_dot(i)].into_iter().collect();
                    Change::Complete(NodeClock::from(seen))
                }
                6 => Change::Admit(equivocal(&ops[i % ops.len()])),
                _ => Change::DropDead { key, dots: vec![any_dot(i), any_dot(j)] },
            }
        };
        kinds.into_iter().map(change).collect()
    })
}

/// Another op under the same dot.
fn equivocal(op: &Received) -> Received {
    crate::replica::seal(Op { body: put("another"), ..op.op.clone() })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_group_is_decided_as_its_changes_one_by_one(before in changes(), group in changes()) {
        let mut together = Replica::new("me", 1);
        together.commit(before);
        let mut apart = together.clone();
        let at_once = came(&together.commit(group.clone()));
        let mut one_by_one = Vec::new();
        let mut clock_only = DotSet::new();
        for change in group {
            let plan = apart.commit(vec![change]);
            clock_only.join(&plan.clock_only);
            one_by_one.extend(came(&plan));
        }
        prop_assert_eq!(at_once, one_by_one);
        prop_assert_eq!(&together.records, &apart.records);
        prop_assert_eq!(&together.clock, &apart.clock);
        prop_assert_eq!(together.last_hlc, apart.last_hlc);
        prop_assert_eq!(&together.ops, &apart.ops);
    }

    #[test]
    fn deciding_is_a_function(group in changes()) {
        let (mut one, mut two) = (Replica::new("me", 1), Replica::new("me", 1));
        prop_assert_eq!(one.commit(group.clone()), two.commit(group));
    }
}

#[test]
fn an_op_replaced_within_its_group_is_logged_and_not_live() {
    let mut replica = Replica::new("me", 1);
    let write = |text| Change::Write(mutation(&key("r"), put(text), Condition::None, None));
    let plan = replica.commit(vec![write("1"), write("2")]);
    let first: &Dot = &plan.ops[0].op.dot;
    assert_eq!(plan.ops.len(), 2);
    assert!(plan.removed.contains_key(first) && !plan.added.contains_key(first));
    assert!(plan.ops[1].op.context.contains(first), "the second has seen the first");
    assert!(plan.ops[1].op.hlc > plan.ops[0].op.hlc);
}
