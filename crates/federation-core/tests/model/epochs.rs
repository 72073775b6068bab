//! No dot is ever used twice.

use federation_core::decide::{Change, Condition, Decision, WriteRefusal};
use federation_core::dot::{Dot, Origin};
use federation_core::dot_set::DotSet;
use federation_core::epoch::{LastEpoch, PeerKnowledge, settle};
use federation_core::id::{BootId, NodeId};
use federation_core::node_clock::NodeClock;
use federation_core::seq_ranges::SeqRange;

use crate::mesh::{End, Mesh, origin};
use crate::replica::{Replica, key, mutation, put};

#[test]
fn the_first_start_begins_the_first_series() {
    let node = NodeId::new("a").unwrap();
    let settled = settle(&node, BootId(5), LastEpoch::None, &NodeClock::new(), [PeerKnowledge::Silent]);
    assert_eq!(settled, Origin { node, epoch: BootId(5) });
}

#[test]
fn a_series_goes_on_where_the_node_knows_most_of_it() {
    let mut mesh = Mesh::new(&["a", "b"]);
    let first = mesh.write(0, &key("r"), put("1"), None);
    mesh.send(&first, 1).unwrap();
    mesh.restart(0, End::InOrder, |_| true);
    let second = mesh.write(0, &key("r"), put("2"), None);
    assert_eq!(second, Dot { seq: 2, ..first.clone() });
    mesh.restart(0, End::InOrder, |_| false);
    let third = mesh.write(0, &key("r"), put("3"), None);
    assert_eq!((third.seq, third.origin == first.origin), (1, false));
}

#[test]
fn a_series_ends_with_a_boot_that_was_cut_off() {
    let mut mesh = Mesh::new(&["a", "b"]);
    let first = mesh.write(0, &key("r"), put("1"), None);
    mesh.restart(0, End::CutOff, |_| true);
    // No own op in this boot, and an end in order: the epoch is as uncertain as before.
    mesh.restart(0, End::InOrder, |_| true);
    let second = mesh.write(0, &key("r"), put("2"), None);
    assert_ne!(second.origin, first.origin);
    mesh.restart(0, End::InOrder, |_| true);
    let third = mesh.write(0, &key("r"), put("3"), None);
    assert_eq!(third, Dot { seq: 2, ..second }, "the new one is certain");
}

/// Two nodes, and what the first one's disk was before it made an op that reached nobody.
fn with_a_lost_op(image_of: impl Fn(&mut Mesh) -> Replica) -> (Mesh, Replica, Dot) {
    let mut mesh = Mesh::new(&["a", "b"]);
    let first = mesh.write(0, &key("r"), put("1"), None);
    mesh.send(&first, 1).unwrap();
    mesh.hello(0, 1);
    let image = image_of(&mut mesh);
    let lost = mesh.write(0, &key("r"), put("lost"), None);
    assert_eq!(lost, Dot { seq: 2, ..first });
    (mesh, image, lost)
}

#[test]
fn an_image_of_a_running_nodes_disk_never_goes_on_with_the_series() {
    let running = |mesh: &mut Mesh| mesh.replicas[0].clone();
    let (mut mesh, image, lost) = with_a_lost_op(running);
    mesh.come_back_with(0, image, |_| true);
    assert!(mesh.replicas[0].facts.own_epoch.is_some(), "nobody sees that the disk went back");
    let other = mesh.write(0, &key("r"), put("other"), None);
    assert_ne!(other.origin, lost.origin);

    let (mut mesh, image, lost) = with_a_lost_op(running);
    mesh.come_back_with(0, image, |_| true);
    mesh.restart(0, End::InOrder, |_| true);
    let other = mesh.write(0, &key("r"), put("other"), None);
    assert_ne!(other.origin, lost.origin, "an end in order does not bring back what was lost before it");
}

#[test]
fn an_image_of_a_disk_left_in_order_lacks_a_boot_that_the_peers_remember() {
    let left = |mesh: &mut Mesh| {
        let mut image = mesh.replicas[0].clone();
        image.close();
        mesh.restart(0, End::InOrder, |_| true);
        image
    };
    let (mut mesh, image, lost) = with_a_lost_op(left);
    mesh.come_back_with(0, image, |_| true);
    assert_eq!(mesh.replicas[0].facts.own_epoch, None, "it re-bootstraps");
    let other = mesh.write(0, &key("r"), put("other"), None);
    assert_ne!(other.origin, lost.origin);
}

#[test]
fn a_peer_that_has_only_said_hello_is_no_witness() {
    let mut mesh = Mesh::new(&["a", "b"]);
    mesh.write(0, &key("r"), put("1"), None);
    mesh.hello(0, 1);
    mesh.replicas[0].close();
    let image = mesh.replicas[0].clone();
    mesh.restart(0, End::CutOff, |_| false);
    mesh.half_hello(1, 0);
    let lost = mesh.write(0, &key("r"), put("lost"), None);
    // The peer does not know of the boot that has just ended: to it, this image is the disk that it was.
    mesh.come_back_with(0, image, |_| true);
    let other = mesh.write(0, &key("r"), put("other"), None);
    assert_eq!((lost.origin == other.origin, other.seq), (false, 2), "it goes on, and the other one did not");
}

#[test]
fn a_series_without_a_number_left_ends() {
    let own = origin("a", 1);
    let mut clock = NodeClock::new();
    clock.insert_range(&own, SeqRange { first: 1, last: u64::MAX });
    let settled = settle(&own.node, BootId(2), LastEpoch::Unbroken(BootId(1)), &clock, []);
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
