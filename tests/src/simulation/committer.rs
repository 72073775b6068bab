//! What stands for the writer thread of a store: it commits a group at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use federation_core::id::NodeId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::mesh::Store;
use crate::network::Network;

/// Commits a group at a time, like a disk that takes its time.
pub(super) struct Committer {
    pub(super) store: Store,
    pub(super) submitted: Arc<Notify>,
    pub(super) network: Network,
    pub(super) id: NodeId,
    pub(super) commit_ms: Arc<AtomicU64>,
    /// Whether it compacts the log between the groups.
    pub(super) compacts: bool,
}

impl Committer {
    pub(super) async fn run(self, stop: CancellationToken) {
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
                tokio::time::sleep(Duration::from_millis(self.commit_ms.load(Ordering::Relaxed))).await;
                self.network.awake(&self.id).await;
                self.store.step();
                if self.compacts {
                    // What goes wrong poisons the store, as any write does.
                    let _ = self.store.compact();
                }
            }
        }
    }
}
