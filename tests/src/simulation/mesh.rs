//! The nodes of a simulation: started, crashed, restarted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use federation_core::dot::Dot;
use federation_core::id::{BootId, NodeId, RecordKey};
use federation_core::op::Op;
use federation_core::port::clock::WallClock;
use federation_core::port::rules::{RecordRules, RuleViolation};
use federation_core::port::store::{OpenIds, ReplicaStore};
use federation_core::quorum::policy::WriteLevel;
use federation_net::config::{Membership, NodeConfig, PeerEndpoint};
use federation_net::enrolled::Enrolled;
use federation_net::node::{Node, Ports};
use federation_store::disk::Loss;
use federation_store::index::Survival;
use federation_store::{
    Engine, InlineStore, OpenError, Options, OrderedIndexes, Setup, SimulatedDisk, Stepping,
};
use federation_wire::identity::{Directory, Enrolment, PeerUrl};
use federation_wire::keys::NodeKey;
use federation_wire::v1::op::read_op;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::SimulatedWall;
use super::books::{Books, Held};
use super::committer::Committer;
use super::coverage::Coverage;
use super::disks::Disks;
use super::keys::MeshKeys;
use super::observed::Observed;
use super::scopes::MeshScopes;
use super::trace::{Trace, Tracing};
use crate::network::Network;

/// Bytes of a segment: small, so that a run crosses many.
const SEGMENT_BYTES: u64 = 16 * 1024;
/// How long a group commit takes, in milliseconds, unless a disk is slow.
const COMMIT_MS: u64 = 1;

/// A store of a simulation.
pub type Store = InlineStore<SimulatedDisk, OrderedIndexes>;

/// A mesh of nodes.
pub struct Mesh {
    /// What connects them.
    pub network: Network,
    /// All ops that were ever made, and who holds them.
    pub books: Books,
    /// What happens, in order.
    pub trace: Trace,
    /// What was reached.
    pub coverage: Coverage,
    /// The disks as they are now, by node.
    pub disks: Disks,
    /// Stores that did not open although their disks do what they should.
    pub unopened: Vec<String>,
    /// What the nodes keep and grant.
    pub scopes: MeshScopes,
    /// What the nodes sign with, and what is enrolled of them.
    pub keys: MeshKeys,
    nodes: Vec<Member>,
    random: StdRng,
    catchup_interval: Option<Duration>,
    /// Of nodes that compact.
    segment_bytes: Option<u64>,
}

struct Member {
    id: NodeId,
    wall: SimulatedWall,
    disk: SimulatedDisk,
    indexes: OrderedIndexes,
    image: Option<Image>,
    commit_ms: Arc<AtomicU64>,
    running: Option<Running>,
    /// Times that its disk was lost.
    losses: u64,
}

/// A copy of a node's disk, and what was known of it by then.
#[derive(Clone)]
struct Image {
    disk: SimulatedDisk,
    held: Held,
    /// The namespaces that the node had kept on it.
    kept: BTreeSet<String>,
}

struct Running {
    node: Node,
    /// What it has enrolled.
    enrolled: Vec<Enrolment>,
    /// How often scopes had changed when it started.
    scope_changes: u64,
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
        Self::traced(n, seed, catchup_interval, Trace::new(Tracing::Digest))
    }

    /// A new mesh that tells what happens.
    pub fn traced(n: usize, seed: u64, catchup_interval: Option<Duration>, trace: Trace) -> Self {
        Self::scoped(n, seed, catchup_interval, trace, MeshScopes::default(), None)
    }

    /// A new mesh that tells what happens, whose nodes keep and grant this, and compact their logs if these have segments
    /// of this size.
    pub fn scoped(
        n: usize,
        seed: u64,
        catchup_interval: Option<Duration>,
        trace: Trace,
        scopes: MeshScopes,
        segment_bytes: Option<u64>,
    ) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let started = Instant::now();
        let mut first_keys = Vec::new();
        let nodes = (0..n)
            .map(|i| {
                let mut secret = [0; 32];
                random.fill_bytes(&mut secret);
                let id = NodeId::new(&format!("n{i}")).expect("a valid id");
                first_keys.push((id.clone(), Arc::new(NodeKey::from_seed(&secret))));
                Member {
                    id,
                    wall: SimulatedWall::new(started),
                    disk: SimulatedDisk::new(),
                    indexes: OrderedIndexes::new(),
                    image: None,
                    commit_ms: Arc::new(AtomicU64::new(COMMIT_MS)),
                    running: None,
                    losses: 0,
                }
            })
            .collect::<Vec<_>>();
        let network = Network::new(random.next_u64(), Duration::from_millis(3));
        let keys = MeshKeys::new(first_keys, seed);
        let watched = (scopes.clone(), keys.clone());
        network.watch(move |frame| watched.0.watch(&watched.1, frame));
        let mut mesh = Self {
            network,
            books: Books::default(),
            trace,
            coverage: Coverage::default(),
            disks: Disks::default(),
            unopened: Vec::new(),
            scopes,
            keys,
            nodes,
            random,
            catchup_interval,
            segment_bytes,
        };
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

    /// The key that a node signs with.
    pub fn key(&self, i: usize) -> Arc<NodeKey> {
        self.keys.signing(i).active()
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
        let enrolments = self.enrolments(i);
        let scope_changes = self.scopes.changes();
        let directory = Directory::new(&enrolments).expect("valid enrolments");
        let peers = self.endpoints(i);
        let interval = self.catchup_interval;
        let setup = self.setup(i, boot, store_random, new_mesh);
        let (network, books, trace) = (self.network.clone(), self.books.clone(), self.trace.clone());
        let member = self.nodes.get_mut(i).expect("a node");
        let wall: Arc<dyn WallClock> = Arc::new(member.wall.clone());
        let opened = Engine::open(member.disk.clone(), &member.indexes, setup, &mut |_, _| {});
        let (engine, report) = match opened {
            Ok(opened) => opened,
            // A disk that is full or fails: the node stays down until it is started again.
            Err(OpenError::Disk(_)) => {
                self.coverage.reach("starts refused by a disk");
                member.disk = member.disk.restarted();
                self.disks.set(i, &member.disk);
                return;
            }
            Err(error) => {
                self.unopened.push(format!("the store of {} does not open: {error}: {error:?}", member.id));
                return;
            }
        };
        self.disks.set(i, &member.disk);
        self.coverage.add("logs with a torn tail", u64::from(report.torn_bytes > 0));
        self.coverage.add("indexes rebuilt", u64::from(report.rebuilt.is_some()));
        trace.say(|| {
            format!("n{i} starts at {} with {} ops replayed", report.recovered_to, report.replayed_ops)
        });
        let store = InlineStore::new(engine, Stepping::Manual);
        let (stop, stepper) = (CancellationToken::new(), TaskTracker::new());
        let observed = Observed::new(store.clone(), books, trace, i, member.wall.clone());
        let committer = Committer {
            store: store.clone(),
            submitted: observed.submitted(),
            network: network.clone(),
            id: member.id.clone(),
            commit_ms: Arc::clone(&member.commit_ms),
            compacts: self.segment_bytes.is_some(),
        };
        stepper.spawn(committer.run(stop.clone()));
        let config = NodeConfig { catchup_interval: interval, ..NodeConfig::new(member.id.clone(), peers) };
        let shared: Arc<dyn ReplicaStore> = Arc::new(observed);
        let ports = Ports {
            store: shared,
            keys: self.keys.signing(i),
            enrolled: Enrolled::new(directory),
            rules: Arc::new(NoRules),
            wall,
            transport: network.transport(&member.id),
            boot,
            seed,
        };
        let node = Node::start(config, ports).expect("a valid config");
        network.attach(&member.id, Arc::new(node.clone()));
        member.running = Some(Running { node, enrolled: enrolments, scope_changes, store, stop, stepper });
        self.look_at_store(i);
    }

    /// What the settings of a node say of the others.
    fn enrolments(&self, i: usize) -> Vec<Enrolment> {
        let enrol = |other| {
            let full = Enrolment::full(self.member(other).id.as_str(), &url(other), self.key(other).public());
            let mut enrolment = Enrolment { keys: self.keys.enrolled(i, other), ..full };
            self.scopes.enrol(i, other, &mut enrolment);
            enrolment
        };
        (0..self.nodes.len()).filter(|other| *other != i).map(enrol).collect()
    }

    fn endpoints(&self, i: usize) -> Vec<PeerEndpoint> {
        let endpoint = |other| PeerEndpoint {
            id: self.id(other),
            url: PeerUrl::parse(&url(other)).expect("a valid URL"),
        };
        (0..self.nodes.len()).filter(|other| *other != i).map(endpoint).collect()
    }

    /// A node that runs takes in what its settings say now. One that is down does so at its next start.
    pub fn reload(&mut self, i: usize) {
        let enrolments = self.enrolments(i);
        let membership = Membership {
            directory: Directory::new(&enrolments).expect("valid enrolments"),
            peers: self.endpoints(i),
            write_levels: WriteLevel::Majority.into(),
        };
        let scope_changes = self.scopes.changes();
        let Some(running) = self.nodes.get_mut(i).and_then(|member| member.running.as_mut()) else { return };
        running.node.reload(membership).expect("valid settings");
        (running.enrolled, running.scope_changes) = (enrolments, scope_changes);
    }

    /// Tells the books what a node's disk holds.
    fn look_at_store(&self, i: usize) {
        let member = self.member(i);
        let Some(running) = &member.running else { return };
        for key in self.books.keys() {
            let Ok(read) = running.store.reads().record(&key) else { continue };
            let ops: Vec<_> = read.ops.iter().filter_map(|sealed| read_op(&sealed.op.bytes).ok()).collect();
            let ops: Vec<_> = ops.into_iter().map(|read| read.op).collect();
            self.books.found(i, &member.id, &key, &read.record, &ops);
        }
    }

    /// How many nodes count for a record, as a running node has them enrolled.
    pub fn replicas(&self, i: usize, key: &RecordKey) -> Option<usize> {
        let running = self.member(i).running.as_ref()?;
        Some(MeshScopes::replicas(&running.enrolled, &key.namespace))
    }

    /// The nodes that run on enrolments of before a scope changed.
    pub fn outdated(&self) -> Vec<usize> {
        let is_outdated = |running: &Running| running.scope_changes < self.scopes.changes();
        (0..self.nodes.len()).filter(|i| self.member(*i).running.as_ref().is_some_and(is_outdated)).collect()
    }

    /// How many disks of a node were lost so far.
    pub fn losses(&self, i: usize) -> u64 {
        self.member(i).losses
    }

    /// From here on commits of a node take this long.
    pub fn set_commit_ms(&self, i: usize, ms: u64) {
        self.member(i).commit_ms.store(ms, Ordering::Relaxed);
    }

    /// From here on commits of every node take as long as they should.
    pub fn quicken_disks(&self) {
        for i in 0..self.nodes.len() {
            self.set_commit_ms(i, COMMIT_MS);
        }
    }

    /// The power of a node's machine goes: all it had not synced may be lost, its index falls back or is gone.
    pub async fn crash(&mut self, i: usize) {
        let draw = self.random.next_u64();
        self.cut_power(i, draw).await;
    }

    /// As [`Mesh::crash`], with what it leaves drawn from `draw`. False if the node was down.
    pub async fn cut_power(&mut self, i: usize, draw: u64) -> bool {
        let Some(running) = self.take_running(i) else { return false };
        let mut random = StdRng::seed_from_u64(draw);
        let (operations, loss, survival) =
            (random.random_range(0..6), random.next_u64(), random.random_range(0..4));
        let is_mid_write = random.random_bool(0.5);
        let Some(member) = self.nodes.get_mut(i) else { return false };
        if is_mid_write {
            // The power goes in the middle of a group commit: some of its operations are done.
            member.disk.crash_after(operations);
            tokio::time::sleep(Duration::from_millis(COMMIT_MS * 3)).await;
            self.coverage.add("power cuts in the middle of a commit", u64::from(member.disk.is_off()));
        }
        self.network.detach(&member.id);
        member.disk = member.disk.reopened(Loss::Some { seed: loss });
        member.indexes.survive(match survival {
            0 => Survival::Empty,
            1 => Survival::Damaged,
            before_last => Survival::Checkpoint { before_last: before_last - 2 },
        });
        self.disks.set(i, &member.disk);
        running.end().await;
        true
    }

    /// The process ends in order; the machine stays. False if the node was down.
    pub async fn stop(&mut self, i: usize) -> bool {
        let Some(running) = self.take_running(i) else { return false };
        let Some(member) = self.nodes.get_mut(i) else { return false };
        self.network.detach(&member.id);
        let store = running.store.clone();
        running.end().await;
        // A store whose disk has failed does not end in order.
        let is_in_order = store.close().is_ok();
        self.coverage.add("ends in order", u64::from(is_in_order));
        member.disk = member.disk.restarted();
        member.indexes.survive(Survival::Everything);
        self.disks.set(i, &member.disk);
        true
    }

    /// Takes a process out of the mesh, with what it has counted.
    fn take_running(&mut self, i: usize) -> Option<Running> {
        let running = self.nodes.get_mut(i)?.running.take()?;
        self.count(&running.node);
        self.coverage.add("segments compacted", running.store.metrics().segments_removed.value());
        Some(running)
    }

    /// Adds what a node has counted since its start.
    fn count(&mut self, node: &Node) {
        let counters = node.metrics();
        let of = |counts: &BTreeMap<&'static str, u64>, name: &str| counts.get(name).copied().unwrap_or(0);
        let coverage = &mut self.coverage;
        coverage.add("ops that came by relay", counters.relayed_ops);
        coverage.add("completions withheld", counters.completions_withheld);
        coverage.add("completions limited by scope", counters.completions_limited);
        coverage.add("ops out of scope refused", of(&counters.admitted, "namespace_out_of_scope"));
        coverage.add("ops superseded on arrival", of(&counters.admitted, "superseded"));
        coverage.add("ops ahead of the clock refused", of(&counters.admitted, "clock_ahead"));
        for slug in ["push_complete", "pull_complete"] {
            coverage.add("sessions complete", of(&counters.sessions, slug));
        }
        for slug in ["push_broken", "pull_broken"] {
            coverage.add("sessions broken", of(&counters.sessions, slug));
        }
        coverage.add("re-bootstraps ended", counters.rebootstraps_ended);
        coverage.add("fresh epochs", of(&counters.epochs, "fresh"));
        coverage.add("epochs continued", of(&counters.epochs, "continued"));
    }

    /// A node loses its power and its disk; there is an empty one in its place.
    pub async fn replace_disk(&mut self, i: usize, draw: u64) {
        self.cut_power(i, draw).await;
        self.wipe(i);
    }

    /// The disk of a node that does not run is lost; there is an empty one in its place.
    pub fn wipe(&mut self, i: usize) {
        let Some(member) = self.nodes.get_mut(i) else { return };
        member.disk = SimulatedDisk::new();
        member.indexes = OrderedIndexes::new();
        member.losses += 1;
        self.books.replace(i, Held::default());
        self.scopes.replace_disk(i, BTreeSet::new());
        self.disks.lose();
        self.disks.set(i, &self.member(i).disk);
    }

    /// Copies a node's disk as it is now: what a power cut would leave of it.
    pub fn keep_image(&mut self, i: usize) {
        let (held, kept) = (self.books.held(i), self.scopes.on_disk(i));
        let Some(member) = self.nodes.get_mut(i) else { return };
        member.image = Some(Image { disk: member.disk.fork().reopened(Loss::All), held, kept });
    }

    /// Whether there is a copy of the node's disk.
    pub fn has_image(&self, i: usize) -> bool {
        self.member(i).image.is_some()
    }

    /// The disk of a node that does not run goes back to its copy, if there is one.
    pub fn roll_back(&mut self, i: usize) {
        let Some(member) = self.nodes.get_mut(i) else { return };
        let Some(Image { disk, held, kept }) = member.image.clone() else { return };
        member.disk = disk.fork();
        member.indexes = OrderedIndexes::new();
        member.losses += 1;
        self.books.replace(i, held);
        self.scopes.replace_disk(i, kept);
        self.disks.lose();
        self.disks.set(i, &self.member(i).disk);
    }

    /// The nodes of which `disks` hold this op, or one that had replaced it: what a reader finds who opens them.
    pub fn holders(
        &self,
        disks: &BTreeMap<usize, SimulatedDisk>,
        key: &RecordKey,
        dot: &Dot,
    ) -> BTreeSet<usize> {
        let holds = |(node, disk): &(&usize, &SimulatedDisk)| {
            // Whoever looks makes room first: to open takes some.
            disk.set_capacity_bytes(None);
            let setup = self.setup(**node, BootId(u64::MAX), 0, false);
            let opened = Engine::open((*disk).clone(), &OrderedIndexes::new(), setup, &mut |_, _| {});
            let Ok((engine, _)) = opened else { return false };
            let record = InlineStore::new(engine, Stepping::Manual).reads().record(key);
            record.is_ok_and(|read| read.record.version(dot).is_some() || read.record.covers(dot))
        };
        disks.iter().filter(holds).map(|(node, _)| *node).collect()
    }

    fn setup(&self, i: usize, boot: BootId, store_random: u64, new_mesh: bool) -> Setup {
        let member = self.member(i);
        let wall: Arc<dyn WallClock> = Arc::new(member.wall.clone());
        Setup {
            ids: OpenIds { boot, store_random, now: wall.now(), new_mesh },
            node: member.id.clone(),
            replica_scope: self.scopes.replica_scope(i),
            sealer: Arc::new(self.keys.signing(i)),
            clock: wall,
            embedding_space: None,
            options: Options {
                segment_bytes: self.segment_bytes.unwrap_or(SEGMENT_BYTES),
                reserve_bytes: 0,
                ..Options::default()
            },
        }
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

fn url(i: usize) -> String {
    format!("http://127.0.0.1:{}", 9_000 + i)
}
