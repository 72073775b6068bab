//! Frames over HTTP/2: one request per frame, the frames of the answer back to back in its body.
//!
//! `nodelay` on both sides always: without it the delayed acknowledgements of TCP cost 40 ms per exchange.

pub mod client;
pub mod server;

use std::future::Future;
use std::time::Duration;

use federation_wire::frame::Route;
use hyper::rt::Executor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Media type of the native frame.
pub const FRAME_MEDIA_TYPE: &str = "application/vnd.federation.v1";
/// Window of one stream: a frame of the largest size without a stop.
const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Window of one connection: a live page beside a backfill page.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// How long a connection may be silent before a PING, and how long its answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The path of a route.
pub(crate) fn path(route: Route) -> &'static str {
    route.path()
}

/// Runs hyper's own tasks where their owner can see them end.
#[derive(Clone, Debug)]
pub(crate) struct TrackedExecutor {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl TrackedExecutor {
    pub(crate) fn new(tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self { tasks, stop }
    }
}

impl<F> Executor<F> for TrackedExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                _ = task => {}
            }
        });
    }
}
