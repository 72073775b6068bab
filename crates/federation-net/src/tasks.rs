//! The tasks of a node: owned, counted, stopped together; a panic in one is the end of the node.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Owns a node's tasks.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failed: Arc<watch::Sender<Option<&'static str>>>,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self {
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            failed: Arc::new(watch::Sender::new(None)),
        }
    }

    /// Runs `task` until it ends or panics. It is to watch [`Tasks::stop`] itself.
    pub(crate) fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let guard = PanicGuard { name, failed: Arc::clone(&self.failed) };
        self.tracker.spawn(async move {
            let _guard = guard;
            task.await;
        });
    }

    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Resolves with the name of the first task that panicked.
    pub(crate) async fn failed(&self) -> &'static str {
        let mut failed = self.failed.subscribe();
        loop {
            if let Some(name) = *failed.borrow_and_update() {
                return name;
            }
            if failed.changed().await.is_err() {
                return "supervision";
            }
        }
    }

    /// Tells every task to stop and waits until all have.
    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

struct PanicGuard {
    name: &'static str,
    failed: Arc<watch::Sender<Option<&'static str>>>,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.name, "a task of the node panicked");
            self.failed.send_replace(Some(self.name));
        }
    }
}
