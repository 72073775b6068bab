//! What the handlers share.

use std::sync::Arc;
use std::time::Duration;

use federation_core::port::clock::WallClock;
use federation_core::port::store::ReplicaStore;
use federation_net::node::Node;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::api::body::BODY_DEADLINE;
use crate::metrics::Meters;

/// What the handlers share. Cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    /// The node.
    pub node: Node,
    /// Its store, for what only the store knows.
    pub store: Arc<dyn ReplicaStore>,
    /// The time, for `created_at` and fresh ids.
    pub wall: Arc<dyn WallClock>,
    /// What `/metrics` shows.
    pub meters: Arc<Meters>,
    /// Hash over who is enrolled, as hexadecimal digits.
    pub config_version: Arc<str>,
    /// One permit per client request that is served at once.
    pub permits: Arc<Semaphore>,
    /// The tasks of bulk requests.
    pub tasks: TaskTracker,
    /// How long a request's body may take, or a bulk body without progress.
    pub body_deadline: Duration,
}

impl ApiState {
    /// The state of a node that serves up to `requests_max` client requests at once.
    pub fn new(
        node: Node,
        store: Arc<dyn ReplicaStore>,
        wall: Arc<dyn WallClock>,
        meters: Arc<Meters>,
        config_version: &[u8; 32],
        requests_max: usize,
    ) -> Self {
        Self {
            node,
            store,
            wall,
            meters,
            config_version: hex(config_version).into(),
            permits: Arc::new(Semaphore::new(requests_max)),
            tasks: TaskTracker::new(),
            body_deadline: BODY_DEADLINE,
        }
    }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
