//! Coming back, in histories that random faults seldom make.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use federation_core::scope::Scope;
use std::time::Duration;

use federation_core::quorum::policy::WriteLevel;
use federation_net::status::Readiness;
use federation_tests::simulation::mesh::Mesh;
use federation_tests::simulation::{pass, put, simulate};

async fn seconds(count: u64) {
    pass(Duration::from_secs(count)).await;
}

fn alarms(mesh: &Mesh) -> Vec<&'static str> {
    let of = |i: usize| mesh.node(i).unwrap().metrics().alarms.into_keys();
    mesh.running().into_iter().flat_map(of).collect()
}

/// The store of before was made while the node's clock was ten minutes ahead: the new one looks older.
#[test]
fn a_wiped_node_whose_clock_was_ahead_comes_back() {
    simulate(async {
        let mut mesh = Mesh::new(3, 1, None);
        mesh.crash(0).await;
        mesh.wipe(0);
        mesh.wall(0).set_offset_ms(100_000);
        mesh.start(0);
        seconds(20).await;
        mesh.wall(0).set_offset_ms(0);
        mesh.node(1).unwrap().write(put("before"), Some(WriteLevel::All)).await.unwrap();
        mesh.crash(0).await;
        mesh.wipe(0);
        mesh.start(0);
        seconds(20).await;
        for _ in 0..10 {
            assert_eq!(mesh.node(0).unwrap().readiness(), Readiness::Ready);
            seconds(1).await;
        }
        mesh.node(0).unwrap().write(put("after"), Some(WriteLevel::All)).await.unwrap();
        let begun = mesh.node(0).unwrap().metrics().alarms.get("must_rebootstrap").copied().unwrap_or(0);
        assert!(begun <= 1, "it re-bootstrapped {begun} times over");
        mesh.shutdown().await;
    });
}

/// A hello waits at a node that stands still; whoever said it is over and has said another by the time it is read.
#[test]
fn a_hello_of_a_boot_that_is_over_is_no_rollback() {
    for seed in 0..24 {
        simulate(async {
            let mut mesh = Mesh::new(3, seed, Some(Duration::from_secs(1)));
            mesh.node(0).unwrap().write(put("first"), Some(WriteLevel::All)).await.unwrap();
            let id = mesh.id(1);
            mesh.network.pause(&id);
            pass(Duration::from_millis(1_100)).await;
            mesh.stop(0).await;
            mesh.start(0);
            pass(Duration::from_millis(100)).await;
            mesh.network.resume(&id);
            seconds(15).await;
            assert_eq!(alarms(&mesh), Vec::<&str>::new(), "seed {seed}");
            mesh.node(0).unwrap().write(put("second"), Some(WriteLevel::All)).await.unwrap();
            mesh.shutdown().await;
        });
    }
}

fn cut(mesh: &Mesh, pairs: &[(usize, usize)]) {
    mesh.network.heal();
    for (a, b) in pairs {
        mesh.network.cut(&mesh.id(*a), &mesh.id(*b));
        mesh.network.cut(&mesh.id(*b), &mesh.id(*a));
    }
}

/// A peer that was drained while it had nothing itself counts as whole only once it is drained again.
#[test]
fn a_node_does_not_serve_on_the_word_of_one_that_was_as_empty_as_itself() {
    for seed in 0..16 {
        simulate(async {
            let mut mesh = Mesh::new(5, seed, None);
            seconds(1).await;
            cut(&mesh, &[(0, 2), (0, 3), (1, 2), (1, 3), (4, 2), (4, 3)]);
            mesh.node(4).unwrap().write(put("promised"), None).await.unwrap();
            for i in [0, 1] {
                mesh.crash(i).await;
                mesh.wipe(i);
            }
            // Only n4 has it, and only n1 is to hear of it.
            cut(&mesh, &[(4, 0), (4, 2), (4, 3), (1, 2), (1, 3), (1, 4)]);
            mesh.start(0);
            mesh.start(1);
            seconds(6).await;
            cut(&mesh, &[(4, 0), (4, 2), (4, 3)]);
            let mut is_ready = false;
            for _ in 0..1_000 {
                pass(Duration::from_millis(20)).await;
                if mesh.node(0).unwrap().readiness() == Readiness::Ready {
                    is_ready = true;
                    break;
                }
            }
            assert!(is_ready, "seed {seed}");
            let read = mesh.node(0).unwrap().read(put("promised").key).await.unwrap();
            assert!(!read.record.is_empty(), "seed {seed}: it serves, and lacks what was promised");
            mesh.shutdown().await;
        });
    }
}

/// Two nodes that come back at once do not wait for each other, and no timer helps them.
#[test]
fn two_wiped_nodes_of_five_come_back_without_a_timer() {
    for seed in 0..8 {
        simulate(async {
            let mut mesh = Mesh::new(5, seed, None);
            for i in 0..20 {
                mesh.node(i % 5).unwrap().write(put(&format!("r{i}")), None).await.unwrap();
            }
            for i in [0, 1] {
                mesh.crash(i).await;
                mesh.wipe(i);
            }
            mesh.start(0);
            mesh.start(1);
            seconds(20).await;
            for i in 0..5 {
                assert_eq!(mesh.node(i).unwrap().readiness(), Readiness::Ready, "seed {seed}, n{i}");
            }
            let first = mesh.node(0).unwrap().state_hash(&Scope::everything()).await.unwrap();
            for i in 1..5 {
                assert_eq!(
                    mesh.node(i).unwrap().state_hash(&Scope::everything()).await.unwrap(),
                    first,
                    "seed {seed}, n{i}"
                );
            }
            mesh.shutdown().await;
        });
    }
}

/// A and C never meet: what is written at either reaches the other through B, with no timer that looks for it.
#[test]
fn two_nodes_that_are_cut_for_ever_converge_through_the_third() {
    for seed in 0..8 {
        simulate(async {
            let mut mesh = Mesh::new(3, seed, None);
            let (a, c) = (mesh.id(0), mesh.id(2));
            mesh.network.cut(&a, &c);
            mesh.network.cut(&c, &a);
            for i in 0..20 {
                let id = format!("r{}", i % 7);
                // n0 and n2 by turns; each has its quorum with n1.
                mesh.node(if i % 2 == 0 { 0 } else { 2 }).unwrap().write(put(&id), None).await.unwrap();
                pass(Duration::from_millis(150)).await;
            }
            seconds(8).await;
            let first = mesh.node(0).unwrap().state_hash(&Scope::everything()).await.unwrap();
            for i in 1..3 {
                assert_eq!(
                    mesh.node(i).unwrap().state_hash(&Scope::everything()).await.unwrap(),
                    first,
                    "seed {seed}, n{i}"
                );
            }
            mesh.shutdown().await;
        });
    }
}
