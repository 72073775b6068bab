//! No dot is ever used twice.

use federation_core::decide::{Change, Condition, Decision, WriteRefusal};
use federation_core::dot::{Dot, Origin};
use federation_core::dot_set::DotSet;
use federation_core::epoch::{PeerKnowledge, settle};
use federation_core::id::{BootId, NodeId};
use federation_core::node_clock::NodeClock;
use federation_core::seq_ranges::SeqRange;

use crate::mesh::{Mesh, origin};
use crate::replica::{Replica, key, mutation, put};

#[test]
fn the_first_start_begins_the_first_series() {
    let node = NodeId::new("a").unwrap();
    let settled = settle(&node, BootId(5), None, &NodeClock::new(), [PeerKnowledge::Silent]);
    assert_eq!(settled, Origin { node, epoch: BootId(5) });
}

#[test]
fn a_series_goes_on_where_the_node_knows_most_of_it() {
    let mut mesh = Mesh::new(&["a", "b"]);
    let first = mesh.write(0, &key("r"), put("1"), None);
    mesh.send(&first, 1).unwrap();
    mesh.restart(0, |_| true);
    let second = mesh.write(0, &key("r"), put("2"), None);
    assert_eq!(second, Dot { seq: 2, ..first.clone() });
    mesh.restart(0, |_| false);
    let third = mesh.write(0, &key("r"), put("3"), None);
    assert_eq!((third.seq, third.origin == first.origin), (1, false));
}

#[test]
fn a_series_without_a_number_left_ends() {
    let own = origin("a", 1);
    let mut clock = NodeClock::new();
    clock.insert_range(&own, SeqRange { first: 1, last: u64::MAX });
    let settled = settle(&own.node, BootId(2), Some(BootId(1)), &clock, []);
    assert_eq!(settled, origin("a", 2));
}

#[test]
fn a_write_before_the_epoch_is_settled_is_refused_and_after_it_is_not() {
    let mut replica = Replica { own_origin: None, ..Replica::new("a", 1) };
    assert_eq!(replica.write(&key("r"), put("1"), None).err(), Some(WriteRefusal::NoEpoch));
    let write = || Change::Write(mutation(&key("r"), put("1"), Condition::None, None));
    let plan = replica.commit(vec![write(), Change::OpenEpoch(origin("a", 4)), write()]);
    assert_eq!(
        plan.decisions,
        [Decision::Refused(WriteRefusal::NoEpoch), Decision::Done, Decision::Written { op: 0 }]
    );
    assert_eq!(plan.opened, Some(origin("a", 4)));
    assert_eq!(plan.ops[0].op.dot, Dot { origin: origin("a", 4), seq: 1 });
}

#[test]
fn own_dots_that_others_name_are_not_used_again() {
    // Peers may name own dots that this node does not know: its disk is older than it was.
    let mut replica = Replica::new("a", 1);
    let own = origin("a", 1);
    let lost: DotSet = [Dot { origin: own.clone(), seq: 4 }].into_iter().collect();
    replica.complete(NodeClock::from(lost));
    assert_eq!(replica.write(&key("r"), put("1"), None).unwrap().op.dot.seq, 5);
}
