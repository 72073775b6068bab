//! The peer listener: lets connections in, has their other end prove itself, and hands frames to the node.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use federation_core::id::NodeId;
use federation_core::limits::FRAME_BYTES_MAX;
use federation_wire::frame::Route;
use federation_wire::slug::Slug;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::{Admission, Admitted, ListenerLimits, Room};
use super::{CONNECTION_WINDOW_BYTES, FRAME_MEDIA_TYPE, KEEP_ALIVE, STREAM_WINDOW_BYTES, TrackedExecutor};
use crate::connections::Connections;
use crate::tls::{PeerTls, Proven};
use crate::transport::{Answer, ChannelIdentity, Frames, PeerService, TurnedAway};

/// Requests under way on one connection: the pages of both lanes, hellos, a pull.
const STREAMS_MAX: u32 = 32;
/// How long a request's body may take: a frame of the largest size at 1 MiB/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(8);
/// How long an HTTP/1.1 caller may take for its headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may stay without a request: who dials has something to say.
const SILENCE: Duration = Duration::from_secs(5);
/// How long requests under way may take to end once the server stops.
const DRAIN: Duration = Duration::from_secs(2);

/// What a peer listener speaks.
#[derive(Clone, Debug)]
pub enum PeerSecurity {
    /// Mutual TLS.
    Tls(PeerTls),
    /// Plain HTTP, which proves nobody: for loopback alone.
    Plain,
}

/// Serves the peer routes on a listener until it is stopped.
#[derive(Debug)]
pub struct PeerServer {
    stop: CancellationToken,
    tasks: TaskTracker,
    connections: Connections,
    security: PeerSecurity,
}

impl PeerServer {
    /// Starts serving `service` on `listener`.
    pub fn spawn(
        listener: TcpListener,
        security: PeerSecurity,
        limits: ListenerLimits,
        service: Arc<dyn PeerService>,
    ) -> Self {
        let (stop, tasks, connections) =
            (CancellationToken::new(), TaskTracker::new(), Connections::default());
        let accept = Accept {
            service,
            security: security.clone(),
            admission: Arc::new(Admission::new(limits)),
            connections: connections.clone(),
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn(Arc::new(accept).run(listener));
        Self { stop, tasks, connections, security }
    }

    /// Cuts the connections whose caller could not prove now who it is, with all that is under way on them: its key is
    /// not active any more, or its certificate not bound to it, not of the CA, or out of date. Names the callers, once for
    /// each connection.
    pub fn close_unproven(&self) -> Vec<NodeId> {
        match &self.security {
            PeerSecurity::Tls(tls) => self.connections.close_unproven(tls),
            PeerSecurity::Plain => Vec::new(),
        }
    }

    /// Stops accepting, lets requests under way end for a moment, and returns when every task has ended.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

struct Accept {
    service: Arc<dyn PeerService>,
    security: PeerSecurity,
    admission: Arc<Admission>,
    connections: Connections,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Accept {
    async fn run(self: Arc<Self>, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => self.take(stream, from.ip()),
                // Out of descriptors, or the caller has gone: neither ends the listener.
                Err(error) => {
                    tracing::warn!(%error, "a peer connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn take(self: &Arc<Self>, stream: TcpStream, from: IpAddr) {
        // Over the limit the connection is closed at once: a peer backs off, nobody queues.
        let Some(admitted) = self.admission.admit(from) else {
            return self.service.turned_away(TurnedAway::Connection);
        };
        let accept = Arc::clone(self);
        self.tasks.spawn(async move {
            let stop = accept.stop.clone();
            if stream.set_nodelay(true).is_err() {
                return;
            }
            match &accept.security {
                PeerSecurity::Plain => accept.serve(stream, None, admitted).await,
                PeerSecurity::Tls(tls) => {
                    let shaken = tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        shaken = shake_hands(tls, stream, &admitted) => shaken,
                    };
                    match shaken {
                        Some((stream, proven)) => accept.serve(stream, Some(proven), admitted).await,
                        None => accept.service.turned_away(TurnedAway::Handshake),
                    }
                }
            }
        });
    }

    async fn serve<S>(&self, stream: S, proven: Option<Proven>, admitted: Admitted)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let cut = CancellationToken::new();
        let per_node = admitted.connections_per_node();
        let channel = proven.as_ref().map_or(ChannelIdentity::Unproven, |proven| proven.channel.clone());
        let Some(_entry) = self.connections.enter(proven.clone(), cut.clone(), per_node) else {
            return self.service.turned_away(TurnedAway::Connection);
        };
        // Entered, it is among those that a change closes; one between its handshake and here has to be asked for.
        if let (PeerSecurity::Tls(tls), Some(proven)) = (&self.security, &proven)
            && !tls.still_proves(proven)
        {
            return self.service.turned_away(TurnedAway::Handshake);
        }
        let _guard = cut.clone().drop_guard();
        let caller = Arc::new(Caller {
            service: Arc::clone(&self.service),
            channel,
            admitted,
            asked: CancellationToken::new(),
            end: CancellationToken::new(),
        });
        let (asked, end) = (caller.asked.clone(), caller.end.clone());
        let builder = builder(TrackedExecutor::new(self.tasks.clone(), cut.clone()));
        let connection = builder.serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| {
                let caller = Arc::clone(&caller);
                async move { Ok::<_, Infallible>(caller.handle(request).await) }
            }),
        );
        tokio::pin!(connection);
        tokio::select! {
            biased;
            () = cut.cancelled() => return,
            () = self.stop.cancelled() => {}
            () = end.cancelled() => {}
            () = stays_silent(&asked) => return self.service.turned_away(TurnedAway::Silent),
            _ = &mut connection => return,
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            biased;
            () = cut.cancelled() => {}
            _ = tokio::time::timeout(DRAIN, connection) => {}
        }
    }
}

/// Returns if nothing was asked for too long after the connection was made. What bounds a connection with requests has its
/// timers in HTTP; before the first of them, while the version is read, HTTP has none.
async fn stays_silent(asked: &CancellationToken) {
    if tokio::time::timeout(SILENCE, asked.cancelled()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// The stream within, and who is at its other end; none if they do not prove to be enrolled in time.
async fn shake_hands(
    tls: &PeerTls,
    stream: TcpStream,
    admitted: &Admitted,
) -> Option<(impl AsyncRead + AsyncWrite + Unpin + Send + 'static, Proven)> {
    let _place = admitted.handshake()?;
    let accept = TlsAcceptor::from(tls.server_config()).accept(stream);
    let shaken = tokio::time::timeout(admitted.handshake_timeout(), accept).await.ok()?;
    let stream = shaken.map_err(|error| tracing::debug!(%error, "a handshake failed")).ok()?;
    let proven = tls.caller(stream.get_ref().1.peer_certificates())?;
    Some((stream, proven))
}

fn builder(executor: TrackedExecutor) -> Builder<TrackedExecutor> {
    let mut builder = Builder::new(executor);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    builder
}

/// Who calls on one connection.
struct Caller {
    service: Arc<dyn PeerService>,
    channel: ChannelIdentity,
    admitted: Admitted,
    /// Cancelled by the first request.
    asked: CancellationToken,
    /// Cancelled when the connection is to end after the answers under way.
    end: CancellationToken,
}

/// A body in its room.
struct Roomed {
    bytes: Vec<u8>,
    _room: Room,
}

impl AsRef<[u8]> for Roomed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Caller {
    async fn handle(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        self.asked.cancel();
        match self.read(request).await {
            Ok((route, frame)) => self.answer(route, frame).await,
            Err(slug) => {
                self.service.turned_away(TurnedAway::Request(slug));
                refusal(slug.http_status(), slug.as_str())
            }
        }
    }

    /// The frame of a request, if it may be read at all.
    async fn read(&self, request: Request<Incoming>) -> Result<(Route, Bytes), Slug> {
        if !self.admitted.request() {
            return Err(Slug::RateLimited);
        }
        let route = Route::of(request.method().as_str(), request.uri().path()).ok_or(Slug::NotFound)?;
        let media_type = request.headers().get(header::CONTENT_TYPE);
        if media_type.is_none_or(|kind| kind.as_bytes() != FRAME_MEDIA_TYPE.as_bytes()) {
            return Err(Slug::UnsupportedMediaType);
        }
        let body = tokio::time::timeout(BODY_TIMEOUT, self.collect(request.into_body())).await;
        Ok((route, body.unwrap_or(Err(Slug::SlowBody))?))
    }

    /// A body, in room that grows with what has come of it: what is announced takes none. It keeps the room until nobody has
    /// the body any more, whether the caller still waits or not.
    async fn collect(&self, mut body: Incoming) -> Result<Bytes, Slug> {
        let announced = body.size_hint().exact().unwrap_or(FRAME_BYTES_MAX as u64);
        let limit = usize::try_from(announced).unwrap_or(usize::MAX);
        if limit > FRAME_BYTES_MAX {
            return Err(Slug::TooLarge);
        }
        let (mut bytes, mut room) = (Vec::new(), self.admitted.room());
        while let Some(part) = body.frame().await {
            let Ok(data) = part.map_err(|_| Slug::Malformed)?.into_data() else { continue };
            let length = bytes.len() + data.len();
            if length > limit {
                return Err(Slug::TooLarge);
            }
            if length > bytes.capacity() {
                let capacity = length.next_power_of_two().min(limit);
                if !room.grow_to(capacity) {
                    return Err(Slug::RateLimited);
                }
                bytes.reserve_exact(capacity - bytes.len());
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Bytes::from_owner(Roomed { bytes, _room: room }))
    }

    async fn answer(&self, route: Route, frame: Bytes) -> Response<AnswerBody> {
        let answer = self.service.call(&self.channel, route, frame).await;
        if answer.ends_connection() {
            self.end.cancel();
        }
        if answer.is_to_nobody() {
            self.admitted.unproven();
        }
        let Answer { status, frames, slug } = answer;
        match frames {
            Some(frames) => response(status_code(status), FRAME_MEDIA_TYPE, AnswerBody::new(frames)),
            None => refusal(status, slug),
        }
    }
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn refusal(status: u16, slug: &'static str) -> Response<AnswerBody> {
    let limit = if slug == Slug::TooLarge.as_str() {
        format!(",\"limit_bytes\":{FRAME_BYTES_MAX}")
    } else {
        String::new()
    };
    let body = format!("{{\"error\":\"{slug}\",\"message\":\"{status}\"{limit}}}");
    response(status_code(status), "application/json", AnswerBody::new(Frames::one(Bytes::from(body))))
}

fn response(status: StatusCode, media_type: &'static str, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    response
}

type NextFrame = Pin<Box<dyn Future<Output = (Frames, Option<Bytes>)> + Send>>;

/// Streams the frames of an answer.
struct AnswerBody {
    next: Option<NextFrame>,
}

impl AnswerBody {
    fn new(frames: Frames) -> Self {
        Self { next: Some(Box::pin(advance(frames))) }
    }
}

/// The next frame. A source that fails ends the body early, which the caller sees as a cut answer.
async fn advance(mut frames: Frames) -> (Frames, Option<Bytes>) {
    let frame = frames.next().await.and_then(Result::ok);
    (frames, frame)
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(next) = self.next.as_mut() else { return Poll::Ready(None) };
        match next.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready((_, None)) => {
                self.next = None;
                Poll::Ready(None)
            }
            Poll::Ready((frames, Some(frame))) => {
                self.next = (!frames.is_at_end()).then(|| -> NextFrame { Box::pin(advance(frames)) });
                Poll::Ready(Some(Ok(Frame::data(frame))))
            }
        }
    }

    /// The end goes out with the last frame wherever it is known by then: the caller waits for it.
    fn is_end_stream(&self) -> bool {
        self.next.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
