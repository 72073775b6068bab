//! The nodes of a simulation: started, crashed, restarted.

use std::sync::Arc;
use std::time::Duration;

use federation_core::id::{BootId, NodeId};
use federation_core::op::Op;
use federation_core::port::clock::WallClock;
use federation_core::port::rules::{RecordRules, RuleViolation};
use federation_core::port::store::{OpenIds, ReplicaStore};
use federation_net::config::{NodeConfig, PeerEndpoint};
use federation_net::node::{Node, Ports};
use federation_store::disk::Loss;
use federation_store::index::Survival;
use federation_store::{Engine, InlineStore, Options, OrderedIndexes, Setup, SimulatedDisk, Stepping};
use federation_wire::identity::{Directory, Enrolment, PeerUrl};
use federation_wire::keys::NodeKey;
use federation_wire::seal::GroupSealer;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::SimulatedWall;
use crate::network::Network;

/// Bytes of a segment: small, so that a run crosses many.
const SEGMENT_BYTES: u64 = 64 * 1024;
/// How long a group commit takes.
const COMMIT: Duration = Duration::from_millis(1);

/// A store of a simulation.
pub type Store = InlineStore<SimulatedDisk, OrderedIndexes>;

/// A mesh of nodes.
pub struct Mesh {
    /// What connects them.
    pub network: Network,
    nodes: Vec<Member>,
    random: StdRng,
    catchup_interval: Option<Duration>,
}

struct Member {
    id: NodeId,
    key: Arc<NodeKey>,
    wall: SimulatedWall,
    disk: SimulatedDisk,
    indexes: OrderedIndexes,
    running: Option<Running>,
}

struct Running {
    node: Node,
    store: Store,
    stop: CancellationToken,
    stepper: TaskTracker,
}

/// Any content is valid.
struct NoRules;

impl RecordRules for NoRules {
    fn check(&self, _: &Op) -> Result<(), RuleViolation> {
        Ok(())
    }
}

impl Mesh {
    /// A new mesh of `n` nodes, all started.
    pub async fn new(n: usize, seed: u64, catchup_interval: Option<Duration>) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let started = Instant::now();
        let nodes = (0..n)
            .map(|i| {
                let mut secret = [0; 32];
                random.fill_bytes(&mut secret);
                Member {
                    id: NodeId::new(&format!("n{i}")).expect("a valid id"),
                    key: Arc::new(NodeKey::from_seed(&secret)),
                    wall: SimulatedWall::new(started),
                    disk: SimulatedDisk::new(),
                    indexes: OrderedIndexes::new(),
                    running: None,
                }
            })
            .collect();
        let network = Network::new(random.next_u64(), Duration::from_millis(3));
        let mut mesh = Self { network, nodes, random, catchup_interval };
        for i in 0..n {
            mesh.start_as(i, true);
        }
        mesh
    }

    /// How many nodes there are, running or not.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The name of a node.
    pub fn id(&self, i: usize) -> NodeId {
        self.member(i).id.clone()
    }

    /// A running node.
    pub fn node(&self, i: usize) -> Option<&Node> {
        self.member(i).running.as_ref().map(|running| &running.node)
    }

    /// The store of a running node.
    pub fn store(&self, i: usize) -> Option<&Store> {
        self.member(i).running.as_ref().map(|running| &running.store)
    }

    /// The disk of a node.
    pub fn disk(&self, i: usize) -> &SimulatedDisk {
        &self.member(i).disk
    }

    /// The wall clock of a node.
    pub fn wall(&self, i: usize) -> &SimulatedWall {
        &self.member(i).wall
    }

    /// Starts a node that does not run, on what its disk holds.
    pub fn start(&mut self, i: usize) {
        self.start_as(i, false);
    }

    fn start_as(&mut self, i: usize, new_mesh: bool) {
        let (boot, store_random, seed) =
            (BootId(self.random.next_u64()), self.random.next_u64(), self.random.next_u64());
        let enrolments: Vec<_> = (0..self.nodes.len())
            .filter(|other| *other != i)
            .map(|other| {
                let member = self.member(other);
                Enrolment::full(member.id.as_str(), &url(other), member.key.public())
            })
            .collect();
        let directory = Directory::new(&enrolments).expect("valid enrolments");
        let peers = (0..self.nodes.len())
            .filter(|other| *other != i)
            .map(|other| PeerEndpoint {
                id: self.id(other),
                url: PeerUrl::parse(&url(other)).expect("a valid URL"),
            })
            .collect();
        let interval = self.catchup_interval;
        let network = self.network.clone();
        let member = self.nodes.get_mut(i).expect("a node");
        let wall: Arc<dyn WallClock> = Arc::new(member.wall.clone());
        let setup = Setup {
            ids: OpenIds { boot, store_random, now: wall.now(), new_mesh },
            node: member.id.clone(),
            sealer: Arc::new(GroupSealer::new(Arc::clone(&member.key))),
            clock: Arc::clone(&wall),
            options: Options { segment_bytes: SEGMENT_BYTES, reserve_bytes: 0, ..Options::default() },
        };
        let (engine, _) = Engine::open(member.disk.clone(), &member.indexes, setup, &mut |_, _| {})
            .expect("a simulated disk opens");
        let store = InlineStore::new(engine, Stepping::Manual);
        let (stop, stepper) = (CancellationToken::new(), TaskTracker::new());
        stepper.spawn(commit(store.clone(), stop.clone()));
        let config = NodeConfig { catchup_interval: interval, ..NodeConfig::new(member.id.clone(), peers) };
        let shared: Arc<dyn ReplicaStore> = Arc::new(store.clone());
        let ports = Ports {
            store: shared,
            key: Arc::clone(&member.key),
            directory,
            rules: Arc::new(NoRules),
            wall,
            transport: network.transport(&member.id),
            boot,
            seed,
        };
        let node = Node::start(config, ports).expect("a valid config");
        network.attach(&member.id, Arc::new(node.clone()));
        member.running = Some(Running { node, store, stop, stepper });
    }

    /// The power of a node's machine goes: all it had not synced may be lost, its index falls back or is gone.
    pub async fn crash(&mut self, i: usize) {
        let (operations, loss, survival) =
            (self.random.random_range(0..6), self.random.next_u64(), self.random.random_range(0..4));
        let is_mid_write = self.random.random_bool(0.5);
        let Some(member) = self.nodes.get_mut(i) else { return };
        let Some(running) = member.running.take() else { return };
        if is_mid_write {
            // The power goes in the middle of a group commit: some of its operations are done.
            member.disk.crash_after(operations);
            tokio::time::sleep(COMMIT * 3).await;
        }
        self.network.detach(&member.id);
        member.disk = member.disk.reopened(Loss::Some { seed: loss });
        member.indexes.survive(match survival {
            0 => Survival::Empty,
            1 => Survival::Damaged,
            before_last => Survival::Checkpoint { before_last: before_last - 2 },
        });
        running.end().await;
    }

    /// A node that runs and answers, which is all of them after [`Mesh::start`].
    pub fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|i| self.member(*i).running.is_some()).collect()
    }

    /// Ends every node.
    pub async fn shutdown(&mut self) {
        for member in &mut self.nodes {
            self.network.detach(&member.id);
            if let Some(running) = member.running.take() {
                running.end().await;
            }
        }
    }

    fn member(&self, i: usize) -> &Member {
        self.nodes.get(i).expect("a node")
    }
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        self.node.shutdown(Duration::ZERO).await;
        self.stepper.close();
        self.stepper.wait().await;
    }
}

/// Commits a group at a time, like a disk that takes its time.
async fn commit(store: Store, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(COMMIT) => {}
        }
        store.step();
    }
}

fn url(i: usize) -> String {
    format!("http://127.0.0.1:{}", 9_000 + i)
}
