//! A node that listens, and the callers that try to reach it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use federation_core::id::{BootId, NodeId};
use federation_core::port::clock::WallClock as _;
use federation_core::port::store::{OpenIds, ReplicaStore};
use federation_core::quorum::policy::WriteLevel;
use federation_core::scope::Scope;
use federation_net::config::{NodeConfig, PeerEndpoint};
use federation_net::enrolled::Enrolled;
use federation_net::http::ListenerLimits;
use federation_net::http::client::HttpTransport;
use federation_net::http::server::{PeerSecurity, PeerServer};
use federation_net::node::{Node, Ports};
use federation_net::rate::Rate;
use federation_net::tls::{Credentials, PeerTls};
use federation_net::transport::{Connection, Transport as _, TransportError};
use federation_store::{Options, Setup, StoreHandle};
use federation_tests::mock_peer::{MachineClock, MockPeer};
use federation_wire::frame::{self, Envelope, ReceivedFrame, Route, SenderProof};
use federation_wire::identity::{Directory, Enrolment, KeyState, PeerUrl};
use federation_wire::keys::NodeKey;
use federation_wire::memory::KindRules;
use federation_wire::seal::GroupSealer;
use federation_wire::slug::Slug;
use federation_wire::v1::nack::Nack;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// How long anything may take, on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The node that listens.
pub(crate) const NODE: &str = "n";

/// A node that listens, without peers that it dials.
pub(crate) struct Site {
    pub(crate) node: Node,
    pub(crate) key: Arc<NodeKey>,
    /// Whom the node takes.
    pub(crate) enrolled: Enrolled,
    pub(crate) tls: PeerTls,
    pub(crate) server: PeerServer,
    pub(crate) address: SocketAddr,
    boot: BootId,
    _store: Arc<dyn ReplicaStore>,
    _directory: TempDir,
}

/// What a site is beyond the usual.
#[derive(Default)]
pub(crate) struct Given {
    pub(crate) limits: ListenerLimits,
    pub(crate) peer_rate: Option<Rate>,
    /// In place of the node key's.
    pub(crate) credentials: Option<Credentials>,
}

impl Site {
    /// A node that takes these.
    pub(crate) async fn of(enrolments: &[Enrolment]) -> Self {
        Self::with(enrolments, Given::default()).await
    }

    pub(crate) async fn with(enrolments: &[Enrolment], given: Given) -> Self {
        let (id, key) = (id(NODE), Arc::new(NodeKey::from_seed(&[9; 32])));
        let (boot, clock) = (BootId(0xb007), Arc::new(MachineClock));
        let setup = Setup {
            ids: OpenIds { boot, store_random: 7, now: clock.now(), new_mesh: true },
            node: id.clone(),
            replica_scope: Scope::everything(),
            sealer: Arc::new(GroupSealer::new(Arc::clone(&key))),
            clock: Arc::clone(&clock) as _,
            embedding_space: None,
            options: Options { segment_bytes: 256 * 1024, reserve_bytes: 0, ..Options::default() },
        };
        let directory = tempfile::tempdir().unwrap();
        let failed = Box::new(|part| panic!("{part} failed"));
        let (store, _) = StoreHandle::open(directory.path(), setup, &mut |_, _| {}, failed).unwrap();
        let store: Arc<dyn ReplicaStore> = Arc::new(store);
        let mut config = NodeConfig {
            write_levels: WriteLevel::Count(1).into(),
            ..NodeConfig::new(id.clone(), Vec::new())
        };
        config.peer_rate = given.peer_rate.unwrap_or(config.peer_rate);
        let enrolled = Enrolled::new(Directory::new(enrolments).unwrap());
        let credentials = given.credentials.unwrap_or_else(|| Credentials::of_node_key(&id, &key).unwrap());
        let tls = PeerTls::new(enrolled.clone(), credentials).unwrap();
        let ports = Ports {
            store: Arc::clone(&store),
            keys: Arc::clone(&key).into(),
            enrolled: enrolled.clone(),
            rules: Arc::new(KindRules),
            wall: clock,
            transport: Arc::new(HttpTransport::plain()),
            boot,
            seed: 11,
        };
        let node = Node::start(config, ports).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let security = PeerSecurity::Tls(tls.clone());
        let server = PeerServer::spawn(listener, security, given.limits, Arc::new(node.clone()));
        Self { node, key, enrolled, tls, server, address, boot, _store: store, _directory: directory }
    }

    /// The node's own entry, as its callers have it.
    pub(crate) fn enrolment(&self) -> Enrolment {
        Enrolment::full(NODE, &self.url(), self.key.public())
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn refused_connections(&self, why: &str) -> u64 {
        self.node.metrics().refused_connections.get(why).copied().unwrap_or_default()
    }

    pub(crate) fn refused_frames(&self, slug: Slug) -> u64 {
        self.node.metrics().refused_frames.get(slug.as_str()).copied().unwrap_or_default()
    }

    pub(crate) fn alarms(&self, what: &str) -> u64 {
        self.node.metrics().alarms.get(what).copied().unwrap_or_default()
    }

    pub(crate) fn nothing_is_stored(&self) {
        assert!(self.node.status().clock.is_empty());
    }
}

/// A node that calls, with a key of its own.
pub(crate) struct Caller {
    pub(crate) me: MockPeer,
    /// Whom it takes.
    pub(crate) enrolled: Enrolled,
    pub(crate) tls: PeerTls,
    pub(crate) transport: HttpTransport,
}

impl Caller {
    /// One of this name, which shows its node key and takes `site` for what it is.
    pub(crate) fn new(name: &str, site: &Site) -> Self {
        let me = MockPeer::new(name);
        let credentials = Credentials::of_node_key(me.id(), me.key()).unwrap();
        Self::showing(name, credentials, &[site.enrolment()])
    }

    /// One of this name, which shows these credentials and takes whom it has enrolled.
    pub(crate) fn showing(name: &str, credentials: Credentials, enrolments: &[Enrolment]) -> Self {
        let enrolled = Enrolled::new(Directory::new(enrolments).unwrap());
        let tls = PeerTls::new(enrolled.clone(), credentials).unwrap();
        Self { me: MockPeer::new(name), enrolled, transport: HttpTransport::new(tls.clone()), tls }
    }

    /// A connection to the site, which may still turn out to be refused there.
    pub(crate) async fn dial(&self, site: &Site) -> Result<Line, TransportError> {
        self.dial_as(NODE, site).await
    }

    /// A connection to where the site listens, to the node of that name.
    pub(crate) async fn dial_as(&self, name: &str, site: &Site) -> Result<Line, TransportError> {
        let url = PeerUrl::parse(&site.url()).unwrap();
        let connection = self.transport.connect(&PeerEndpoint { id: id(name), url }).await?;
        Ok(Line { connection, boot: site.boot, key: Arc::clone(self.me.key()) })
    }

    /// A hello that is as it should be.
    pub(crate) fn hello(&self, line: &Line) -> (Envelope, Vec<u8>) {
        (self.me.envelope(Route::Hello, &id(NODE), line.boot), self.me.hello().to_bytes())
    }

    /// Says hello as the channel has it, and gives the word of the answer.
    pub(crate) async fn says_hello(&self, line: &Line) -> Result<Slug, TransportError> {
        let (envelope, body) = self.hello(line);
        line.send(envelope, &body).await
    }
}

/// A connection.
pub(crate) struct Line {
    pub(crate) connection: Arc<dyn Connection>,
    pub(crate) boot: BootId,
    key: Arc<NodeKey>,
}

/// What stands for a request that was taken.
pub(crate) const TAKEN: Slug = Slug::Busy;

impl Line {
    /// Sends a frame in the form of this channel.
    pub(crate) async fn send(&self, envelope: Envelope, body: &[u8]) -> Result<Slug, TransportError> {
        let bytes = match self.connection.channel().sender_proof() {
            SenderProof::Signature => frame::seal(&self.key, envelope, body),
            SenderProof::Channel => frame::seal_for_channel(self.key.id(), envelope, body),
        };
        self.send_bytes(bytes).await
    }

    /// Sends bytes to the hello route. A nack's word is the answer, or [`TAKEN`].
    pub(crate) async fn send_bytes(&self, bytes: Vec<u8>) -> Result<Slug, TransportError> {
        let answer = self.connection.call(Route::Hello, Bytes::from(bytes)).await?.only().await?;
        let frame = ReceivedFrame::parse(&answer).unwrap();
        let is_nack = matches!(frame.header().envelope.kind, frame::FrameKind::Nack { .. });
        let verified = match self.connection.channel().sender_proof() {
            SenderProof::Channel => frame.vouched_for().unwrap(),
            SenderProof::Signature => frame.verify(NodeKey::from_seed(&[9; 32]).public()).unwrap(),
        };
        let body = verified.body().unwrap();
        Ok(if is_nack { Nack::from_bytes(body).unwrap().slug } else { TAKEN })
    }
}

pub(crate) fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// The entry of a caller of this name.
pub(crate) fn entry(name: &str) -> Enrolment {
    MockPeer::new(name).enrolment()
}

/// The same with its key retired.
pub(crate) fn retired(mut enrolment: Enrolment) -> Enrolment {
    enrolment.keys[0].state = KeyState::Retired;
    enrolment.url = None;
    enrolment
}

/// Polls until `is_so`.
pub(crate) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
