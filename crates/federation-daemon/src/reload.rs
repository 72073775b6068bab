//! Settings that change while the node runs: peers, keys, scopes, quorum, tokens, certificates. All of them, or none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use federation_core::id::NodeId;
use federation_net::Changes;
use federation_net::config::Membership;
use federation_net::http::client::HttpTransport;
use federation_net::http::server::PeerServer;
use federation_net::node::Node;
use federation_net::signing_keys::SigningKeys;
use federation_net::tls::{Credentials, ListenerTls, PeerTls};
use federation_wire::api::reload::ReloadReport;
use federation_wire::keys::{NodeKey, OwnKeys};
use tracing::{error, info, warn};

use crate::api::auth::Access;
use crate::config::tls::PeerTlsSettings;
use crate::config::{Config, Fault, Faults, Given};

/// Takes in settings that have changed since the node started. One per node.
pub struct Reloader {
    given: Given,
    started: Fixed,
    node: Node,
    keys: SigningKeys,
    peer_tls: PeerTls,
    client_tls: Option<ListenerTls>,
    access: Arc<Access>,
    transport: Arc<HttpTransport>,
    peers: Arc<PeerServer>,
    /// Held while settings are taken in, with those that are in force.
    in_force: Mutex<InForce>,
}

/// The parts of a running node that a reload reaches.
pub struct Reached {
    /// The node.
    pub node: Node,
    /// What it signs with.
    pub keys: SigningKeys,
    /// What it shows its peers.
    pub peer_tls: PeerTls,
    /// What it shows its clients.
    pub client_tls: Option<ListenerTls>,
    /// Who is let in as a client.
    pub access: Arc<Access>,
    /// Its connections to peers.
    pub transport: Arc<HttpTransport>,
    /// Its peers' connections to it.
    pub peers: Arc<PeerServer>,
}

/// What of the settings a running node cannot take in, as text, each with its name.
type Fixed = Vec<(&'static str, String)>;

/// The settings that a node was started with, as far as a reload asks for them.
pub struct Started {
    fixed: Fixed,
    keys: OwnKeys,
}

impl Started {
    /// These.
    pub fn with(config: &Config) -> Self {
        Self { fixed: fixed(config), keys: config.keys.clone() }
    }
}

/// What is in force and cannot be asked for elsewhere.
struct InForce {
    keys: OwnKeys,
}

/// What was read, ready to be taken in.
struct Fresh {
    config: Config,
    credentials: Credentials,
}

impl Reloader {
    /// Reads what was `given` again at each reload, and compares it with the settings that the node was started with.
    pub fn new(given: Given, started: Started, reached: Reached) -> Self {
        let Reached { node, keys, peer_tls, client_tls, access, transport, peers } = reached;
        let in_force = Mutex::new(InForce { keys: started.keys });
        let started = started.fixed;
        Self { given, started, node, keys, peer_tls, client_tls, access, transport, peers, in_force }
    }

    /// Takes in the settings as they are now. Reads files: not for a task of the runtime.
    ///
    /// # Errors
    /// Every fault; nothing is changed then.
    pub fn reload(&self) -> Result<ReloadReport, Faults> {
        let taken_in = self.take_in();
        match &taken_in {
            Ok(report) if report.is_unchanged() => info!("reloaded: nothing has changed"),
            Ok(report) => info!(?report, "reloaded"),
            Err(faults) => {
                for fault in &faults.0 {
                    error!(%fault, "not reloaded: nothing is changed");
                }
            }
        }
        taken_in
    }

    /// What [`Reloader::reload`] would change now.
    ///
    /// # Errors
    /// Every fault that it would find.
    pub fn preview(&self) -> Result<ReloadReport, Faults> {
        let in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = self.read()?;
        let changes =
            self.node.preview(&membership(&fresh.config)).map_err(|fault| Faults(vec![fault.into()]))?;
        Ok(self.report(&in_force, &fresh, &changes))
    }

    fn take_in(&self) -> Result<ReloadReport, Faults> {
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = self.read()?;
        let one = |fault: Fault| Faults(vec![fault]);
        let membership = membership(&fresh.config);
        // All that may fail comes first.
        let changes = self.node.preview(&membership).map_err(|fault| one(fault.into()))?;
        let report = self.report(&in_force, &fresh, &changes);
        let Fresh { config, credentials } = fresh;
        self.peer_tls.replace(credentials).map_err(|fault| one(fault.into()))?;
        self.node.reload(membership).map_err(|fault| one(fault.into()))?;
        self.keys.replace(config.keys.clone());
        if let (Some(running), Some(fresh)) = (&self.client_tls, &config.client_tls) {
            running.adopt(fresh);
        }
        if let Some(tokens) = config.clients.tokens {
            self.access.replace_tokens(tokens);
        }
        let mut cut: BTreeMap<NodeId, usize> = BTreeMap::new();
        for node in self.transport.close_unproven().into_iter().chain(self.peers.close_unproven()) {
            *cut.entry(node).or_default() += 1;
        }
        for (node, connections) in cut {
            warn!(%node, connections, "a peer's connections are cut: it may not prove itself by what it did");
        }
        in_force.keys = config.keys;
        Ok(report)
    }

    fn read(&self) -> Result<Fresh, Faults> {
        let mut config = Config::read(&self.given)?;
        let changed = fixed(&config).into_iter().zip(&self.started).filter(|(now, then)| now != *then);
        let faults: Vec<_> = changed.map(|((setting, _), _)| Fault::NeedsRestart { setting }).collect();
        if !faults.is_empty() {
            return Err(Faults(faults));
        }
        let credentials = credentials(&config.node, config.keys.active(), &mut config.peer_tls)?;
        Ok(Fresh { config, credentials })
    }

    fn report(&self, in_force: &InForce, fresh: &Fresh, changes: &Changes) -> ReloadReport {
        let Fresh { config, credentials } = fresh;
        let names = |nodes: &[NodeId]| nodes.iter().map(ToString::to_string).collect();
        let (n, w) = changes.quorum;
        let key = config.keys.active().id();
        let (tokens_added, tokens_removed) = self.access.difference(config.clients.tokens.as_ref());
        ReloadReport {
            joined: names(&changes.joined),
            left: names(&changes.left),
            moved: names(&changes.moved),
            changed: names(&changes.changed),
            n,
            w,
            quorum_changed: changes.levels || changes.quorum != changes.quorum_before,
            peer_tls_changed: self.peer_tls.differs_from(credentials),
            client_tls_changed: self
                .client_tls
                .as_ref()
                .zip(config.client_tls.as_ref())
                .is_some_and(|(running, fresh)| running.differs_from(fresh)),
            own_key: (key != in_force.keys.active().id()).then(|| key.to_string()),
            own_revoked: config.keys.newly_revoked(&in_force.keys).map(|id| id.to_string()).collect(),
            tokens_added,
            tokens_removed,
        }
    }
}

/// What this node proves itself by: an operator's certificate, or one made of its node key.
///
/// # Errors
/// If none can be made.
pub fn credentials(
    node: &NodeId,
    key: &Arc<NodeKey>,
    settings: &mut PeerTlsSettings,
) -> Result<Credentials, Faults> {
    match settings.pki.take() {
        Some(pki) => Ok(pki),
        None => Credentials::of_node_key(node, key).map_err(|error| Faults(vec![error.into()])),
    }
}

fn membership(config: &Config) -> Membership {
    Membership {
        directory: config.directory.clone(),
        peers: config.peers.clone(),
        write_levels: config.write_levels.clone(),
    }
}

fn fixed(config: &Config) -> Fixed {
    let presence = |is_there: bool| if is_there { "there" } else { "missing" }.to_owned();
    let clients = &config.clients;
    vec![
        ("node_id", config.node.to_string()),
        ("data_dir", config.data_dir.display().to_string()),
        ("listen", config.listen.to_string()),
        ("peer_listen", config.peer_listen.to_string()),
        ("peer_tls", format!("{:?}", config.peer_tls.listener)),
        ("peer_tls_cert", presence(config.peer_tls.pki.is_some())),
        ("tls_cert", presence(config.client_tls.is_some())),
        ("tokens_file", presence(clients.tokens.is_some())),
        ("token_requests_per_sec", clients.token_rate.to_string()),
        ("address_requests_per_sec", clients.address_rate.to_string()),
        ("replica_scope", config.replica_scope.to_string()),
        ("quorum_timeout_ms", format!("{:?}", config.ack_timeout)),
        ("catchup_interval_secs", format!("{:?}", config.catchup_interval)),
        ("shutdown_grace_ms", format!("{:?}", config.shutdown_grace)),
        ("body_timeout_ms", format!("{:?}", config.body_timeout)),
        ("requests_max", config.requests_max.to_string()),
        ("embedding_space", format!("{:?}", config.embedding_space)),
    ]
}
