//! From what was given to what holds. All faults are found before anything listens or is written.

use std::fs;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use federation_core::embedding::EmbeddingSpace;
use federation_core::id::NodeId;
use federation_core::limits::{EMBEDDING_DIM_MAX, EMBEDDING_MODEL_BYTES_MAX};
use federation_core::quorum::levels::{NamespaceLevel, WriteLevels};
use federation_core::quorum::policy::WriteLevel;
use federation_core::scope::Scope;
use federation_net::config::PeerEndpoint;
use federation_net::tls::ListenerTls;
use federation_wire::identity::Directory;
use federation_wire::keys::OwnKeys;
use tokio::net::TcpSocket;

use crate::config::raw::{RawConfig, ScopeText, defaults};
use crate::config::tls::{PeerListener, PeerTlsSettings};
use crate::config::{ClientAccess, Fault, Faults, clients, data_dir, peers, tls};
use crate::enrolment::{EnrolError, key_file};
use crate::files::is_within;

/// Everything that `serve` was given.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Settings by flag.
    pub flags: RawConfig,
    /// `--config`.
    pub config_file: Option<PathBuf>,
    /// `--new-mesh`.
    pub new_mesh: bool,
    /// `FEDERATION_NODE_ID`.
    pub node_id_env: Option<String>,
    /// This machine's name.
    pub hostname: String,
}

/// Settings that hold.
#[derive(Debug)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// Its keys.
    pub keys: OwnKeys,
    /// Where clients reach it, as given.
    pub listen: SocketAddr,
    /// Where peers reach it, as given.
    pub peer_listen: SocketAddr,
    /// Who is enrolled.
    pub directory: Directory,
    /// The peers that are dialled.
    pub peers: Vec<PeerEndpoint>,
    /// What the client listener shows; nothing if it speaks plain HTTP.
    pub client_tls: Option<ListenerTls>,
    /// What the peer listener speaks, and by what this node proves itself.
    pub peer_tls: PeerTlsSettings,
    /// What it keeps.
    pub replica_scope: Scope,
    /// How many nodes must hold a write.
    pub write_levels: WriteLevels,
    /// How long a write waits for them.
    pub ack_timeout: Duration,
    /// How often each peer is asked for what was missed.
    pub catchup_interval: Option<Duration>,
    /// Where the durable state is.
    pub data_dir: PathBuf,
    /// Whether this is the first start of a new mesh.
    pub new_mesh: bool,
    /// How long a stop waits for requests under way.
    pub shutdown_grace: Duration,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// Client requests served at once.
    pub requests_max: usize,
    /// Who is let in as a client, and how often.
    pub clients: ClientAccess,
    /// The space whose vectors are indexed, if any are.
    pub embedding_space: Option<EmbeddingSpace>,
}

/// A start without faults: settings that hold, and addresses that are this process's own.
#[derive(Debug)]
pub struct Start {
    /// The settings.
    pub config: Config,
    /// The addresses.
    pub sockets: Sockets,
}

/// Addresses that are bound and do not listen yet: nobody can connect before the node is there.
#[derive(Debug)]
pub struct Sockets {
    /// For clients.
    pub clients: TcpSocket,
    /// For peers.
    pub peers: TcpSocket,
}

impl TryFrom<&Given> for Start {
    type Error = Faults;

    fn try_from(given: &Given) -> Result<Self, Faults> {
        let (mut faults, found) = Found::new(given);
        if let Err(problem) = data_dir::check(&found.data_dir, given.new_mesh) {
            faults.push(Fault::DataDir { path: found.data_dir.clone(), problem });
        }
        let sockets = bind_both(found.listen, found.peer_listen, &mut faults);
        match (found.config, sockets) {
            (Some(config), Some(sockets)) if faults.is_empty() => Ok(Self { config, sockets }),
            _ => Err(Faults(faults)),
        }
    }
}

impl Config {
    /// The settings as they are now, for a node that runs: its addresses and its data directory are its own.
    ///
    /// # Errors
    /// Every fault.
    pub fn read(given: &Given) -> Result<Self, Faults> {
        let (faults, found) = Found::new(given);
        found.config.filter(|_| faults.is_empty()).ok_or(Faults(faults))
    }
}

/// What was found, with faults or without.
struct Found {
    /// None if there are faults.
    config: Option<Config>,
    listen: Option<SocketAddr>,
    peer_listen: Option<SocketAddr>,
    data_dir: PathBuf,
}

impl Found {
    fn new(given: &Given) -> (Vec<Fault>, Self) {
        let mut faults = Vec::new();
        let raw = given.flags.clone().over(read_config_file(given.config_file.as_deref(), &mut faults));
        let node = take(&mut faults, node_id(given, &raw));
        let data_dir = raw.data_dir.clone().unwrap_or_else(|| defaults::data_dir.into());
        let keys = take(&mut faults, keys(&raw, &data_dir));
        let client_tls = tls::of_clients(&raw, &mut faults);
        let peer_tls = tls::of_peers(&raw, &mut faults);
        let listen = Listen::clients(&raw).address(&mut faults);
        let peer_listen = Listen::peers(&raw, peer_tls.listener).address(&mut faults);
        let own = peers::Own { id: node.as_ref(), keys: keys.as_ref(), address: peer_listen };
        let picked = peers::pick(&raw, &own, &mut faults);
        if let Some(directory) = &picked.directory {
            tls::check_bound(&raw, directory, picked.endpoints.iter().map(|peer| &peer.id), &mut faults);
        }
        let write_levels = write_levels(&raw, picked.n, &mut faults);
        let replica_scope = take(&mut faults, replica_scope(&raw)).unwrap_or_default();
        let times = Times::read(&raw, &mut faults);
        let requests_max = requests_max(&raw, &mut faults);
        let clients = clients::read(&raw, &data_dir, &mut faults);
        let embedding_space = embedding_space(&raw, &mut faults);
        let parts = (node, keys, picked.directory, write_levels, listen, peer_listen);
        let config = match parts {
            (
                Some(node),
                Some(keys),
                Some(directory),
                Some(write_levels),
                Some(client_address),
                Some(peer_address),
            ) => Some(Config {
                node,
                keys,
                listen: client_address,
                peer_listen: peer_address,
                directory,
                peers: picked.endpoints,
                client_tls,
                peer_tls,
                replica_scope,
                write_levels,
                ack_timeout: times.ack,
                catchup_interval: (!times.catchup.is_zero()).then_some(times.catchup),
                data_dir: data_dir.clone(),
                new_mesh: given.new_mesh,
                shutdown_grace: times.grace,
                body_timeout: times.body,
                requests_max,
                clients,
                embedding_space,
            }),
            _ => None,
        };
        (faults, Self { config, listen, peer_listen, data_dir })
    }
}

/// The node's id by flag, environment, config file, or the machine's name.
pub fn node_id(given: &Given, raw: &RawConfig) -> Result<NodeId, Fault> {
    let by_host = || (format!("host-{}", given.hostname), "the machine's name");
    let (id, from) = match (&given.flags.node_id, &given.node_id_env, &raw.node_id) {
        (Some(id), _, _) => (id.clone(), "--node-id"),
        (None, Some(id), _) => (id.clone(), "FEDERATION_NODE_ID"),
        (None, None, Some(id)) => (id.clone(), "the config file"),
        (None, None, None) => by_host(),
    };
    NodeId::new(&id).map_err(|fault| Fault::NodeId { id, from, fault })
}

/// The settings of the config file; none are there if it is faulty, and the fault is noted.
pub fn read_config_file(path: Option<&Path>, faults: &mut Vec<Fault>) -> RawConfig {
    let Some(path) = path else { return RawConfig::default() };
    let read = fs::read_to_string(path)
        .map_err(|source| Fault::ConfigUnreadable { path: path.to_owned(), source })
        .and_then(|text| {
            toml::from_str(&text).map_err(|error| Fault::ConfigForm {
                path: path.to_owned(),
                message: error.to_string().trim_end().to_owned(),
            })
        });
    take(faults, read).unwrap_or_default()
}

fn keys(raw: &RawConfig, data_dir: &Path) -> Result<OwnKeys, Fault> {
    let path = raw.key_file.clone().unwrap_or_else(|| defaults::key_file.into());
    if is_within(&path, data_dir) {
        return Err(EnrolError::KeyInDataDir { path, data_dir: data_dir.to_owned() }.into());
    }
    Ok(key_file::read(&path)?)
}

/// Where something listens.
struct Listen<'a> {
    setting: &'static str,
    text: &'a str,
    /// Whether it may be off loopback.
    is_tls: bool,
    /// What makes it so.
    cure: &'static str,
}

impl<'a> Listen<'a> {
    fn clients(raw: &'a RawConfig) -> Self {
        Self {
            setting: "listen",
            text: raw.listen.as_deref().unwrap_or(defaults::listen),
            // Faulty files are a fault of their own.
            is_tls: raw.tls_cert.is_some() && raw.tls_key.is_some(),
            cure: "give it a certificate with tls_cert and tls_key",
        }
    }

    fn peers(raw: &'a RawConfig, listener: PeerListener) -> Self {
        Self {
            setting: "peer_listen",
            text: raw.peer_listen.as_deref().unwrap_or(defaults::peer_listen),
            is_tls: listener == PeerListener::Tls,
            cure: "leave peer_tls on",
        }
    }

    fn address(self, faults: &mut Vec<Fault>) -> Option<SocketAddr> {
        let Self { setting, text, is_tls, cure } = self;
        let parsed = text.parse().map_err(|_| Fault::Address { setting, text: text.to_owned() });
        let address: SocketAddr = take(faults, parsed)?;
        if is_tls || address.ip().is_loopback() {
            return Some(address);
        }
        faults.push(Fault::NotLoopback { setting, address, cure });
        None
    }
}

fn write_levels(raw: &RawConfig, n: usize, faults: &mut Vec<Fault>) -> Option<WriteLevels> {
    let text = raw.quorum_writes.as_ref().map_or(defaults::quorum_writes, |level| level.0.as_str());
    let default = text.parse().map_err(|fault| Fault::Level { text: text.to_owned(), fault });
    let default = fitting("quorum_writes", text, n, take(faults, default), faults);
    let mut by_namespace = Vec::new();
    for text in raw.quorum_writes_in.iter().flat_map(|list| &list.0) {
        let named = text.parse().map_err(|fault| Fault::NamespaceLevel { text: text.clone(), fault });
        let Some(NamespaceLevel { scope, level }) = take(faults, named) else { continue };
        by_namespace
            .extend(fitting("quorum_writes_in", text, n, Some(level), faults).map(|level| (scope, level)));
    }
    Some(WriteLevels { default: default?, by_namespace })
}

/// The level, if `n` nodes can supply it.
fn fitting(
    setting: &'static str,
    text: &str,
    n: usize,
    level: Option<WriteLevel>,
    faults: &mut Vec<Fault>,
) -> Option<WriteLevel> {
    let fits = level?.resolve(n).map_err(|fault| Fault::Quorum { setting, level: text.to_owned(), n, fault });
    take(faults, fits).and(level)
}

fn replica_scope(raw: &RawConfig) -> Result<Scope, Fault> {
    let globs =
        raw.replica_scope.clone().unwrap_or_else(|| ScopeText(vec![defaults::replica_scope.to_owned()])).0;
    Scope::parse(globs.iter().map(String::as_str)).map_err(Fault::ReplicaScope)
}

/// The settings that are times.
struct Times {
    ack: Duration,
    catchup: Duration,
    grace: Duration,
    body: Duration,
}

impl Times {
    fn read(raw: &RawConfig, faults: &mut Vec<Fault>) -> Self {
        const TEN_MINUTES_MS: u64 = 600_000;
        const DAY_SECS: u64 = 86_400;
        let mut number =
            |setting, given: Option<u64>, default, range| number(setting, given, default, range, faults);
        let timeout = number(
            "quorum_timeout_ms",
            raw.quorum_timeout_ms,
            defaults::quorum_timeout_ms,
            1..=TEN_MINUTES_MS,
        );
        let catchup = number(
            "catchup_interval_secs",
            raw.catchup_interval_secs,
            defaults::catchup_interval_secs,
            0..=DAY_SECS,
        );
        let grace = number(
            "shutdown_grace_ms",
            raw.shutdown_grace_ms,
            defaults::shutdown_grace_ms,
            0..=TEN_MINUTES_MS,
        );
        let body =
            number("body_timeout_ms", raw.body_timeout_ms, defaults::body_timeout_ms, 1..=TEN_MINUTES_MS);
        Self {
            ack: Duration::from_millis(timeout),
            catchup: Duration::from_secs(catchup),
            grace: Duration::from_millis(grace),
            body: Duration::from_millis(body),
        }
    }
}

fn embedding_space(raw: &RawConfig, faults: &mut Vec<Fault>) -> Option<EmbeddingSpace> {
    let half = |given, missing| Fault::HalfASpace { given, missing };
    let (model, dim) = match (&raw.embedding_model, raw.embedding_dim) {
        (None, None) => return None,
        (Some(model), Some(dim)) => (model, dim),
        (Some(_), None) => {
            faults.push(half("embedding_model", "embedding_dim"));
            return None;
        }
        (None, Some(_)) => {
            faults.push(half("embedding_dim", "embedding_model"));
            return None;
        }
    };
    let (bytes, limit_bytes) = (model.len(), EMBEDDING_MODEL_BYTES_MAX);
    if bytes == 0 || bytes > limit_bytes {
        faults.push(Fault::ModelName { bytes, limit_bytes });
    }
    let dim = number("embedding_dim", Some(dim), "", 1..=EMBEDDING_DIM_MAX as u64, faults);
    Some(EmbeddingSpace { model: model.as_str().into(), dim: usize::try_from(dim).ok()? })
}

fn requests_max(raw: &RawConfig, faults: &mut Vec<Fault>) -> usize {
    let max = number("requests_max", raw.requests_max, defaults::requests_max, 1..=65_536, faults);
    usize::try_from(max).unwrap_or(usize::MAX)
}

pub(super) fn number(
    setting: &'static str,
    given: Option<u64>,
    default: &str,
    range: RangeInclusive<u64>,
    faults: &mut Vec<Fault>,
) -> u64 {
    let value = given.unwrap_or_else(|| default.parse().unwrap_or_default());
    if !range.contains(&value) {
        faults.push(Fault::Range { setting, value, min: *range.start(), max: *range.end() });
    }
    value
}

fn bind_both(
    listen: Option<SocketAddr>,
    peer_listen: Option<SocketAddr>,
    faults: &mut Vec<Fault>,
) -> Option<Sockets> {
    let clients = listen.and_then(|address| take(faults, bind("listen", address)));
    let peers = peer_listen.and_then(|address| {
        // Both would bind and only one could listen.
        if address.port() != 0 && Some(address) == listen {
            let source = std::io::Error::from(std::io::ErrorKind::AddrInUse);
            faults.push(Fault::Port { setting: "peer_listen", address, source });
            return None;
        }
        take(faults, bind("peer_listen", address))
    });
    Some(Sockets { clients: clients?, peers: peers? })
}

fn bind(setting: &'static str, address: SocketAddr) -> Result<TcpSocket, Fault> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // Else a restart would wait for the connections of the last run to time out.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(socket)
    };
    bound().map_err(|source| Fault::Port { setting, address, source })
}

pub(super) fn take<T>(faults: &mut Vec<Fault>, result: Result<T, Fault>) -> Option<T> {
    result.map_err(|fault| faults.push(fault)).ok()
}
