//! Frames over HTTP/2, on TLS or plain: one request per frame, the frames of the answer back to back in its body.
//!
//! `nodelay` on both sides always: without it the delayed acknowledgements of TCP cost 40 ms per exchange.

mod admission;
pub mod client;
pub mod server;

pub use admission::ListenerLimits;

use std::future::Future;
use std::time::Duration;

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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use bytes::Bytes;
    use federation_core::id::{BootId, NodeId};
    use federation_core::time::WallMs;
    use federation_wire::frame::{Envelope, FrameKind, Nonce, Route, seal};
    use federation_wire::identity::PeerUrl;
    use federation_wire::keys::NodeKey;
    use tokio::net::TcpListener;
    use tokio::sync::{Notify, Semaphore};
    use tokio::task::JoinSet;
    use tokio_util::task::TaskTracker;

    use crate::config::PeerEndpoint;
    use crate::http::ListenerLimits;
    use crate::http::client::HttpTransport;
    use crate::http::server::{PeerSecurity, PeerServer};
    use crate::rate::Rate;
    use crate::transport::{
        Answer, BoxFuture, ChannelIdentity, FrameSource, Frames, PeerService, Transport as _, TransportError,
    };

    /// What one address may ask is not what is looked at here.
    fn unhurried() -> ListenerLimits {
        let requests_per_address = Rate { per_second: 1e9, burst: 1e9 };
        ListenerLimits { requests_per_address, ..ListenerLimits::default() }
    }

    /// Answers each frame with itself, and ends the answer a moment later, each a little later than the one before.
    #[derive(Default)]
    struct Echo(AtomicUsize);

    struct EndsLater {
        frame: Option<Bytes>,
        pauses: usize,
    }

    impl FrameSource for EndsLater {
        fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, TransportError>>> {
            let frame = self.frame.take();
            let pauses = self.pauses;
            Box::pin(async move {
                if frame.is_none() {
                    for _ in 0..pauses {
                        tokio::task::yield_now().await;
                    }
                }
                frame.map(Ok)
            })
        }
    }

    impl PeerService for Echo {
        fn call(&self, _: &ChannelIdentity, _: Route, frame: Bytes) -> BoxFuture<'static, Answer> {
            let pauses = self.0.fetch_add(1, Ordering::Relaxed) % 6;
            let frames = Some(Frames::new(EndsLater { frame: Some(frame), pauses }));
            Box::pin(async move { Answer { status: 200, frames, slug: "ok" } })
        }
    }

    /// It did not while each answer was dropped after its frame: under load a node lost its peers every few seconds.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_connection_outlives_thousands_of_answers_that_end_after_their_frame() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = PeerUrl::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let server = PeerServer::spawn(listener, PeerSecurity::Plain, unhurried(), Arc::new(Echo::default()));
        let transport = HttpTransport::plain();
        let id = NodeId::new("b").unwrap();
        let connection = transport.connect(&PeerEndpoint { id: id.clone(), url }).await.unwrap();
        let envelope = Envelope {
            kind: FrameKind::Request,
            route: Route::Push,
            sender: NodeId::new("a").unwrap(),
            sender_boot: BootId(1),
            recipient: id,
            recipient_boot: BootId(2),
            sent_at: WallMs(3),
            nonce: Nonce(4),
        };
        let frame = Bytes::from(seal(&NodeKey::from_seed(&[7; 32]), envelope, b"body"));
        let mut callers = JoinSet::new();
        for _ in 0..3 {
            let (connection, frame) = (Arc::clone(&connection), frame.clone());
            callers.spawn(async move {
                for number in 0..15_000 {
                    let answer = connection.call(Route::Push, frame.clone()).await;
                    let answer = answer.unwrap_or_else(|error| panic!("call {number}: {error}"));
                    assert_eq!(answer.only().await.as_ref(), Ok(&frame), "call {number}");
                }
            });
        }
        callers.join_all().await;
        drop(connection);
        transport.shutdown().await;
        server.shutdown().await;
    }

    /// Handles each frame in a task of its own, as a node does, and answers once it may.
    #[derive(Clone)]
    struct Held {
        tasks: TaskTracker,
        begun: Arc<Notify>,
        may_end: Arc<Semaphore>,
    }

    impl PeerService for Held {
        fn call(&self, _: &ChannelIdentity, _: Route, frame: Bytes) -> BoxFuture<'static, Answer> {
            let Self { tasks, begun, may_end } = self.clone();
            let handling = tasks.spawn(async move {
                begun.notify_one();
                may_end.acquire().await.unwrap().forget();
                drop(frame);
            });
            Box::pin(async move {
                handling.await.unwrap();
                Answer { status: 200, frames: Some(Frames::one(Bytes::from_static(b"handled"))), slug: "ok" }
            })
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_body_has_its_room_until_it_is_handled_also_if_its_caller_has_hung_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = PeerUrl::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let limits = ListenerLimits { body_bytes_per_address: 4_096, ..unhurried() };
        let (begun, may_end) = (Arc::default(), Arc::new(Semaphore::new(0)));
        let held = Held { tasks: TaskTracker::new(), begun, may_end };
        let server = PeerServer::spawn(listener, PeerSecurity::Plain, limits, Arc::new(held.clone()));
        let transport = HttpTransport::plain();
        let endpoint = PeerEndpoint { id: NodeId::new("b").unwrap(), url };
        let connection = transport.connect(&endpoint).await.unwrap();
        let call = || {
            let connection = Arc::clone(&connection);
            async move { connection.call(Route::Push, Bytes::from(vec![0; 3_000])).await.map(drop) }
        };
        tokio::select! {
            answered = call() => panic!("{answered:?}"),
            () = held.begun.notified() => {}
        }
        let second = tokio::time::timeout(Duration::from_secs(20), call()).await;
        let second = second.expect("it is refused at once");
        assert_eq!(second, Err(TransportError::Refused { status: 429 }));
        held.may_end.add_permits(2);
        let there_is_room_again = async {
            while let Err(error) = call().await {
                assert_eq!(error, TransportError::Refused { status: 429 });
            }
        };
        tokio::time::timeout(Duration::from_secs(20), there_is_room_again).await.unwrap();
        drop(connection);
        transport.shutdown().await;
        server.shutdown().await;
    }
}
