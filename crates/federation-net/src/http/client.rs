//! Connections to peers.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use federation_core::id::NodeId;
use federation_wire::frame::{Route, SenderProof, frame_len};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{CONNECTION_WINDOW_BYTES, FRAME_MEDIA_TYPE, KEEP_ALIVE, STREAM_WINDOW_BYTES, TrackedExecutor};
use crate::config::PeerEndpoint;
use crate::connections::Connections;
use crate::tls::{PeerTls, Proven};
use crate::transport::{
    BoxFuture, ChannelIdentity, Connection, FrameSource, Frames, Transport, TransportError,
};

/// How long the TCP connection itself may take, and the handshake on it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// HTTP/2 to peers: on TLS, or plain to those on loopback whose URL says so.
#[derive(Debug, Default)]
pub struct HttpTransport {
    tls: Option<PeerTls>,
    tasks: TaskTracker,
    stop: CancellationToken,
    connections: Connections,
}

impl HttpTransport {
    /// A transport without a connection, to peers that prove themselves by `tls`.
    pub fn new(tls: PeerTls) -> Self {
        Self { tls: Some(tls), ..Self::plain() }
    }

    /// A transport that has plain HTTP alone, and reaches nothing off loopback.
    pub fn plain() -> Self {
        Self::default()
    }

    /// Cuts the connections whose other end could not prove now that it is the peer, with all that is under way on them,
    /// as [`crate::http::server::PeerServer::close_unproven`] does. Names the peers, once for each connection.
    pub fn close_unproven(&self) -> Vec<NodeId> {
        self.tls.as_ref().map_or_else(Vec::new, |tls| self.connections.close_unproven(tls))
    }

    /// Closes every connection, and returns when their tasks have ended. To be called after the node's own shutdown.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn open(&self, peer: &PeerEndpoint) -> Result<Arc<dyn Connection>, TransportError> {
        if !peer.url.is_tls() && !peer.url.is_loopback() {
            return Err(TransportError::PlainOffLoopback);
        }
        let authority = peer.url.authority();
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&authority))
            .await
            .map_err(|_| TransportError::Unreachable)?
            .map_err(|_| TransportError::Unreachable)?;
        stream.set_nodelay(true).map_err(|_| TransportError::Unreachable)?;
        if !peer.url.is_tls() {
            return self.speak(stream, format!("http://{authority}"), None).await;
        }
        let tls = self.tls.as_ref().ok_or(TransportError::Untrusted)?;
        let (stream, proven) = tokio::time::timeout(CONNECT_TIMEOUT, shake_hands(tls, stream, &peer.id))
            .await
            .map_err(|_| TransportError::HandshakeTimedOut)??;
        self.speak(stream, format!("https://{authority}"), Some(proven)).await
    }

    async fn speak<S>(
        &self,
        stream: S,
        base: String,
        proven: Option<Proven>,
    ) -> Result<Arc<dyn Connection>, TransportError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
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
        let channel = proven.as_ref().map_or(ChannelIdentity::Unproven, |proven| proven.channel.clone());
        let entry = self.connections.enter(proven.clone(), stop.clone(), usize::MAX);
        // As a listener does with its callers.
        if let (Some(tls), Some(proven)) = (&self.tls, &proven)
            && !tls.still_proves(proven)
        {
            return Err(TransportError::Untrusted);
        }
        let driver_stop = stop.clone();
        self.tasks.spawn(async move {
            let _entry = entry;
            tokio::select! {
                biased;
                () = driver_stop.cancelled() => {}
                // Each call on the connection reports its own end.
                _ = connection => {}
            }
        });
        Ok(Arc::new(HttpConnection {
            sender,
            base,
            channel,
            stop: stop.clone(),
            _stop_on_drop: stop.drop_guard(),
        }))
    }
}

impl Transport for HttpTransport {
    fn connect<'a>(
        &'a self,
        peer: &'a PeerEndpoint,
    ) -> BoxFuture<'a, Result<Arc<dyn Connection>, TransportError>> {
        Box::pin(self.open(peer))
    }
}

/// The stream within, if it is `peer` that is at its other end.
async fn shake_hands(
    tls: &PeerTls,
    stream: TcpStream,
    peer: &NodeId,
) -> Result<(TlsStream<TcpStream>, Proven), TransportError> {
    let config = tls.client_config(peer).map_err(|_| TransportError::Untrusted)?;
    // Whom the certificate must be of is the verifier's business: names of hosts prove nobody here.
    let name = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
        if error.kind() != io::ErrorKind::InvalidData {
            return TransportError::ConnectionLost;
        }
        tracing::warn!(%peer, %error, "what is at the peer's address does not prove to be the peer");
        TransportError::Untrusted
    })?;
    let proven = tls.dialled(stream.get_ref().1.peer_certificates());
    match proven.filter(|proven| proven.channel.node() == Some(peer)) {
        Some(proven) => Ok((stream, proven)),
        None => Err(TransportError::Untrusted),
    }
}

struct HttpConnection {
    sender: SendRequest<Full<Bytes>>,
    base: String,
    channel: ChannelIdentity,
    /// Cancelled when the connection is closed from this side. hyper's tasks end with it wherever they are, and not each
    /// call that is under way hears of that from them.
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Connection for HttpConnection {
    fn channel(&self) -> ChannelIdentity {
        self.channel.clone()
    }

    fn call(&self, route: Route, frame: Bytes) -> BoxFuture<'static, Result<Frames, TransportError>> {
        let (sender, stop, proof) = (self.sender.clone(), self.stop.clone(), self.channel.sender_proof());
        let request = Request::post(format!("{}{}", self.base, route.path()))
            .header(header::CONTENT_TYPE, FRAME_MEDIA_TYPE)
            .body(Full::new(frame));
        Box::pin(async move {
            let request = request.map_err(|_| TransportError::Malformed)?;
            let body = tokio::select! {
                biased;
                () = stop.cancelled() => return Err(TransportError::ConnectionLost),
                body = exchange(sender, request) => body?,
            };
            Ok(Frames::new(BodyFrames { body, buffer: BytesMut::new(), proof, stop }))
        })
    }
}

/// Sends a request and gives the body of its answer, which is frames.
async fn exchange(
    mut sender: SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Incoming, TransportError> {
    sender.ready().await.map_err(|_| TransportError::ConnectionLost)?;
    let response = sender.send_request(request).await.map_err(|_| TransportError::ConnectionLost)?;
    let media_type = response.headers().get(header::CONTENT_TYPE);
    if media_type.is_some_and(|kind| kind.as_bytes() == FRAME_MEDIA_TYPE.as_bytes()) {
        return Ok(response.into_body());
    }
    Err(match response.status() {
        StatusCode::OK => TransportError::Malformed,
        status => TransportError::Refused { status: status.as_u16() },
    })
}

/// Cuts an answer's body into frames.
struct BodyFrames {
    body: Incoming,
    buffer: BytesMut,
    proof: SenderProof,
    stop: CancellationToken,
}

impl BodyFrames {
    async fn read(&mut self) -> Option<Result<Bytes, TransportError>> {
        loop {
            match frame_len(&self.buffer, self.proof) {
                Err(_) => return Some(Err(TransportError::Malformed)),
                Ok(Some(length)) if length <= self.buffer.len() => {
                    return Some(Ok(self.buffer.split_to(length).freeze()));
                }
                Ok(_) => {}
            }
            let chunk = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Some(Err(TransportError::ConnectionLost)),
                chunk = self.body.frame() => chunk,
            };
            match chunk {
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
