//! Which epoch a node's own ops carry after a start, over real stores and real hellos.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

use std::time::Duration;

use federation_core::dot::Dot;
use federation_core::quorum::policy::WriteLevel;
use federation_net::error::WriteError;
use federation_tests::simulation::mesh::Mesh;
use federation_tests::simulation::{pass, put, simulate};

/// The node under test.
const A: usize = 0;

/// A mesh of two in which the node under test has written, and every hello that is said from now on is one of a start.
async fn mesh() -> (Mesh, Dot) {
    let mesh = Mesh::new(2, 1, None);
    let first = mesh
        .node(A)
        .unwrap()
        .write(put("first"), Some(WriteLevel::All))
        .await
        .unwrap()
        .written
        .op
        .dot
        .clone();
    pass(Duration::from_secs(5)).await;
    (mesh, first)
}

/// The dot of a write, whether or not anyone else has it.
async fn write(mesh: &Mesh, id: &str) -> Dot {
    match mesh.node(A).unwrap().write(put(id), None).await {
        Ok(receipt) => receipt.written.op.dot.clone(),
        Err(WriteError::QuorumNotMet(not_met)) => not_met.dot,
        Err(other) => panic!("{other:?}"),
    }
}

/// Ends the node under test in order, as its daemon does.
async fn end_in_order(mesh: &mut Mesh) {
    mesh.node(A).unwrap().shutdown(Duration::ZERO).await;
    // Closed already where the simulation does it by itself.
    let _ = mesh.store(A).unwrap().close();
    mesh.stop(A).await;
}

#[test]
fn the_epoch_goes_on_after_an_end_in_order_and_not_after_a_crash() {
    simulate(async {
        let (mut mesh, first) = mesh().await;
        end_in_order(&mut mesh).await;
        mesh.start(A);
        let second = write(&mesh, "second").await;
        assert_eq!(second, Dot { seq: 2, ..first });
        mesh.crash(A).await;
        mesh.start(A);
        let third = write(&mesh, "third").await;
        assert_eq!((third.origin == second.origin, third.seq), (false, 1));
        mesh.shutdown().await;
    });
}

/// An image of a running node's disk, taken after its last hello: nobody can see that the disk went back.
#[test]
fn an_image_of_a_running_nodes_disk_begins_a_new_epoch() {
    simulate(async {
        let (mut mesh, _) = mesh().await;
        mesh.keep_image(A);
        let (a, b) = (mesh.id(A), mesh.id(1));
        mesh.network.cut_both(&a, &b);
        let lost = write(&mesh, "lost").await;
        mesh.crash(A).await;
        mesh.network.heal();
        mesh.roll_back(A);
        mesh.start(A);
        let other = write(&mesh, "other").await;
        assert_ne!(other, lost);
        mesh.shutdown().await;
    });
}
