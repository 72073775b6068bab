//! The peer listener.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use federation_core::limits::FRAME_BYTES_MAX;
use federation_wire::frame::Route;
use federation_wire::slug::Slug;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{CONNECTION_WINDOW_BYTES, FRAME_MEDIA_TYPE, KEEP_ALIVE, STREAM_WINDOW_BYTES, TrackedExecutor};
use crate::transport::{Answer, Frames, PeerService};

/// Connections at one time: a few per node of the largest mesh, and no more for anybody else.
const CONNECTIONS_MAX: usize = 256;
/// Requests under way on one connection: the pages of both lanes, hellos, a pull.
const STREAMS_MAX: u32 = 32;
/// How long a request's body may take: a frame of the largest size at 1 MiB/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(8);
/// How long an HTTP/1.1 caller may take for its headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long requests under way may take to end once the server stops.
const DRAIN: Duration = Duration::from_secs(2);

/// Serves the peer routes on a listener until it is stopped.
#[derive(Debug)]
pub struct PeerServer {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl PeerServer {
    /// Starts serving `service` on `listener`.
    pub fn spawn(listener: TcpListener, service: Arc<dyn PeerService>) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let accept = Accept { service, stop: stop.clone(), tasks: tasks.clone() };
        tasks.spawn(accept.run(listener));
        Self { stop, tasks }
    }

    /// Stops accepting, lets requests under way end for a moment, and returns when every task has ended.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

struct Accept {
    service: Arc<dyn PeerService>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Accept {
    async fn run(self, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    // Over the limit the connection is closed at once: a peer backs off, nobody queues.
                    if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                        let (service, stop, tasks) =
                            (Arc::clone(&self.service), self.stop.clone(), self.tasks.clone());
                        self.tasks.spawn(async move {
                            serve(stream, service, stop, tasks).await;
                            drop(place);
                        });
                    }
                }
                // Out of descriptors, or the caller has gone: neither ends the listener.
                Err(error) => {
                    tracing::warn!(%error, "a peer connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    service: Arc<dyn PeerService>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let hard_stop = CancellationToken::new();
    let _guard = hard_stop.clone().drop_guard();
    let mut builder = Builder::new(TrackedExecutor::new(tasks, hard_stop));
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    let connection = builder.serve_connection(
        TokioIo::new(stream),
        service_fn(move |request| {
            let service = Arc::clone(&service);
            async move { Ok::<_, Infallible>(handle(service, request).await) }
        }),
    );
    tokio::pin!(connection);
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        _ = &mut connection => return,
    }
    connection.as_mut().graceful_shutdown();
    let _ended = tokio::time::timeout(DRAIN, connection).await;
}

async fn handle(service: Arc<dyn PeerService>, request: Request<Incoming>) -> Response<AnswerBody> {
    let Some(route) = Route::of(request.method().as_str(), request.uri().path()) else {
        return refusal(StatusCode::NOT_FOUND, Slug::NotFound.as_str());
    };
    let is_frame = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes() == FRAME_MEDIA_TYPE.as_bytes());
    if !is_frame {
        return refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, Slug::UnsupportedMediaType.as_str());
    }
    let too_large = |size: u64| size > FRAME_BYTES_MAX as u64;
    if request.body().size_hint().exact().is_some_and(too_large) {
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, Slug::TooLarge.as_str());
    }
    let body =
        tokio::time::timeout(BODY_TIMEOUT, Limited::new(request.into_body(), FRAME_BYTES_MAX).collect());
    let frame = match body.await {
        Err(_) => return refusal(StatusCode::REQUEST_TIMEOUT, Slug::SlowBody.as_str()),
        Ok(Err(_)) => return refusal(StatusCode::PAYLOAD_TOO_LARGE, Slug::TooLarge.as_str()),
        Ok(Ok(collected)) => collected.to_bytes(),
    };
    let Answer { status, frames, slug } = service.call(route, frame).await;
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match frames {
        Some(frames) => response(status, FRAME_MEDIA_TYPE, AnswerBody::new(frames)),
        None => refusal(status, slug),
    }
}

fn refusal(status: StatusCode, slug: &'static str) -> Response<AnswerBody> {
    let body =
        BytesMut::from(format!("{{\"error\":\"{slug}\",\"message\":\"{}\"}}", status.as_str()).as_str());
    response(status, "application/json", AnswerBody::new(Frames::one(body.freeze())))
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
