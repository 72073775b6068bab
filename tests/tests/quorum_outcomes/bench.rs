//! The node under test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use federation_core::decide::{Condition, Mutation};
use federation_core::dot::Dot;
use federation_core::id::{AgentId, BootId, Kind, Namespace, NodeId, RecordId, RecordKey};
use federation_core::op::Body;
use federation_core::port::clock::WallClock as _;
use federation_core::port::store::{OpenIds, ReplicaStore};
use federation_core::quorum::ack_tracker::{PeerOutcome, Reason};
use federation_core::quorum::policy::WriteLevel;
use federation_core::scope::Scope;
use federation_net::config::{Membership, NodeConfig, PeerEndpoint};
use federation_net::enrolled::Enrolled;
use federation_net::error::{QuorumNotMet, WriteError};
use federation_net::http::ListenerLimits;
use federation_net::http::client::HttpTransport;
use federation_net::http::server::{PeerSecurity, PeerServer};
use federation_net::node::{Node, Ports};
use federation_net::rate::Rate;
use federation_net::signing_keys::SigningKeys;
use federation_net::status::{LinkState, OpAtPeer};
use federation_net::{Proof, WriteReceipt};
use federation_store::{Engine, Options, OrderedIndexes, Setup, SimulatedDisk, StoreHandle};
use federation_tests::mock_peer::{MachineClock, MockPeer};
use federation_wire::identity::{Directory, Enrolment, PeerUrl};
use federation_wire::keys::NodeKey;
use federation_wire::memory::KindRules;
use federation_wire::seal::GroupSealer;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// How long a write waits for its quorum.
pub(crate) const ACK_TIMEOUT: Duration = Duration::from_millis(600);
/// How late after its deadline a write may be answered.
pub(crate) const LATENESS_MAX: Duration = Duration::from_millis(150);
/// How soon a write is answered that no peer can be asked for.
pub(crate) const SOON: Duration = Duration::from_millis(200);
/// How long anything else may take, on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A node and its scripted peers.
pub(crate) struct Bench {
    pub(crate) node: Node,
    pub(crate) key: Arc<NodeKey>,
    /// What the node signs with, and takes of its own under.
    pub(crate) keys: SigningKeys,
    /// Where the node listens.
    pub(crate) address: SocketAddr,
    /// Whom the node takes.
    pub(crate) enrolled: Enrolled,
    _server: PeerServer,
    _store: Arc<dyn ReplicaStore>,
    /// Of a store on real files.
    _directory: Option<TempDir>,
    peers: BTreeMap<&'static str, MockPeer>,
}

/// What the node takes of one caller.
pub(crate) struct Bounds {
    pub(crate) listener: ListenerLimits,
    pub(crate) peer_rate: Rate,
    pub(crate) peer_nonces: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        let NodeConfig { peer_rate, peer_nonces, .. } = NodeConfig::new(node_id("any"), Vec::new());
        Self { listener: ListenerLimits::default(), peer_rate, peer_nonces }
    }
}

impl Bench {
    /// A node that needs `w` nodes to hold a write, with peers that are up.
    pub(crate) async fn with_peers_up(w: usize, names: &[&'static str]) -> Self {
        let bench = Self::start(w, names, MockPeer::arrive).await;
        for name in names {
            bench.await_state(name, LinkState::Up).await;
        }
        bench
    }

    /// As [`Bench::with_peers_up`], with peers to which `prepare` is done before the node starts, which does not wait
    /// for them.
    pub(crate) async fn start(w: usize, names: &[&'static str], prepare: impl Fn(&mut MockPeer)) -> Self {
        Self::trusting(w, names, prepare, |_| {}).await
    }

    /// As [`Bench::start`], with peers that are enrolled as `enrol` changes full trust.
    pub(crate) async fn trusting(
        w: usize,
        names: &[&'static str],
        prepare: impl Fn(&mut MockPeer),
        enrol: impl Fn(&mut Enrolment),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let open = move |setup| {
            let failed = Box::new(|part| panic!("{part} failed"));
            Arc::new(StoreHandle::open(&path, setup, &mut |_, _| {}, failed).unwrap().0) as _
        };
        let bounds = Bounds::default();
        Self { _directory: Some(directory), ..Self::start_with(w, names, prepare, enrol, bounds, open).await }
    }

    /// A node that takes so much of its peers, which do not listen and are trusted with everything.
    pub(crate) async fn bounded(names: &[&'static str], bounds: Bounds) -> Self {
        Self::start_on(SimulatedDisk::new(), names, bounds).await
    }

    /// As [`Bench::bounded`], with its state on this disk.
    pub(crate) async fn start_on(disk: SimulatedDisk, names: &[&'static str], bounds: Bounds) -> Self {
        let open = move |setup| {
            let (engine, _) = Engine::open(disk, &OrderedIndexes::new(), setup, &mut |_, _| {}).unwrap();
            Arc::new(StoreHandle::spawn(engine, Box::new(|_| {})).unwrap()) as _
        };
        Self::start_with(1, names, |_| {}, |_| {}, bounds, open).await
    }

    async fn start_with(
        w: usize,
        names: &[&'static str],
        prepare: impl Fn(&mut MockPeer),
        enrol: impl Fn(&mut Enrolment),
        bounds: Bounds,
        open: impl FnOnce(Setup) -> Arc<dyn ReplicaStore>,
    ) -> Self {
        let (id, key) = (node_id("under-test"), Arc::new(NodeKey::from_seed(&[9; 32])));
        let mut peers = BTreeMap::new();
        for name in names {
            let mut peer = MockPeer::new(name);
            peer.enrol(&id, key.public());
            prepare(&mut peer);
            peers.insert(*name, peer);
        }
        let boot = BootId(0xb007_0000);
        let clock = Arc::new(MachineClock);
        let setup = Setup {
            ids: OpenIds { boot, store_random: 7, now: clock.now(), new_mesh: true },
            node: id.clone(),
            replica_scope: Scope::everything(),
            sealer: Arc::new(GroupSealer::new(Arc::clone(&key))),
            clock: Arc::clone(&clock) as _,
            embedding_space: None,
            options: Options { segment_bytes: 256 * 1024, reserve_bytes: 0, ..Options::default() },
        };
        let store = open(setup);
        let config = NodeConfig {
            write_levels: WriteLevel::Count(w).into(),
            ack_timeout: ACK_TIMEOUT,
            // What is delivered here is delivered without being looked for from time to time.
            catchup_interval: None,
            hello_wait: Duration::ZERO,
            peer_rate: bounds.peer_rate,
            peer_nonces: bounds.peer_nonces,
            ..NodeConfig::new(id, peers.values().map(endpoint).collect())
        };
        let mut enrolments: Vec<Enrolment> = peers.values().map(MockPeer::enrolment).collect();
        enrolments.iter_mut().for_each(enrol);
        let enrolled = Enrolled::new(Directory::new(&enrolments).unwrap());
        let keys = SigningKeys::from(Arc::clone(&key));
        let ports = Ports {
            store: Arc::clone(&store),
            keys: keys.clone(),
            enrolled: enrolled.clone(),
            rules: Arc::new(KindRules),
            wall: clock,
            transport: Arc::new(HttpTransport::plain()),
            boot,
            seed: 11,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let node = Node::start(config, ports).unwrap();
        let server =
            PeerServer::spawn(listener, PeerSecurity::Plain, bounds.listener, Arc::new(node.clone()));
        Self { node, key, keys, address, enrolled, _server: server, _store: store, _directory: None, peers }
    }

    /// The node takes in these enrolments of its peers, which all stay.
    pub(crate) fn reload(&self, enrolments: &[Enrolment]) {
        let membership = Membership {
            directory: Directory::new(enrolments).unwrap(),
            peers: self.peers.values().map(endpoint).collect(),
            write_levels: WriteLevel::Count(1).into(),
        };
        self.node.reload(membership).unwrap();
    }

    /// A peer.
    pub(crate) fn peer(&self, name: &str) -> &MockPeer {
        &self.peers[name]
    }

    /// A peer, to come or go.
    pub(crate) fn peer_mut(&mut self, name: &str) -> &mut MockPeer {
        self.peers.get_mut(name).unwrap()
    }

    /// Writes a record.
    pub(crate) async fn write(&self, id: &str) -> Answered {
        self.write_proven(id, Proof::Acks).await
    }

    /// Writes a record, with this proof.
    pub(crate) async fn write_proven(&self, id: &str, proof: Proof) -> Answered {
        let begun = Instant::now();
        let result = self.node.write_proven(mutation(id), None, proof).await;
        Answered { after: begun.elapsed(), result }
    }

    /// Returns once the link to a peer stands like that.
    pub(crate) async fn await_state(&self, name: &str, state: LinkState) {
        let is_so = || {
            let peers = self.node.status().peers;
            peers.iter().any(|peer| peer.id.as_str() == name && peer.state == state)
        };
        eventually(&format!("{name} is {}", state.slug()), is_so).await;
    }

    /// Returns once the node says that a peer has come to this with an op.
    pub(crate) async fn await_op(&self, dot: &Dot, name: &str, at_peer: OpAtPeer) {
        let is_so = || self.node.op_status(dot).peers[&node_id(name)] == at_peer;
        eventually(&format!("{dot} is {} at {name}", at_peer.slug()), is_so).await;
    }

    /// How often something was counted that must not happen.
    pub(crate) fn alarms(&self, what: &str) -> u64 {
        self.node.metrics().alarms.get(what).copied().unwrap_or_default()
    }
}

/// A write's answer, and how long it took.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) after: Duration,
    pub(crate) result: Result<WriteReceipt, WriteError>,
}

impl Answered {
    /// The receipt of a write that was answered OK.
    pub(crate) fn met(self) -> WriteReceipt {
        self.result.unwrap()
    }

    /// The refusal of a write that was committed and not promised.
    pub(crate) fn not_met(self) -> QuorumNotMet {
        match self.result {
            Err(WriteError::QuorumNotMet(not_met)) => *not_met,
            other => panic!("{other:?}"),
        }
    }

    /// As [`Answered::not_met`], held against what it is to say. `peers` are the words of the 503.
    pub(crate) fn not_met_with(
        self,
        reason: Reason,
        got: usize,
        needed: usize,
        peers: &[(&str, &str)],
    ) -> Dot {
        let not_met = self.not_met();
        assert_eq!((not_met.reason, not_met.got, not_met.needed), (reason, got, needed), "{not_met:?}");
        assert_eq!(words(&not_met.peers), expected(peers));
        not_met.dot
    }
}

/// The outcomes of the peers, as the 503 says them.
pub(crate) fn words(peers: &BTreeMap<NodeId, PeerOutcome>) -> BTreeMap<String, &'static str> {
    peers.iter().map(|(id, outcome)| (id.to_string(), outcome.slug())).collect()
}

fn expected<'a>(peers: &[(&'a str, &'a str)]) -> BTreeMap<String, &'a str> {
    peers.iter().map(|(id, word)| ((*id).to_owned(), *word)).collect()
}

/// Polls until `is_so`.
pub(crate) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn node_id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// A write of a record of no kind that has rules of its own.
pub(crate) fn mutation(id: &str) -> Mutation {
    Mutation {
        key: record_key(id),
        author: AgentId::new("client").unwrap(),
        body: Body::Put { payload: Arc::from(id.as_bytes()), embedding: None, archived: false },
        condition: Condition::None,
        token: None,
    }
}

pub(crate) fn record_key(id: &str) -> RecordKey {
    RecordKey {
        namespace: Namespace::new("team").unwrap(),
        kind: Kind::new("note").unwrap(),
        id: RecordId::new(id).unwrap(),
    }
}

fn endpoint(peer: &MockPeer) -> PeerEndpoint {
    PeerEndpoint { id: peer.id().clone(), url: PeerUrl::parse(&peer.url()).unwrap() }
}
