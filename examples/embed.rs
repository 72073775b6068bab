//! A service of its own that replicates its own records: start reading here if you want to embed the crates.
//!
//! A help desk keeps tickets. It runs two nodes, here in one process on loopback; each has a store, a key, and the
//! public key of the other. A ticket is opened on one node, which answers once both hold it durably, and read from
//! the other; then the second node closes it. There is no daemon, no config file and no memory in it.
//!
//! ```text
//! cargo run -p federation-examples --example embed
//! ```

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use federation_core::decide::{Condition, Mutation};
use federation_core::id::{AgentId, BootId, Kind, Namespace, NodeId, RecordId, RecordKey};
use federation_core::op::{Body, Op};
use federation_core::port::clock::WallClock;
use federation_core::port::rules::{RecordRules, RuleViolation};
use federation_core::port::store::OpenIds;
use federation_core::quorum::policy::WriteLevel;
use federation_core::scope::Scope;
use federation_core::time::WallMs;
use federation_net::config::{NodeConfig, PeerEndpoint};
use federation_net::enrolled::Enrolled;
use federation_net::http::ListenerLimits;
use federation_net::http::client::HttpTransport;
use federation_net::http::server::{PeerSecurity, PeerServer};
use federation_net::node::{Node, Ports};
use federation_net::tls::{Credentials, PeerTls};
use federation_store::{Options, RealDisk, Setup, SledIndexes, StoreHandle};
use federation_wire::identity::{Directory, Enrolment, PeerUrl};
use federation_wire::keys::{NodeKey, PublicKey};
use federation_wire::seal::GroupSealer;
use federation_wire::v1::op::decode_op;
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    run(directory.path()).await
}

/// The story: two nodes with their data below `directory`, one ticket.
async fn run(directory: &Path) -> Result<()> {
    // Each node listens before it knows the other: port 0 is whichever is free.
    let (berlin, lisbon) = (Identity::new("berlin").await?, Identity::new("lisbon").await?);
    let (known_to_berlin, known_to_lisbon) = (lisbon.as_peer(), berlin.as_peer());
    let berlin = Desk::open(&directory.join("berlin"), berlin, &known_to_berlin)?;
    let lisbon = Desk::open(&directory.join("lisbon"), lisbon, &known_to_lisbon)?;

    let receipt = berlin.put("T-1", "open: the printer is on fire").await?;
    println!("berlin wrote T-1: {receipt}");
    let seen = lisbon.ticket("T-1").await?;
    println!("lisbon reads T-1: {seen}");
    ensure!(seen == "open: the printer is on fire", "lisbon reads what berlin wrote");

    let receipt = lisbon.put("T-1", "closed: it was only the toner").await?;
    println!("lisbon wrote T-1: {receipt}");
    let seen = berlin.ticket("T-1").await?;
    println!("berlin reads T-1: {seen}");
    ensure!(seen == "closed: it was only the toner", "berlin reads what lisbon wrote");

    let refused = berlin.put("T-2", "whatever").await;
    ensure!(refused.is_err(), "a ticket without a state is no ticket");
    println!("berlin refused T-2: a ticket is open or closed");

    berlin.close().await?;
    lisbon.close().await
}

/// A node's name, key and address.
struct Identity {
    id: NodeId,
    key: Arc<NodeKey>,
    listener: TcpListener,
    address: SocketAddr,
}

/// What one node must know of another.
struct KnownPeer {
    id: NodeId,
    url: String,
    key: PublicKey,
}

impl Identity {
    async fn new(name: &str) -> Result<Self> {
        // A real service keeps its key in a file: whoever has the key is the node.
        let mut random: StdRng = rand::make_rng();
        let key = Arc::new(NodeKey::generate(&mut random));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        Ok(Self { id: NodeId::new(name)?, key, listener, address })
    }

    fn as_peer(&self) -> KnownPeer {
        let url = format!("https://{}", self.address);
        KnownPeer { id: self.id.clone(), url, key: self.key.public().clone() }
    }
}

/// The service: its records behind a node.
struct Desk {
    node: Node,
    server: PeerServer,
    transport: Arc<HttpTransport>,
    store: Arc<StoreHandle<RealDisk, SledIndexes>>,
}

impl Desk {
    fn open(directory: &Path, own: Identity, peer: &KnownPeer) -> Result<Self> {
        let mut random: StdRng = rand::make_rng();
        // Drawn anew for each start; store and node are given the same.
        let boot = BootId(random.next_u64());
        let clock = Arc::new(SystemClock);
        let setup = Setup {
            ids: OpenIds {
                boot,
                store_random: random.next_u64(),
                now: clock.now(),
                // The first start of all: nothing to recover from the others. Never set on a later one.
                new_mesh: true,
            },
            node: own.id.clone(),
            replica_scope: Scope::everything(),
            sealer: Arc::new(GroupSealer::new(Arc::clone(&own.key))),
            clock: Arc::clone(&clock) as _,
            // The defaults suit a server; a small segment suits an example.
            embedding_space: None,
            options: Options { segment_bytes: 1024 * 1024, ..Options::default() },
        };
        let failed = Box::new(|part| eprintln!("{part} failed: the service should stop now"));
        let (store, _) = StoreHandle::open(directory, setup, &mut |_, _| {}, failed)?;
        let store = Arc::new(store);

        let endpoint = PeerEndpoint { id: peer.id.clone(), url: PeerUrl::parse(&peer.url)? };
        let enrolment = Enrolment::full(peer.id.as_str(), &peer.url, &peer.key);
        let directory = Directory::new(&[enrolment]).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
        // Who is enrolled is one handle for the node, the connections that it makes and those that it takes.
        let enrolled = Enrolled::new(directory);
        let credentials = Credentials::of_node_key(&own.id, &own.key)?;
        let tls = PeerTls::new(enrolled.clone(), credentials)?;
        let transport = Arc::new(HttpTransport::new(tls.clone()));
        let ports = Ports {
            store: Arc::clone(&store) as _,
            keys: own.key.into(),
            enrolled,
            rules: Arc::new(TicketRules),
            wall: clock,
            transport: Arc::clone(&transport) as _,
            boot,
            seed: random.next_u64(),
        };
        // Of two nodes both must hold a write: then either may be lost.
        let config =
            NodeConfig { write_levels: WriteLevel::All.into(), ..NodeConfig::new(own.id, vec![endpoint]) };
        let node = Node::start(config, ports)?;
        let limits = ListenerLimits::default();
        let server = PeerServer::spawn(own.listener, PeerSecurity::Tls(tls), limits, Arc::new(node.clone()));
        Ok(Self { node, server, transport, store })
    }

    /// Writes a ticket. Tells who holds it once that is as many as was asked for.
    async fn put(&self, id: &str, text: &str) -> Result<String> {
        // Own writes are checked by the service; what comes from elsewhere, by its rules in the node.
        check_ticket(text.as_bytes())?;
        let mutation = Mutation {
            key: ticket_key(id)?,
            author: AgentId::new("help-desk")?,
            body: Body::Put { payload: Arc::from(text.as_bytes()), embedding: None, archived: false },
            condition: Condition::None,
            token: None,
        };
        let receipt = self.node.write(mutation, None).await?;
        Ok(format!("{} of {} nodes hold {}", receipt.got, receipt.needed, receipt.written.op.dot))
    }

    /// The text of a ticket, as this node has it.
    async fn ticket(&self, id: &str) -> Result<String> {
        let read = self.node.read(ticket_key(id)?).await?;
        // Writes that did not know of each other leave several versions; every node shows the same one.
        let visible = read.record.visible().context("there is no such ticket")?.dot.clone();
        for sealed in read.ops {
            let op = decode_op(&sealed.op.bytes)?;
            if let Body::Put { payload, .. } = op.body
                && op.dot == visible
            {
                return Ok(String::from_utf8(payload.to_vec())?);
            }
        }
        anyhow::bail!("the ticket was deleted")
    }

    /// Stops in order: callers first, then the node, its connections and its store.
    async fn close(self) -> Result<()> {
        self.server.shutdown().await;
        self.node.shutdown(Duration::from_secs(1)).await;
        self.transport.shutdown().await;
        drop((self.node, self.transport));
        let store = Arc::into_inner(self.store).context("nobody else has the store")?;
        Ok(store.close()?)
    }
}

/// What a valid ticket is. The same on every node, or they would not agree on what they hold.
struct TicketRules;

impl RecordRules for TicketRules {
    fn check(&self, op: &Op) -> Result<(), RuleViolation> {
        match &op.body {
            Body::Put { payload, .. } if op.key.kind.as_str() == "ticket" => check_ticket(payload),
            Body::Put { .. } => {
                Err(RuleViolation { slug: "not_a_ticket", message: "this service has tickets only".into() })
            }
            Body::Delete => Ok(()),
        }
    }
}

fn check_ticket(payload: &[u8]) -> Result<(), RuleViolation> {
    let is_ticket = payload.starts_with(b"open: ") || payload.starts_with(b"closed: ");
    if is_ticket && std::str::from_utf8(payload).is_ok() {
        return Ok(());
    }
    let message = "a ticket is a text that begins with \"open: \" or \"closed: \"".into();
    Err(RuleViolation { slug: "ticket_without_state", message })
}

fn ticket_key(id: &str) -> Result<RecordKey> {
    Ok(RecordKey {
        namespace: Namespace::new("help-desk")?,
        kind: Kind::new("ticket")?,
        id: RecordId::new(id)?,
    })
}

/// This machine's clock.
struct SystemClock;

impl WallClock for SystemClock {
    fn now(&self) -> WallMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_story_is_true() {
        let directory = tempfile::tempdir().unwrap();
        run(directory.path()).await.unwrap();
    }

    #[test]
    fn a_ticket_has_a_state() {
        let check = |text: &str, valid: bool| {
            assert_eq!(check_ticket(text.as_bytes()).is_ok(), valid, "{text:?}");
        };
        check("open: x", true);
        check("closed: ", true);
        check("x", false);
        check("", false);
    }
}
