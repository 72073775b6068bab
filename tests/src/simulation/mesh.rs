//! The nodes of a simulation: started, crashed, restarted.

use std::sync::Arc;
use std::time::Duration;

use federation_core::id::{BootId, NodeId};
use federation_core::op::Op;
use federation_core::port::clock::WallClock;
use federation_core::port::rules::{RecordRules, RuleViolation};
use federation_core::port::store::{Health, OpenIds, ReplicaStore};
use federation_net::config::{NodeConfig, PeerEndpoint};
use federation_net::node::{Node, Ports};
use federation_store::disk::Loss;
use federation_store::index::Survival;
use federation_store::{
    Engine, InlineStore, OpenError, Options, OrderedIndexes, Setup, SimulatedDisk, Stepping,
};
use federation_wire::identity::{Directory, Enrolment, PeerUrl};
use federation_wire::keys::NodeKey;
use federation_wire::seal::GroupSealer;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::SimulatedWall;
use super::ledger::Ledger;
use super::observed::Observed;
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
    /// All ops that were ever made, and who holds them.
    pub ledger: Ledger,
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
    /// Copies of the disk, and of who held what by then.
    image: Option<(SimulatedDisk, super::ledger::Held)>,
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
    pub fn new(n: usize, seed: u64, catchup_interval: Option<Duration>) -> Self {
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
                    image: None,
                    running: None,
                }
            })
            .collect();
        let network = Network::new(random.next_u64(), Duration::from_millis(3));
        let mut mesh = Self { network, ledger: Ledger::default(), nodes, random, catchup_interval };
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

    /// The key of a node.
    pub fn key(&self, i: usize) -> Arc<NodeKey> {
        Arc::clone(&self.member(i).key)
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
        if self.member(i).running.is_some() {
            return;
        }
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
        let (network, ledger) = (self.network.clone(), self.ledger.clone());
        let member = self.nodes.get_mut(i).expect("a node");
        let wall: Arc<dyn WallClock> = Arc::new(member.wall.clone());
        let setup = Setup {
            ids: OpenIds { boot, store_random, now: wall.now(), new_mesh },
            node: member.id.clone(),
            sealer: Arc::new(GroupSealer::new(Arc::clone(&member.key))),
            clock: Arc::clone(&wall),
            options: Options { segment_bytes: SEGMENT_BYTES, reserve_bytes: 0, ..Options::default() },
        };
        let (engine, _) = match Engine::open(member.disk.clone(), &member.indexes, setup, &mut |_, _| {}) {
            Ok(opened) => opened,
            // A disk that is full or fails: the node stays down until it is started again.
            // Its machine is switched off before that: what a failed sync has left in memory looks durable to the
            // next process, until the power goes.
            Err(OpenError::Disk(_)) => {
                member.disk = member.disk.reopened(Loss::All);
                return;
            }
            Err(error) => panic!("the disk of {} does not open: {error}: {error:?}", member.id),
        };
        let store = InlineStore::new(engine, Stepping::Manual);
        let (stop, stepper) = (CancellationToken::new(), TaskTracker::new());
        let observed = Observed::new(store.clone(), ledger, i);
        let committer = Committer {
            store: store.clone(),
            submitted: observed.submitted(),
            network: network.clone(),
            id: member.id.clone(),
        };
        stepper.spawn(committer.run(stop.clone()));
        let config = NodeConfig { catchup_interval: interval, ..NodeConfig::new(member.id.clone(), peers) };
        let shared: Arc<dyn ReplicaStore> = Arc::new(observed);
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

    /// The process ends in order; the machine stays.
    pub async fn stop(&mut self, i: usize) {
        let is_poisoned = self.store(i).is_some_and(|s| s.reads().snapshot().health == Health::Poisoned);
        if is_poisoned {
            // What a failed sync has left in memory looks durable to the next process, until the power goes.
            return self.crash(i).await;
        }
        let Some(member) = self.nodes.get_mut(i) else { return };
        let Some(running) = member.running.take() else { return };
        self.network.detach(&member.id);
        running.end().await;
        member.disk = member.disk.restarted();
        member.indexes.survive(Survival::Everything);
    }

    /// The disk of a node that does not run is lost; there is an empty one in its place.
    pub fn wipe(&mut self, i: usize) {
        let Some(member) = self.nodes.get_mut(i) else { return };
        member.disk = SimulatedDisk::new();
        member.indexes = OrderedIndexes::new();
        self.ledger.replace(i, super::ledger::Held::default());
    }

    /// Copies a node's disk as it is now: what a power cut would leave of it.
    pub fn keep_image(&mut self, i: usize) {
        let held = self.ledger.held(i);
        let Some(member) = self.nodes.get_mut(i) else { return };
        member.image = Some((member.disk.fork().reopened(Loss::All), held));
    }

    /// Whether there is a copy of the node's disk.
    pub fn has_image(&self, i: usize) -> bool {
        self.member(i).image.is_some()
    }

    /// The disk of a node that does not run goes back to its copy, if there is one.
    pub fn roll_back(&mut self, i: usize) {
        let Some(member) = self.nodes.get_mut(i) else { return };
        let Some((disk, held)) = member.image.clone() else { return };
        member.disk = disk.fork();
        member.indexes = OrderedIndexes::new();
        self.ledger.replace(i, held);
    }

    /// The nodes that run.
    pub fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|i| self.member(*i).running.is_some()).collect()
    }

    /// Ends every node.
    pub async fn shutdown(&mut self) {
        for i in 0..self.nodes.len() {
            self.stop(i).await;
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
struct Committer {
    store: Store,
    submitted: Arc<Notify>,
    network: Network,
    id: NodeId,
}

impl Committer {
    async fn run(self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.commit() => {}
        }
    }

    async fn commit(&self) {
        loop {
            self.submitted.notified().await;
            while self.store.waiting() > 0 {
                tokio::time::sleep(COMMIT).await;
                self.network.awake(&self.id).await;
                self.store.step();
            }
        }
    }
}

fn url(i: usize) -> String {
    format!("http://127.0.0.1:{}", 9_000 + i)
}
