//! Connections to peers.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use federation_wire::frame::{Route, frame_len};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{CONNECTION_WINDOW_BYTES, FRAME_MEDIA_TYPE, KEEP_ALIVE, STREAM_WINDOW_BYTES, TrackedExecutor};
use crate::config::PeerEndpoint;
use crate::transport::{BoxFuture, Connection, FrameSource, Frames, Transport, TransportError};

/// How long the TCP connection itself may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Plain HTTP/2 over TCP, for peers on loopback.
#[derive(Debug, Default)]
pub struct HttpTransport {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl HttpTransport {
    /// A transport without a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Closes every connection, and returns when their tasks have ended. To be called after the node's own shutdown.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Transport for HttpTransport {
    fn connect<'a>(
        &'a self,
        peer: &'a PeerEndpoint,
    ) -> BoxFuture<'a, Result<Arc<dyn Connection>, TransportError>> {
        Box::pin(async move {
            let authority = peer.url.authority();
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&authority))
                .await
                .map_err(|_| TransportError::Unreachable)?
                .map_err(|_| TransportError::Unreachable)?;
            stream.set_nodelay(true).map_err(|_| TransportError::Unreachable)?;
            let stop = self.stop.child_token();
            let executor = TrackedExecutor::new(self.tasks.clone(), stop.clone());
            let (sender, connection) = Builder::new(executor)
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|_| TransportError::ConnectionLost)?;
            let driver_stop = stop.clone();
            self.tasks.spawn(async move {
                tokio::select! {
                    biased;
                    () = driver_stop.cancelled() => {}
                    // Each call on the connection reports its own end.
                    _ = connection => {}
                }
            });
            let connection: Arc<dyn Connection> =
                Arc::new(HttpConnection { sender, authority, _stop_on_drop: stop.drop_guard() });
            Ok(connection)
        })
    }
}

struct HttpConnection {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
    _stop_on_drop: DropGuard,
}

impl Connection for HttpConnection {
    fn call(&self, route: Route, frame: Bytes) -> BoxFuture<'static, Result<Frames, TransportError>> {
        let mut sender = self.sender.clone();
        let request = Request::post(format!("http://{}{}", self.authority, route.path()))
            .header(header::CONTENT_TYPE, FRAME_MEDIA_TYPE)
            .body(Full::new(frame));
        Box::pin(async move {
            let request = request.map_err(|_| TransportError::Malformed)?;
            sender.ready().await.map_err(|_| TransportError::ConnectionLost)?;
            let response = sender.send_request(request).await.map_err(|_| TransportError::ConnectionLost)?;
            let is_frame = response
                .headers()
                .get(header::CONTENT_TYPE)
                .is_some_and(|kind| kind.as_bytes() == FRAME_MEDIA_TYPE.as_bytes());
            if !is_frame {
                let status = response.status();
                return Err(if status == StatusCode::OK {
                    TransportError::Malformed
                } else {
                    TransportError::Refused { status: status.as_u16() }
                });
            }
            Ok(Frames::new(BodyFrames { body: response.into_body(), buffer: BytesMut::new() }))
        })
    }
}

/// Cuts an answer's body into frames.
struct BodyFrames {
    body: Incoming,
    buffer: BytesMut,
}

impl BodyFrames {
    async fn read(&mut self) -> Option<Result<Bytes, TransportError>> {
        loop {
            match frame_len(&self.buffer) {
                Err(_) => return Some(Err(TransportError::Malformed)),
                Ok(Some(length)) if length <= self.buffer.len() => {
                    return Some(Ok(self.buffer.split_to(length).freeze()));
                }
                Ok(_) => {}
            }
            match self.body.frame().await {
                Some(Ok(chunk)) => {
                    if let Ok(data) = chunk.into_data() {
                        self.buffer.extend_from_slice(data.chunk());
                    }
                }
                None if self.buffer.is_empty() => return None,
                Some(Err(_)) | None => return Some(Err(TransportError::ConnectionLost)),
            }
        }
    }
}

impl FrameSource for BodyFrames {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, TransportError>>> {
        Box::pin(self.read())
    }
}
