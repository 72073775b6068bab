//! Attacks on a mesh, each of which must be refused, by its word, and must change nothing.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

use federation_core::scope::Scope;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use federation_core::node_clock::NodeClock;
use federation_core::port::store::StateHash;
use federation_core::quorum::policy::WriteLevel;
use federation_net::alarm::Alarm;
use federation_net::error::WriteError;
use federation_net::status::OpAtPeer;
use federation_tests::history::{Intrusion, IntrusionAnswer};
use federation_tests::simulation::attacker::{Attacker, Strike};
use federation_tests::simulation::mesh::Mesh;
use federation_tests::simulation::{pass, put, simulate};

const NODES: usize = 3;

async fn write_everywhere(mesh: &Mesh, round: &str) {
    for i in 0..NODES {
        mesh.node(i).unwrap().write(put(&format!("{round}-{i}")), Some(WriteLevel::All)).await.unwrap();
    }
    pass(Duration::from_secs(5)).await;
}

fn attacker(mesh: &Mesh, seed: u64) -> Attacker {
    let nodes = (0..NODES).map(|i| (mesh.id(i), mesh.key(i))).collect();
    Attacker::new(mesh.network.clone(), seed, Arc::new(mesh.wall(0).clone()), nodes)
}

/// What a node holds.
async fn state(mesh: &Mesh) -> Vec<(StateHash, NodeClock)> {
    let mut states = Vec::new();
    for i in 0..NODES {
        let node = mesh.node(i).unwrap();
        states.push((node.state_hash(&Scope::everything()).await.unwrap(), node.status().clock));
    }
    states
}

fn alarms(mesh: &Mesh) -> Vec<&'static str> {
    (0..NODES).flat_map(|i| mesh.node(i).unwrap().metrics().alarms.into_keys()).collect()
}

/// The words with which a strike may be refused.
fn words(strike: Strike) -> &'static [&'static str] {
    match strike {
        Strike::ReplaySameNode => &["replayed"],
        // Its own name is one under which nobody calls it.
        Strike::ReplayOtherNode => &["wrong_recipient", "unknown_peer"],
        Strike::ReplayAfterRestart => &["wrong_boot"],
        Strike::ReplayOtherRoute | Strike::AnswerAsRequest => &["wrong_route"],
        Strike::FlipHeader => &[
            "malformed",
            "too_large",
            "unknown_peer",
            "wrong_recipient",
            "wrong_route",
            "wrong_boot",
            "stale",
            "signature_invalid",
            "signature_malformed",
            "signature_missing",
        ],
        Strike::FlipBody | Strike::FlipSignature | Strike::ZeroSignature => &["signature_invalid"],
        Strike::Truncated => &["malformed", "signature_malformed", "signature_missing"],
        Strike::Garbage => &["malformed", "too_large"],
        Strike::OversizedLengths => &["malformed", "too_large", "signature_malformed"],
        Strike::Unsigned => &["signature_missing"],
        Strike::UnenrolledKey | Strike::BorrowedName => &["unknown_peer", "signature_invalid"],
        Strike::UnenrolledName => &["unknown_peer"],
        Strike::SignedGarbage => &["malformed"],
        Strike::ForgedOrigin => &["unknown_origin", "proof_invalid"],
        Strike::AlteredOp => &["proof_invalid", "malformed", "unknown_origin"],
        Strike::WrongPath => &["proof_invalid"],
        Strike::UnknownOrigin => &["unknown_origin"],
        Strike::Equivocation => &["equivocation"],
        Strike::CompletionBeyond => &["completion_beyond"],
    }
}

async fn strike_all(mesh: &Mesh, attacker: &mut Attacker, seed: u64) -> Vec<Intrusion> {
    let mut tried = Vec::new();
    let lies: Vec<_> = Strike::ALL.iter().filter_map(|strike| strike.alarm()).collect();
    for strike in Strike::ALL {
        let intrusion = attacker.strike(*strike, usize::try_from(seed).unwrap() % NODES).await;
        match &intrusion.answer {
            IntrusionAnswer::Refused { slug } => {
                assert!(words(*strike).contains(&slug.as_str()), "seed {seed}, {strike}: refused as {slug}");
            }
            answer => panic!("seed {seed}, {strike}: {answer:?}"),
        }
        let raised = alarms(mesh);
        assert!(raised.iter().all(|alarm| lies.contains(alarm)), "seed {seed}, {strike}: {raised:?}");
        assert!(
            strike.alarm().is_none_or(|alarm| raised.contains(&alarm)),
            "seed {seed}, {strike}: no alarm"
        );
        tried.push(intrusion);
    }
    tried
}

/// A mesh under some writes, one of whose nodes has been restarted since.
async fn lived_in(seed: u64, attacker_seed: u64) -> (Mesh, Attacker) {
    let mut mesh = Mesh::new(NODES, seed, None);
    let mut attacker = attacker(&mesh, attacker_seed);
    write_everywhere(&mesh, "before").await;
    attacker.listen();
    let victim = usize::try_from(seed).unwrap() % NODES;
    mesh.stop(victim).await;
    mesh.start(victim);
    pass(Duration::from_secs(5)).await;
    write_everywhere(&mesh, "after").await;
    (mesh, attacker)
}

#[test]
fn every_strike_is_refused_by_its_word_and_changes_nothing() {
    for seed in 0..12 {
        simulate(async {
            let (mut mesh, mut attacker) = lived_in(seed, seed + 100).await;
            let before = state(&mesh).await;
            assert!(before.iter().all(|state| *state == before[0]), "seed {seed}");
            strike_all(&mesh, &mut attacker, seed).await;
            pass(Duration::from_secs(5)).await;
            assert_eq!(state(&mesh).await, before, "seed {seed}");
            assert!(!mesh.network.has_panicked());
            // The mesh is none the worse for it.
            write_everywhere(&mesh, "later").await;
            mesh.shutdown().await;
        });
    }
}

/// Many draws of each strike, on one mesh: what a strike does differs by the draw.
#[test]
fn every_draw_of_a_strike_is_refused() {
    simulate(async {
        let (mut mesh, mut attacker) = lived_in(1, 7).await;
        let before = state(&mesh).await;
        let mut said = BTreeSet::new();
        for _ in 0..60 {
            for intrusion in strike_all(&mesh, &mut attacker, 1).await {
                said.insert((intrusion.kind, format!("{:?}", intrusion.answer)));
            }
        }
        assert_eq!(state(&mesh).await, before);
        let kinds: BTreeSet<_> = said.iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds.len(), Strike::ALL.len());
        assert!(said.len() >= 35, "hardly anything differs: {said:#?}");
        mesh.shutdown().await;
    });
}

#[test]
fn strikes_during_writes_are_refused_and_every_write_is_promised() {
    for seed in 0..4 {
        simulate(async {
            let (mut mesh, mut attacker) = lived_in(seed, seed).await;
            mesh.network.duplicate(30);
            mesh.network.reorder(20);
            let nodes: Vec<_> = (0..NODES).map(|i| mesh.node(i).unwrap().clone()).collect();
            let writes = async {
                for i in 0..60 {
                    let id = format!("during-{}", i % 9);
                    nodes[i % NODES].write(put(&id), Some(WriteLevel::All)).await.unwrap();
                }
            };
            tokio::join!(writes, async {
                for _ in 0..3 {
                    strike_all(&mesh, &mut attacker, seed).await;
                }
            });
            pass(Duration::from_secs(8)).await;
            let after = state(&mesh).await;
            assert!(after.iter().all(|state| *state == after[0]), "seed {seed}");
            let counts = mesh.network.counts();
            assert!(counts.duplicated > 0 && counts.reordered > 0, "{counts:?}");
            assert_eq!(counts.taken_twice, 0, "seed {seed}");
            mesh.shutdown().await;
        });
    }
}

/// The attacker can tell a node that lets it in.
#[test]
fn a_hello_in_the_name_and_by_the_key_of_an_enrolled_node_is_accepted() {
    for seed in 0..4 {
        simulate(async {
            let (mut mesh, mut attacker) = lived_in(seed, seed).await;
            for victim in 0..NODES {
                let sender = (victim + 1) % NODES;
                let position = mesh.node(sender).unwrap().status().position;
                let intrusion = attacker.impersonate(victim, sender, position).await;
                assert!(matches!(intrusion.answer, IntrusionAnswer::Accepted { .. }), "{intrusion:?}");
            }
            mesh.shutdown().await;
        });
    }
}

#[test]
fn nothing_comes_of_a_strike_on_a_node_that_is_down_or_was_never_heard() {
    simulate(async {
        let mut mesh = Mesh::new(NODES, 1, None);
        for (a, b) in [(0, 1), (1, 2), (2, 0)] {
            mesh.network.cut_both(&mesh.id(a), &mesh.id(b));
        }
        let mut attacker = attacker(&mesh, 1);
        for strike in Strike::ALL {
            assert_eq!(attacker.strike(*strike, 0).await.answer, IntrusionAnswer::None, "{strike}");
        }
        mesh.network.heal();
        pass(Duration::from_secs(5)).await;
        write_everywhere(&mesh, "before").await;
        mesh.stop(0).await;
        for strike in Strike::ALL {
            assert_eq!(attacker.strike(*strike, 0).await.answer, IntrusionAnswer::None, "{strike}");
        }
        mesh.shutdown().await;
    });
}

#[test]
fn a_seed_makes_the_same_strikes_every_time() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        simulate(async {
            let (mut mesh, mut attacker) = lived_in(2, 3).await;
            let intrusions = strike_all(&mesh, &mut attacker, 2).await;
            runs.push((intrusions, mesh.network.counts()));
            mesh.shutdown().await;
        });
    }
    assert_eq!(runs[0], runs[1]);
}

#[test]
fn a_node_that_acks_another_hash_counts_for_no_write() {
    for seed in 0..4 {
        simulate(async {
            let (mut mesh, _) = lived_in(seed, seed).await;
            mesh.network.lie_in_acks(&mesh.id(1), mesh.key(1));
            let majority = mesh.node(0).unwrap().write(put("majority"), None).await.unwrap();
            assert_eq!(majority.peers[&mesh.id(2)].slug(), "applied", "seed {seed}: the honest one");
            let all = mesh.node(0).unwrap().write(put("all"), Some(WriteLevel::All)).await;
            let Err(WriteError::QuorumNotMet(not_met)) = all else { panic!("seed {seed}: {all:?}") };
            assert_eq!(not_met.peers[&mesh.id(1)].slug(), "id_drift", "seed {seed}");
            let status = mesh.node(0).unwrap().status();
            let shown = status.alarms.iter().map(|raised| (raised.peer.clone(), raised.alarm));
            assert_eq!(shown.collect::<Vec<_>>(), [(mesh.id(1), Alarm::IdDrift)], "seed {seed}");
            assert_eq!(mesh.node(0).unwrap().op_status(&not_met.dot).peers[&mesh.id(1)], OpAtPeer::Pending);
            mesh.network.heal();
            pass(Duration::from_secs(8)).await;
            write_everywhere(&mesh, "healed").await;
            mesh.shutdown().await;
        });
    }
}

#[test]
fn two_ops_under_one_dot_are_shown_with_both_hashes() {
    simulate(async {
        let (mut mesh, mut attacker) = lived_in(0, 1).await;
        let tried = attacker.strike(Strike::Equivocation, 0).await;
        assert_eq!(tried.answer, IntrusionAnswer::Refused { slug: "equivocation".to_owned() });
        let status = mesh.node(0).unwrap().status();
        let [found] = status.equivocations.as_slice() else { panic!("{:?}", status.equivocations) };
        assert_ne!(found.held, found.refused);
        assert_eq!(found.dot.origin.node, mesh.id(0), "the strike is on an op of the node itself");
        assert!(status.alarms.iter().any(|raised| raised.alarm == Alarm::Equivocation && raised.count == 1));
        mesh.shutdown().await;
    });
}
