//! What the handlers share.

use std::sync::Arc;
use std::time::Duration;

use federation_core::embedding::EmbeddingSpace;
use federation_core::port::clock::WallClock;
use federation_core::port::store::ReplicaStore;
use federation_net::node::Node;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::auth::Access;
use crate::metrics::Meters;
use crate::reload::Reloader;

/// Bulk requests served at once: each may hold 16 MiB and 64 open writes.
const BULK_REQUESTS_MAX: usize = 16;

/// What the handlers share. Cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    /// The node.
    pub node: Node,
    /// Its store, for what only the store knows.
    pub store: Arc<dyn ReplicaStore>,
    /// The time, for `created_at` and fresh ids.
    pub wall: Arc<dyn WallClock>,
    /// Who is let in.
    pub access: Arc<Access>,
    /// What `/metrics` shows.
    pub meters: Arc<Meters>,
    /// Takes in changed settings.
    pub reloader: Arc<Reloader>,
    /// The space whose vectors this node indexes, if it indexes any.
    pub embedding_space: Option<EmbeddingSpace>,
    /// One permit per client request that is served at once.
    pub permits: Arc<Semaphore>,
    /// One permit per bulk request that is served at once.
    pub bulk_permits: Arc<Semaphore>,
    /// The tasks of bulk requests.
    pub tasks: TaskTracker,
    /// Cancelled when a task of a client's request has panicked: the node is then to stop.
    pub failed: CancellationToken,
    /// How long a request's body may take, or a bulk body without progress.
    pub body_deadline: Duration,
}

/// What bounds the requests of clients.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Requests served at once.
    pub requests_max: usize,
    /// How long a request's body may take, or a bulk body without progress.
    pub body_deadline: Duration,
}

impl ApiState {
    /// The state of a node's client API.
    pub fn new(
        node: Node,
        store: Arc<dyn ReplicaStore>,
        wall: Arc<dyn WallClock>,
        access: Arc<Access>,
        meters: Arc<Meters>,
        reloader: Arc<Reloader>,
        limits: RequestLimits,
    ) -> Self {
        Self {
            node,
            store,
            wall,
            access,
            meters,
            reloader,
            embedding_space: None,
            permits: Arc::new(Semaphore::new(limits.requests_max)),
            bulk_permits: Arc::new(Semaphore::new(BULK_REQUESTS_MAX)),
            tasks: TaskTracker::new(),
            failed: CancellationToken::new(),
            body_deadline: limits.body_deadline,
        }
    }

    /// The same, of a node that indexes this space.
    #[must_use]
    pub fn indexing(self, embedding_space: Option<EmbeddingSpace>) -> Self {
        Self { embedding_space, ..self }
    }
}
