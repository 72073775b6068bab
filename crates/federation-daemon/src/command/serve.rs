//! `federationd serve`: one node.

use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use federation_core::id::NodeId;
use federation_core::port::clock::WallClock as _;
use federation_core::port::store::{OpenIds, StoreError};
use federation_net::config::NodeConfig;
use federation_net::enrolled::Enrolled;
use federation_net::http::ListenerLimits;
use federation_net::http::client::HttpTransport;
use federation_net::http::server::{PeerSecurity, PeerServer};
use federation_net::node::{Node, Ports};
use federation_net::signing_keys::SigningKeys;
use federation_net::tls::PeerTls;
use federation_store::{Options, RealDisk, Setup, SledIndexes, StoreHandle};
use federation_wire::keys::NodeKey;
use federation_wire::memory::KindRules;
use indicatif::ProgressBar;
use rand::Rng as _;
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::api::auth::Access;
use crate::api::{ApiState, ClientServer, RequestLimits, router};
use crate::clock::SystemClock;
use crate::config::tls::{PeerListener, PeerTlsSettings};
use crate::config::{Config, DataDirProblem, Fault, Faults, Given, RawConfig, Sockets, Start};
use crate::metrics::Meters;
use crate::random;
use crate::reload::{Reached, Reloader, Started, credentials};
use crate::signal::{Hangup, Stop};
use crate::telemetry::{self, LogFormat};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;
/// How often the log tells how far the index is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// The environment variable of the node id.
const NODE_ID_ENV: &str = "FEDERATION_NODE_ID";

/// Options of `serve`.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// The settings.
    #[command(flatten)]
    pub settings: RawConfig,
    /// Config file (TOML), with the same settings; must exist when named.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// The first start of a new mesh, where there is nothing to recover; refused on a directory with data.
    #[arg(long)]
    pub new_mesh: bool,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t, help = "How log lines look; FEDERATION_LOG filters them")]
    pub log_format: LogFormat,
    /// End when standard input closes: for supervisors.
    #[arg(long, hide = true)]
    pub exit_with_parent: bool,
}

/// Why `serve` ended other than by a request to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It did not start.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// It was told to have a bug that there is not.
    #[cfg(feature = "planted-bugs")]
    #[error(transparent)]
    UnknownDefect(#[from] crate::planted::UnknownDefect),
    /// It could not begin to listen, or to receive signals.
    #[error("{what}")]
    System {
        /// What could not be done.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A part of it ended that must not: a bug. What was acknowledged is durable.
    #[error("{0} ended by itself, so the node stops")]
    PartFailed(&'static str),
    /// The store did not close in order.
    #[error("the store did not close in order")]
    Close(#[source] StoreError),
    /// A second signal came while it was stopping.
    #[error("stopped at once by a second signal")]
    Forced,
}

type Store = StoreHandle<RealDisk, SledIndexes>;

/// Runs a node until it is asked to stop.
pub async fn run(args: ServeArgs) -> Result<(), ServeError> {
    telemetry::init(args.log_format);
    #[cfg(feature = "planted-bugs")]
    crate::planted::plant_from_environment()?;
    let mut stop = Stop::listen().map_err(|source| system("signals cannot be received", source))?;
    let hangup = Hangup::listen().map_err(|source| system("signals cannot be received", source))?;
    raise_file_limit();
    let parent_gone = args.exit_with_parent.then(watch_parent);
    let given = given(args);
    let start = Start::try_from(&given)?;
    let (mut running, store_failed) = Running::start(start, given)?;
    let request_failed = running.api.failed.clone();
    let reloads = reload_on_request(hangup, Arc::clone(&running.api.reloader));
    let result = tokio::select! {
        biased;
        () = stop.requested() => Ok(()),
        () = gone(parent_gone) => Ok(()),
        () = reloads => Ok(()),
        part = store_failed => Err(ServeError::PartFailed(part.unwrap_or("the store"))),
        part = running.node.failed() => Err(ServeError::PartFailed(part)),
        () = request_failed.cancelled() => Err(ServeError::PartFailed("a client's request")),
        () = running.clients.failed() => Err(ServeError::PartFailed("the client listener")),
    };
    info!("stopping");
    let stopped = tokio::select! {
        biased;
        stopped = running.stop() => stopped,
        () = stop.requested() => Err(ServeError::Forced),
    };
    result.and(stopped)
}

/// Takes in changed settings at each SIGHUP, for ever. What comes of it stands in the log.
async fn reload_on_request(mut hangup: Hangup, reloader: Arc<Reloader>) {
    loop {
        hangup.requested().await;
        let reloader = Arc::clone(&reloader);
        // It reads files. What went wrong is told already, and changes nothing.
        let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
    }
}

/// Everything that was given on the command line, by the environment and by the machine.
fn given(args: ServeArgs) -> Given {
    Given {
        flags: args.settings,
        config_file: args.config,
        new_mesh: args.new_mesh,
        node_id_env: node_id_env(),
        hostname: hostname(),
    }
}

/// `FEDERATION_NODE_ID`, if it is set.
pub fn node_id_env() -> Option<String> {
    std::env::var_os(NODE_ID_ENV).map(|id| id.to_string_lossy().into_owned())
}

/// This machine's name.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The parts of a running node, in the order in which they stop.
struct Running {
    clients: ClientServer,
    api: ApiState,
    peers: Arc<PeerServer>,
    node: Node,
    transport: Arc<HttpTransport>,
    store: Arc<Store>,
    grace: Duration,
}

impl Running {
    fn start(start: Start, given: Given) -> Result<(Self, oneshot::Receiver<&'static str>), ServeError> {
        let Start { config, sockets } = start;
        let started = Started::with(&config);
        let Config { node: id, keys, directory, .. } = config;
        let key = Arc::clone(keys.active());
        let keys = SigningKeys::new(keys);
        let boot = random::boot_id();
        let wall = Arc::new(SystemClock);
        let (tell_failed, store_failed) = oneshot::channel();
        let ids = OpenIds {
            boot,
            store_random: random::system_rng().next_u64(),
            now: wall.now(),
            new_mesh: config.new_mesh,
        };
        let setup = Setup {
            ids,
            node: id.clone(),
            replica_scope: config.replica_scope.clone(),
            sealer: Arc::new(keys.clone()),
            clock: Arc::clone(&wall) as _,
            embedding_space: config.embedding_space.clone(),
            options: Options::default(),
        };
        let store = open_store(&config.data_dir, setup, tell_failed)
            .map_err(|problem| Faults(vec![Fault::DataDir { path: config.data_dir.clone(), problem }]))?;
        let store = Arc::new(store);
        let enrolled = Enrolled::new(directory);
        let (peer_tls, security) = peer_security(&id, &key, enrolled.clone(), config.peer_tls)?;
        let transport = Arc::new(HttpTransport::new(peer_tls.clone()));
        let node_config = NodeConfig {
            write_levels: config.write_levels,
            ack_timeout: config.ack_timeout,
            catchup_interval: config.catchup_interval,
            ..NodeConfig::new(id, config.peers)
        };
        let ports = Ports {
            store: Arc::clone(&store) as _,
            keys: keys.clone(),
            enrolled,
            rules: Arc::new(KindRules),
            wall: Arc::clone(&wall) as _,
            transport: Arc::clone(&transport) as _,
            boot,
            seed: random::system_rng().next_u64(),
        };
        let Sockets { clients, peers } = sockets;
        let clients =
            clients.listen(BACKLOG).map_err(|e| system("the client address cannot be listened on", e))?;
        let peers = peers.listen(BACKLOG).map_err(|e| system("the peer address cannot be listened on", e))?;
        let peer_address = peers.local_addr().map_err(|e| system("the peer address is not known", e))?;
        let node = Node::start(node_config, ports).map_err(|fault| Faults(vec![fault.into()]))?;
        let limits = ListenerLimits::default();
        let peers = Arc::new(PeerServer::spawn(peers, security, limits, Arc::new(node.clone())));
        let access = Arc::new(Access::new(config.clients, Arc::clone(&wall) as _));
        tell_access(&access);
        let meters = Arc::new(Meters::new(node.clone(), store.metrics(), Arc::clone(&access)));
        let reached = Reached {
            node: node.clone(),
            keys,
            peer_tls,
            client_tls: config.client_tls.clone(),
            access: Arc::clone(&access),
            transport: Arc::clone(&transport),
            peers: Arc::clone(&peers),
        };
        let api = ApiState::new(
            node.clone(),
            Arc::clone(&store) as _,
            wall,
            Arc::clone(&access),
            meters,
            Arc::new(Reloader::new(given, started, reached)),
            RequestLimits { requests_max: config.requests_max, body_deadline: config.body_timeout },
        )
        .indexing(config.embedding_space);
        let grace = config.shutdown_grace;
        let (routes, failed) = (router(api.clone()), api.failed.clone());
        let clients = ClientServer::spawn(clients, config.client_tls, routes, access, grace, failed)
            .map_err(|e| system("the client address is not known", e))?;
        let status = node.status();
        info!(
            node = %status.node, boot = %status.boot, store = %status.store, n = status.n, w = status.w,
            clients = %clients.local_addr(), peers = %peer_address, "serving"
        );
        if status.n == 1 {
            warn!("no peers: every write is on this node alone");
        }
        Ok((Self { clients, api, peers, node, transport, store, grace }, store_failed))
    }

    /// Stops in order: clients first, so that what they were promised is still sent to the peers.
    async fn stop(self) -> Result<(), ServeError> {
        let cut = self.clients.shutdown().await;
        self.api.tasks.close();
        let bulk = tokio::time::timeout(self.grace, self.api.tasks.wait()).await;
        if cut > 0 || bulk.is_err() {
            warn!(connections = cut, bulk_under_way = self.api.tasks.len(), "client requests were cut");
        }
        self.peers.shutdown().await;
        self.node.shutdown(self.grace).await;
        self.transport.shutdown().await;
        drop((self.api, self.node, self.transport));
        if let Some(store) = sole_owner(self.store, self.grace).await {
            store.close().map_err(ServeError::Close)?;
        } else {
            // Whoever still has it closes it by dropping it; a request that was cut, for instance.
            warn!(
                "the store is still in use and closes with the process, or is found cut off at the next start"
            );
        }
        info!("stopped");
        Ok(())
    }
}

/// TLS for the connections to peers, and what their own go to.
fn peer_security(
    id: &NodeId,
    key: &Arc<NodeKey>,
    enrolled: Enrolled,
    mut settings: PeerTlsSettings,
) -> Result<(PeerTls, PeerSecurity), Faults> {
    let credentials = credentials(id, key, &mut settings)?;
    let tls = PeerTls::new(enrolled, credentials).map_err(|error| Faults(vec![error.into()]))?;
    let security = match settings.listener {
        PeerListener::Tls => PeerSecurity::Tls(tls.clone()),
        PeerListener::Plain => PeerSecurity::Plain,
    };
    Ok((tls, security))
}

/// Says who is let in, where that is everybody or nobody.
fn tell_access(access: &Access) {
    match access.tokens().map(|tokens| tokens.is_empty()) {
        None => warn!("no client tokens: whoever reaches the client address may read and write everything"),
        Some(true) => warn!("the tokens file has no token: no client is let in"),
        Some(false) => {}
    }
}

/// The store, once nobody else has it: a callback of its last commit may for a moment.
async fn sole_owner(mut store: Arc<Store>, patience: Duration) -> Option<Store> {
    let deadline = Instant::now() + patience;
    loop {
        store = match Arc::try_unwrap(store) {
            Ok(store) => return Some(store),
            Err(_) if Instant::now() >= deadline => return None,
            Err(shared) => shared,
        };
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn open_store(
    data_dir: &std::path::Path,
    setup: Setup,
    tell_failed: oneshot::Sender<&'static str>,
) -> Result<Store, DataDirProblem> {
    // For a person at a terminal; elsewhere it draws nothing, and the log tells.
    let bar = ProgressBar::new(0);
    let mut told_at = Instant::now();
    let mut progress = |done: u64, all: u64| {
        bar.set_length(all);
        bar.set_position(done);
        if told_at.elapsed() >= PROGRESS_EVERY {
            told_at = Instant::now();
            info!(done_bytes = done, all_bytes = all, "bringing the index up to the log");
        }
    };
    let failed = Box::new(move |part| {
        // The receiver is gone only when the node is stopping anyway.
        let _ = tell_failed.send(part);
    });
    let (store, report) = StoreHandle::open(data_dir, setup, &mut progress, failed)?;
    bar.finish_and_clear();
    info!(
        store = %report.store, is_new = report.is_new, ended_in_order = report.ended_in_order, recovered_to = report.recovered_to,
        torn_bytes = report.torn_bytes, replayed_ops = report.replayed_ops, rebuilt = ?report.rebuilt,
        "the store is open"
    );
    Ok(store)
}

/// Lets the process open as many files as the system allows it: connections and segments are files.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it is not allowed the old limit holds, and the number of connections follows it.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Resolves when standard input closes, which it does however the parent ends.
fn watch_parent() -> oneshot::Receiver<()> {
    let (tell, gone) = oneshot::channel();
    // A thread of its own: a blocking read on the runtime's pool would hold up the end of the process.
    std::thread::spawn(move || {
        let mut byte = [0];
        while matches!(io::stdin().read(&mut byte), Ok(1)) {}
        let _ = tell.send(());
    });
    gone
}

async fn gone(parent: Option<oneshot::Receiver<()>>) {
    match parent {
        Some(parent) => drop(parent.await),
        None => std::future::pending().await,
    }
}

fn system(what: &'static str, source: io::Error) -> ServeError {
    ServeError::System { what, source }
}
