//! A peer answers hello and does not say that it remembers the node's boot: it is no witness of it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use federation_core::decide::{Condition, Mutation};
use federation_core::dot::Dot;
use federation_core::id::{AgentId, BootId, Kind, Namespace, NodeId, RecordId, RecordKey};
use federation_core::op::Body;
use federation_core::port::clock::WallClock as _;
use federation_core::port::store::OpenIds;
use federation_core::quorum::policy::WriteLevel;
use federation_core::scope::Scope;
use federation_net::config::{NodeConfig, PeerEndpoint};
use federation_net::enrolled::Enrolled;
use federation_net::http::client::HttpTransport;
use federation_net::node::{Node, Ports};
use federation_store::{Options, RealDisk, Setup, SledIndexes, StoreHandle};
use federation_tests::mock_peer::{MachineClock, MockPeer};
use federation_wire::identity::{Directory, PeerUrl};
use federation_wire::keys::NodeKey;
use federation_wire::memory::KindRules;
use federation_wire::seal::GroupSealer;

struct Running {
    node: Node,
    store: Arc<StoreHandle<RealDisk, SledIndexes>>,
}

fn start(directory: &Path, boot: u64, peers: &[&MockPeer], key: &Arc<NodeKey>) -> Running {
    let clock = Arc::new(MachineClock);
    let id = NodeId::new("under-test").unwrap();
    let setup = Setup {
        ids: OpenIds { boot: BootId(boot), store_random: 7, now: clock.now(), new_mesh: boot == 1 },
        node: id.clone(),
        replica_scope: Scope::everything(),
        sealer: Arc::new(GroupSealer::new(Arc::clone(key))),
        clock: Arc::clone(&clock) as _,
        embedding_space: None,
        options: Options { segment_bytes: 256 * 1024, reserve_bytes: 0, ..Options::default() },
    };
    let failed = Box::new(|part| panic!("{part} failed"));
    let (store, _) = StoreHandle::open(directory, setup, &mut |_, _| {}, failed).unwrap();
    let store = Arc::new(store);
    let endpoints = peers
        .iter()
        .map(|peer| PeerEndpoint { id: peer.id().clone(), url: PeerUrl::parse(&peer.url()).unwrap() });
    let config = NodeConfig {
        write_levels: WriteLevel::Count(1).into(),
        catchup_interval: None,
        hello_wait: Duration::from_millis(500),
        ..NodeConfig::new(id, endpoints.collect())
    };
    let enrolments: Vec<_> = peers.iter().map(|peer| peer.enrolment()).collect();
    let ports = Ports {
        store: Arc::clone(&store) as _,
        keys: Arc::clone(key).into(),
        enrolled: Enrolled::new(Directory::new(&enrolments).unwrap()),
        rules: Arc::new(KindRules),
        wall: clock,
        transport: Arc::new(HttpTransport::plain()),
        boot: BootId(boot),
        seed: 11,
    };
    Running { node: Node::start(config, ports).unwrap(), store }
}

impl Running {
    async fn write(&self, id: &str) -> Dot {
        let mutation = Mutation {
            key: RecordKey {
                namespace: Namespace::new("team").unwrap(),
                kind: Kind::new("note").unwrap(),
                id: RecordId::new(id).unwrap(),
            },
            author: AgentId::new("client").unwrap(),
            body: Body::Put { payload: Arc::from(id.as_bytes()), embedding: None, archived: false },
            condition: Condition::None,
            token: None,
        };
        self.node.write(mutation, None).await.unwrap().written.op.dot.clone()
    }

    async fn end_in_order(self) {
        self.node.shutdown(Duration::ZERO).await;
        drop(self.node);
        let mut store = self.store;
        loop {
            store = match Arc::try_unwrap(store) {
                Ok(store) => return store.close().unwrap(),
                // The callback of the last commit has it for a moment.
                Err(shared) => shared,
            };
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_peer_that_does_not_say_that_it_remembers_the_boot_is_no_witness() {
    for has_peer in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let key = Arc::new(NodeKey::from_seed(&[9; 32]));
        let mut peer = MockPeer::new("peer");
        peer.enrol(&NodeId::new("under-test").unwrap(), key.public());
        peer.arrive();
        let peers: Vec<&MockPeer> = has_peer.then_some(&peer).into_iter().collect();

        let first = start(directory.path(), 1, &peers, &key);
        let before = first.write("before").await;
        first.end_in_order().await;
        let second = start(directory.path(), 2, &peers, &key);
        let after = second.write("after").await;
        // It answers every hello, and knows no more of the epoch than this node does.
        assert_eq!(second.node.metrics().epochs.len(), 1);
        assert_eq!(after.origin != before.origin, has_peer, "{before} {after}");
        second.end_in_order().await;
    }
}
