//! A node: its store, its peers, its clients' writes.

pub mod letters;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use federation_core::decide::Mutation;
use federation_core::dot::Dot;
use federation_core::id::{BootId, Kind, Namespace, RecordId, RecordKey};
use federation_core::node_clock::NodeClock;
use federation_core::port::clock::WallClock;
use federation_core::port::rules::RecordRules;
use federation_core::port::store::{ListPage, ListQuery, RecordRead, ReplicaStore, StateHash, StoreError};
use federation_core::quorum::policy::WriteLevel;
use federation_core::record::Record;
use federation_core::scope::Scope;
use federation_wire::frame::Route;
use federation_wire::identity::Directory;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::{Membership, NodeConfig};
use crate::enrolled::Enrolled;
use crate::error::{ReadError, StartError, WriteError};
use crate::gate::{Gate, SenderBounds};
use crate::inner::{Inner, OpenWrites, lock};
use crate::members::{Changes, Members, drive, preview, reload};
use crate::metrics::{NetCounters, NetMetrics};
use crate::peer::Peer;
use crate::peer::hello::own_store;
use crate::peer::pull::end_rebootstrap_if_done;
use crate::server::serve;
use crate::signing_keys::SigningKeys;
use crate::status::{NodeStatus, OpAtPeer, OpStatus, PeerStatus, Readiness};
use crate::store_call::query;
use crate::tasks::Tasks;
use crate::transport::{Answer, BoxFuture, ChannelIdentity, PeerService, Transport, TurnedAway};
use crate::write::{Proof, WriteReceipt, write};

/// How often writes whose caller has gone away are looked for.
const SWEEP: Duration = Duration::from_millis(250);

/// A node. Cheap to clone; all clones are the same node, which runs until [`Node::shutdown`].
#[derive(Clone)]
pub struct Node {
    pub(crate) inner: Arc<Inner>,
}

/// What a node is given of the world.
pub struct Ports {
    /// Durable state.
    pub store: Arc<dyn ReplicaStore>,
    /// The keys that sign frames: the same handle as the one that seals ops.
    pub keys: SigningKeys,
    /// Who is enrolled, without this node: the same handle as the transport's and the listener's.
    pub enrolled: Enrolled,
    /// What a valid record is.
    pub rules: Arc<dyn RecordRules>,
    /// The time.
    pub wall: Arc<dyn WallClock>,
    /// The way to the peers.
    pub transport: Arc<dyn Transport>,
    /// Drawn for this start; the store was opened with the same.
    pub boot: BootId,
    /// Seeds nonces and jitter: random in production.
    pub seed: u64,
}

impl Node {
    /// Starts a node on the current tokio runtime.
    ///
    /// # Errors
    /// [`StartError`]; nothing was started.
    pub fn start(config: NodeConfig, ports: Ports) -> Result<Self, StartError> {
        let tasks = Tasks::new();
        let membership = Membership {
            directory: Directory::clone(&ports.enrolled.directory()),
            peers: config.peers.clone(),
            write_levels: config.write_levels.clone(),
        };
        let (members, links) = Members::new(&config.node, &membership, None, tasks.stop())?;
        let gate = Gate::new(
            config.node.clone(),
            ports.boot,
            ports.keys,
            ports.enrolled,
            SenderBounds { rate: config.peer_rate, nonces: config.peer_nonces },
            Arc::clone(&ports.wall),
            ports.seed,
        );
        let inner = Arc::new(Inner {
            config,
            boot: ports.boot,
            store: ports.store,
            rules: ports.rules,
            wall: ports.wall,
            transport: ports.transport,
            gate,
            members: ArcSwap::from_pointee(members),
            reloading: Mutex::default(),
            open_writes: Mutex::new(OpenWrites::default()),
            epoch: ArcSwap::default(),
            hello_learned: Notify::new(),
            metrics: NetMetrics::default(),
            alarms: Mutex::default(),
            started: Instant::now(),
            tasks,
        });
        drive(&inner, links);
        inner.tasks.spawn("sweep", sweep(Arc::clone(&inner)));
        Ok(Self { inner })
    }

    /// Takes in who takes part from here on, while everything goes on.
    ///
    /// The caller cuts the connections that are proven no more: they are its listener's and its transport's
    /// ([`crate::http::server::PeerServer::close_unproven`] and its like).
    ///
    /// # Errors
    /// [`StartError`]; nothing is changed then.
    pub fn reload(&self, membership: Membership) -> Result<Changes, StartError> {
        reload(&self.inner, membership)
    }

    /// What [`Node::reload`] would change.
    ///
    /// # Errors
    /// [`StartError`], as it would.
    pub fn preview(&self, membership: &Membership) -> Result<Changes, StartError> {
        preview(&self.inner, membership)
    }

    /// Hash over who is enrolled and what each keeps: equal on nodes that agree on it.
    pub fn config_version(&self) -> [u8; 32] {
        self.inner.gate.config_version(&self.inner.snapshot().facts.replica_scope)
    }

    /// Writes: commits here, fans out, and returns once the quorum is certain.
    ///
    /// `level` raises what the operator set, and never lowers it.
    ///
    /// # Errors
    /// [`WriteError`]. Only with [`WriteError::QuorumNotMet`] was anything written.
    ///
    /// # Cancel safety
    /// Dropped after the call has begun, the write may be committed, and is then delivered like any other.
    pub async fn write(
        &self,
        mutation: Mutation,
        level: Option<WriteLevel>,
    ) -> Result<WriteReceipt, WriteError> {
        self.write_proven(mutation, level, Proof::Acks).await
    }

    /// As [`Node::write`], with the proof that is wanted: with [`Proof::SignedAcks`] each node that counts has signed its
    /// ack, and one that does not sign does not count.
    ///
    /// # Errors
    /// As [`Node::write`].
    ///
    /// # Cancel safety
    /// As [`Node::write`].
    pub async fn write_proven(
        &self,
        mutation: Mutation,
        level: Option<WriteLevel>,
        proof: Proof,
    ) -> Result<WriteReceipt, WriteError> {
        write(&self.inner, mutation, level, proof).await
    }

    /// The live versions of a record, as this node has them: none of a namespace that it does not keep, whatever
    /// it has of it from earlier.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read(&self, key: RecordKey) -> Result<RecordRead, ReadError> {
        if !self.keeps(&key.namespace) {
            return Ok(RecordRead { record: Record::new(), ops: Vec::new() });
        }
        self.ask(|store, done| store.read(key, done)).await
    }

    /// The keys with live versions of this kind and id, in any namespace that this node keeps.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn keys_of(&self, kind: Kind, id: RecordId) -> Result<Vec<RecordKey>, ReadError> {
        let mut keys = self.ask(|store, done| store.keys_of(kind, id, done)).await?;
        keys.retain(|key| self.keeps(&key.namespace));
        Ok(keys)
    }

    /// A page of visible records of the namespaces that this node keeps, as it has them. It may be short, and not the
    /// last: [`ListPage::next`] says so.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn list(&self, wanted: ListQuery) -> Result<ListPage, ReadError> {
        let mut page = self.ask(|store, done| store.list(wanted, done)).await?;
        page.records.retain(|(key, _, _)| self.keeps(&key.namespace));
        Ok(page)
    }

    /// Hash over the live state of the namespaces that this node keeps and that are in `within`: equal on nodes that hold
    /// the same of them. Reads the whole index.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn state_hash(&self, within: &Scope) -> Result<StateHash, StoreError> {
        let kept = within.common(&self.inner.snapshot().facts.replica_scope);
        query(&self.inner.store, |store, done| store.state_hash(kept, done)).await
    }

    /// Whether this node keeps a namespace.
    fn keeps(&self, namespace: &Namespace) -> bool {
        self.inner.snapshot().facts.replica_scope.contains(namespace)
    }

    /// Which nodes hold an op.
    pub fn op_status(&self, dot: &Dot) -> OpStatus {
        let inner = &self.inner;
        let (snapshot, members) = (inner.snapshot(), inner.members());
        let peers = members.dialled().map(|peer| {
            let letter = snapshot.facts.dead_letter(&peer.id, dot);
            let trust = inner.gate.trust(&peer.id);
            let state = peer.state();
            let at_peer = if state.clock.contains(dot) {
                OpAtPeer::Held
            } else if let Some(letter) = letter {
                if letter.is_discarded { OpAtPeer::Discarded } else { OpAtPeer::Refused }
            } else if state.has_been_offered(&trust).is_some_and(|offered| offered.contains(dot)) {
                OpAtPeer::NotOwed
            } else {
                OpAtPeer::Pending
            };
            (peer.id.clone(), at_peer)
        });
        OpStatus { dot: dot.clone(), here: snapshot.clock.contains(dot), peers: peers.collect() }
    }

    /// The node's state as of now.
    pub fn status(&self) -> NodeStatus {
        let inner = &self.inner;
        let (snapshot, members) = (inner.snapshot(), inner.members());
        let (alarms, equivocations) = {
            let book = lock(&inner.alarms);
            (book.alarms(), book.equivocations())
        };
        NodeStatus {
            node: inner.config.node.clone(),
            boot: inner.boot,
            store: own_store(&snapshot),
            origin: inner
                .epoch
                .load()
                .initialized()
                .then(|| snapshot.facts.own_origin(&inner.config.node))
                .flatten(),
            n: members.n(),
            w: members.w(),
            readiness: inner.readiness(),
            clock: snapshot.clock.clone(),
            position: snapshot.position,
            open_writes: lock(&inner.open_writes).coordinator.open_writes(),
            alarms,
            equivocations,
            peers: members.dialled().filter_map(|peer| peer_status(inner, peer, &snapshot.clock)).collect(),
        }
    }

    /// Whether clients are served.
    pub fn readiness(&self) -> Readiness {
        self.inner.readiness()
    }

    /// Everything counted since the start.
    pub fn metrics(&self) -> NetCounters {
        self.inner.metrics.counters()
    }

    /// Resolves with the name of the first internal task that panicked. The process is then to end.
    pub async fn failed(&self) -> &'static str {
        self.inner.tasks.failed().await
    }

    /// Stops: no new write is taken, open ones get up to `grace` to be settled, then every task ends.
    /// The store stays open for whoever owns it.
    pub async fn shutdown(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        while lock(&self.inner.open_writes).coordinator.open_writes() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.inner.tasks.shutdown().await;
    }

    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn ReplicaStore, federation_core::port::store::Done<Result<T, StoreError>>),
    ) -> Result<T, ReadError> {
        let refused = match self.inner.readiness() {
            Readiness::Ready => None,
            // A store that takes no writes still answers reads, unless it lacks what it was to catch up with.
            Readiness::Store(_) => self.inner.catching_up(&self.inner.snapshot()),
            readiness => Some(readiness),
        };
        if let Some(readiness) = refused {
            return Err(ReadError::NotServing(readiness));
        }
        query(&self.inner.store, ask).await.map_err(ReadError::Store)
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("node", &self.inner.config.node).finish_non_exhaustive()
    }
}

impl PeerService for Node {
    fn call(&self, channel: &ChannelIdentity, route: Route, frame: Bytes) -> BoxFuture<'static, Answer> {
        let (inner, channel) = (Arc::clone(&self.inner), channel.clone());
        Box::pin(async move { serve(&inner, &channel, route, &frame).await })
    }

    fn turned_away(&self, what: TurnedAway) {
        self.inner.metrics.with(|counters| {
            let (by_word, word) = match what {
                TurnedAway::Connection => (&mut counters.refused_connections, "too_many"),
                TurnedAway::Handshake => (&mut counters.refused_connections, "handshake"),
                TurnedAway::Silent => (&mut counters.refused_connections, "silent"),
                TurnedAway::Request(slug) => (&mut counters.refused_frames, slug.as_str()),
            };
            *by_word.entry(word).or_default() += 1;
        });
    }
}

fn peer_status(inner: &Inner, peer: &Peer, clock: &NodeClock) -> Option<PeerStatus> {
    let url = peer.endpoint.as_ref()?.url.to_string();
    let trust = inner.gate.trust(&peer.id);
    let state = peer.state();
    Some(PeerStatus {
        id: peer.id.clone(),
        url,
        state: state.link.state,
        boot: state.hello.map(|hello| hello.boot),
        store: state.hello.map(|hello| hello.store),
        backlog_ops: state.not_yet_offered(&trust, clock, &state.clock).dot_count(),
        live_lane_ops: state.link.lane_ops,
        session: state.link.session,
        last_error: state.link.last_error,
        must_rebootstrap: state.verdict.map(federation_wire::v1::hello::RebootstrapReason::slug),
        scope_mismatch: state.is_mismatched(&trust),
        clock_skew_ms: state.hello.map(|hello| hello.skew_ms),
    })
}

/// Settles writes whose caller has gone away, and ends a re-bootstrap that waits for nobody.
async fn sweep(inner: Arc<Inner>) {
    let stop = inner.tasks.stop().clone();
    let sweeping = async {
        loop {
            tokio::time::sleep(SWEEP).await;
            inner.with_open_writes(|open, now, out| open.coordinator.tick(now, out));
            end_rebootstrap_if_done(&inner).await;
        }
    };
    // Not between two rounds alone: a disk that does not answer must not hold up the end.
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = sweeping => {}
    }
}
