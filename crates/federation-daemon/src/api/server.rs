//! The client listener: accepts connections, serves the router on each, stops in order.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use federation_net::tls::ListenerTls;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::api::auth::{Access, ClientAddress, LastToken};
use crate::api::guard::PanicGuard;

/// How long a client may take to send a request's head; also how long an idle connection is kept.
const HEADER_READ_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a client's TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a request's head. A URL with a namespace of 512 characters, percent-encoded, takes 6 KiB.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Connections open at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4_096;
/// Wait after a failed accept (as with no file descriptor left), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The running client listener.
#[derive(Debug)]
pub struct ClientServer {
    task: JoinSet<usize>,
    stop: CancellationToken,
    local: SocketAddr,
}

impl ClientServer {
    /// Serves `router` on `listener`, within TLS if there is a certificate, until it is shut down. Must be called within
    /// a tokio runtime. Connections end when `access` no longer knows the token of their last request.
    ///
    /// `failed` is cancelled if a task of a request panics.
    pub fn spawn(
        listener: TcpListener,
        tls: Option<ListenerTls>,
        router: Router,
        access: Arc<Access>,
        grace: Duration,
        failed: CancellationToken,
    ) -> io::Result<Self> {
        let local = listener.local_addr()?;
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        let client = Client { address: local.ip(), router, access, guard: PanicGuard(failed) };
        task.spawn(accept(listener, tls, client, stop.clone(), grace));
        Ok(Self { task, stop, local })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Stops accepting, lets requests under way finish within the grace period, and says how many
    /// connections were cut.
    pub async fn shutdown(mut self) -> usize {
        self.stop.cancel();
        match self.task.join_next().await {
            Some(Ok(cut)) => cut,
            Some(Err(_)) | None => 0,
        }
    }

    /// Resolves if the accept loop ends by itself, which it must not.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn failed(&mut self) {
        if self.task.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<ListenerTls>,
    client: Client,
    stop: CancellationToken,
    grace: Duration,
) -> usize {
    let connections_max = connections_max();
    let mut connections = JoinSet::new();
    loop {
        let has_room = connections.len() < connections_max;
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if has_room => match accepted {
                Ok((stream, from)) => {
                    let _ = stream.set_nodelay(true);
                    let client = Client { address: from.ip(), ..client.clone() };
                    match &tls {
                        None => connections.spawn(serve(stream, client, stop.clone())),
                        Some(tls) => connections.spawn(serve_tls(stream, tls.config(), client, stop.clone())),
                    };
                }
                Err(error) => {
                    warn!(%error, "a client connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(grace, drained).await;
    connections.len()
}

/// How many connections may be open: never more than half of the files that the process may open, since the store
/// must not run out of them.
fn connections_max() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let half = files.map_or(CONNECTIONS_MAX, |files| usize::try_from(files / 2).unwrap_or(CONNECTIONS_MAX));
    half.clamp(1, CONNECTIONS_MAX)
}

/// One connection, and what it is served with.
#[derive(Clone)]
struct Client {
    address: IpAddr,
    router: Router,
    access: Arc<Access>,
    guard: PanicGuard,
}

async fn serve_tls(stream: TcpStream, config: Arc<ServerConfig>, client: Client, stop: CancellationToken) {
    let shaking = tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream));
    let shaken = tokio::select! {
        biased;
        () = stop.cancelled() => return,
        shaken = shaking => shaken,
    };
    match shaken {
        Ok(Ok(stream)) => serve(stream, client, stop).await,
        Ok(Err(error)) => debug!(%error, "a client's handshake failed"),
        Err(_) => debug!("a client's handshake was not finished in time"),
    }
}

async fn serve<S>(stream: S, client: Client, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Client { address, router, access, guard: _guard } = client;
    let router = TowerToHyperService::new(router);
    let last_token = LastToken::default();
    let last = last_token.clone();
    let addressed = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ClientAddress(address));
        request.extensions_mut().insert(last.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), addressed);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        biased;
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = access.revoked(&last_token) => {
            debug!("a client connection is cut: its token is revoked");
            return;
        }
        result = connection.as_mut() => result,
    };
    if let Err(error) = result {
        debug!(%error, "a client connection ended early");
    }
}
