//! A mesh of real nodes in one directory.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use federation_core::id::NodeId;
use federation_wire::identity::{Enrolment, PeersFile};
use serde::{Deserialize, Serialize};

use crate::enrolment::key_file;
use crate::enrolment::peers_file;
use crate::files::{Existing, write_whole};
use crate::supervisor::port::free_addresses;
use crate::supervisor::{Client, LogSink, Process, ProcessSpec, SupervisorError};

/// What a mesh is to be.
#[derive(Clone, Debug)]
pub struct MeshSpec {
    /// The `federationd` binary.
    pub program: PathBuf,
    /// Where the nodes' files are; made if missing. What is there already goes on.
    pub dir: PathBuf,
    /// How many nodes.
    pub nodes: usize,
    /// Arguments of `serve` beyond those that the mesh gives.
    pub args: Vec<OsString>,
    /// Where the nodes' logs go.
    pub logs: MeshLogs,
    /// What the nodes speak to each other.
    pub links: MeshLinks,
}

/// What the nodes of a mesh speak to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MeshLinks {
    /// Mutual TLS.
    #[default]
    Tls,
    /// Plain HTTP, for who must see what goes over them.
    Plain,
}

impl MeshLinks {
    fn scheme(self) -> &'static str {
        match self {
            Self::Tls => "https",
            Self::Plain => "http",
        }
    }
}

/// Where the nodes' logs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeshLogs {
    /// To standard error, each line with the node's name before it.
    Prefixed,
    /// To `log` in each node's directory.
    Files,
}

/// Nodes of one mesh, running or not. Running ones are killed when the mesh is dropped.
#[derive(Debug)]
pub struct Mesh {
    spec: MeshSpec,
    nodes: Vec<MeshNode>,
    client: Client,
}

/// One node of a mesh.
#[derive(Debug)]
pub struct MeshNode {
    id: NodeId,
    dir: PathBuf,
    listen: SocketAddr,
    peer_listen: SocketAddr,
    process: Option<Process>,
}

/// The addresses of a mesh, kept in its directory so that they stay.
#[derive(Debug, Default, Serialize, Deserialize)]
struct MeshFile {
    node: Vec<NodeAddresses>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct NodeAddresses {
    id: String,
    listen: SocketAddr,
    peer_listen: SocketAddr,
}

const MESH_FILE: &str = "mesh.toml";
const KEY_FILE: &str = "federation.key";
const PEERS_FILE: &str = "peers.toml";
const DATA_DIR: &str = "data";
/// Written once a node has been ready: from then on an empty data directory is a lost disk, not a new mesh.
const STARTED_FILE: &str = "started";

impl Mesh {
    /// Makes the directory with keys and enrolments, or goes on with the one that is there. Starts nothing.
    pub fn prepare(spec: MeshSpec) -> Result<Self, SupervisorError> {
        fs::create_dir_all(&spec.dir).map_err(|e| file_error(&spec.dir, e))?;
        let addresses = settle_addresses(&spec)?;
        let mut nodes = Vec::new();
        for node in &addresses {
            let path = spec.dir.join(MESH_FILE);
            let id = NodeId::new(&node.id)
                .map_err(|error| SupervisorError::Malformed { path, message: error.to_string() })?;
            let dir = spec.dir.join(&node.id);
            fs::create_dir_all(&dir).map_err(|e| file_error(&dir, e))?;
            let (listen, peer_listen) = (node.listen, node.peer_listen);
            nodes.push(MeshNode { id, dir, listen, peer_listen, process: None });
        }
        let mesh = Self { spec, nodes, client: Client::default() };
        mesh.enrol_all()?;
        Ok(mesh)
    }

    /// Its nodes, in order.
    pub fn nodes(&self) -> &[MeshNode] {
        &self.nodes
    }

    /// The node of this number, from 0.
    pub fn node(&self, index: usize) -> Result<&MeshNode, SupervisorError> {
        let nodes = self.nodes.len();
        self.nodes.get(index).ok_or(SupervisorError::NoSuchNode { index, nodes })
    }

    /// The client that the mesh speaks to its nodes with.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Makes node `from` dial node `to` at `through`, as for a proxy. Counts from the next start of `from`.
    pub fn route(&self, from: usize, to: usize, through: SocketAddr) -> Result<(), SupervisorError> {
        let (from, to) = (self.node(from)?, self.node(to)?);
        let path = from.dir.join(PEERS_FILE);
        let mut peers = peers_file::load(&path)?;
        peers_file::replace(&mut peers, to.enrolment(self.spec.links, through)?);
        Ok(peers_file::save(&path, &peers)?)
    }

    /// Starts a node and does not wait for it.
    pub fn start(&mut self, index: usize) -> Result<(), SupervisorError> {
        let node = self.node(index)?;
        let sink = match self.spec.logs {
            MeshLogs::Prefixed => LogSink::Prefixed,
            MeshLogs::Files => LogSink::File(node.dir.join("log")),
        };
        let process = Process::start(ProcessSpec {
            name: node.id.to_string(),
            program: self.spec.program.clone(),
            args: node.serve_args(&self.spec),
            env: Vec::new(),
            sink,
        })?;
        self.node_mut(index)?.process = Some(process);
        Ok(())
    }

    /// Starts all nodes and waits until each is ready.
    pub async fn start_all(&mut self, within: Duration) -> Result<(), SupervisorError> {
        for index in 0..self.nodes.len() {
            self.start(index)?;
        }
        for index in 0..self.nodes.len() {
            self.ready(index, within).await?;
        }
        Ok(())
    }

    /// Waits until a node is ready.
    pub async fn ready(&mut self, index: usize, within: Duration) -> Result<(), SupervisorError> {
        let client = self.client.clone();
        let node = self.node_mut(index)?;
        let url = node.url();
        let started = node.dir.join(STARTED_FILE);
        node.process_mut()?.ready(&client, &url, within).await?;
        fs::write(&started, "").map_err(|e| file_error(&started, e))
    }

    /// Kills a node (SIGKILL).
    pub async fn kill(&mut self, index: usize) -> Result<ExitStatus, SupervisorError> {
        self.take(index)?.kill().await
    }

    /// Stops a node (SIGTERM) and waits for its end, at most `within`.
    pub async fn terminate(&mut self, index: usize, within: Duration) -> Result<ExitStatus, SupervisorError> {
        self.take(index)?.terminate(within).await
    }

    /// Stops all that run, in order. The first failure is returned after all were tried.
    pub async fn stop_all(&mut self, within: Duration) -> Result<(), SupervisorError> {
        let mut result = Ok(());
        for node in &mut self.nodes {
            if let Some(process) = node.process.take()
                && let Err(error) = process.terminate(within).await
                && result.is_ok()
            {
                result = Err(error);
            }
        }
        result
    }

    /// Waits until a running node ends by itself, and names it. For ever if none does.
    ///
    /// # Cancel safety
    /// Safe: a node that ended is found again.
    pub async fn any_ended(&mut self) -> (NodeId, ExitStatus) {
        loop {
            for node in &mut self.nodes {
                if let Some(status) = node.process.as_mut().and_then(Process::ended) {
                    return (node.id.clone(), status);
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn enrol_all(&self) -> Result<(), SupervisorError> {
        for node in &self.nodes {
            let key = node.dir.join(KEY_FILE);
            if !key.exists() {
                key_file::create(&key, Existing::Keep)?;
            }
        }
        for node in &self.nodes {
            let path = node.dir.join(PEERS_FILE);
            let mut peers = PeersFile::default();
            for other in self.nodes.iter().filter(|other| other.id != node.id) {
                peers_file::replace(&mut peers, other.enrolment(self.spec.links, other.peer_listen)?);
            }
            peers_file::save(&path, &peers)?;
        }
        Ok(())
    }

    fn take(&mut self, index: usize) -> Result<Process, SupervisorError> {
        let node = self.node_mut(index)?;
        let name = node.id.to_string();
        node.process.take().ok_or(SupervisorError::NotRunning { name })
    }

    fn node_mut(&mut self, index: usize) -> Result<&mut MeshNode, SupervisorError> {
        let nodes = self.nodes.len();
        self.nodes.get_mut(index).ok_or(SupervisorError::NoSuchNode { index, nodes })
    }
}

impl MeshNode {
    /// Its name.
    pub fn id(&self) -> &NodeId {
        &self.id
    }

    /// Its directory: key, enrolments, `data`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join(DATA_DIR)
    }

    /// Where its peers reach it.
    pub fn peer_address(&self) -> SocketAddr {
        self.peer_listen
    }

    /// The base of its client URLs, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Its process, if it runs.
    pub fn process(&self) -> Result<&Process, SupervisorError> {
        self.process.as_ref().ok_or_else(|| SupervisorError::NotRunning { name: self.id.to_string() })
    }

    /// Its entry at another node that dials it at `address`.
    fn enrolment(&self, links: MeshLinks, address: SocketAddr) -> Result<Enrolment, SupervisorError> {
        let keys = key_file::read(&self.dir.join(KEY_FILE))?;
        Ok(Enrolment::full(
            self.id.as_str(),
            &format!("{}://{address}", links.scheme()),
            keys.active().public(),
        ))
    }

    fn process_mut(&mut self) -> Result<&mut Process, SupervisorError> {
        let name = self.id.to_string();
        self.process.as_mut().ok_or(SupervisorError::NotRunning { name })
    }

    fn serve_args(&self, spec: &MeshSpec) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["serve".into()];
        let mut flag = |name: &str, value: OsString| args.extend([OsString::from(name), value]);
        flag("--node-id", self.id.as_str().into());
        flag("--key-file", self.dir.join(KEY_FILE).into());
        flag("--peers-file", self.dir.join(PEERS_FILE).into());
        flag("--data-dir", self.data_dir().into());
        flag("--listen", self.listen.to_string().into());
        flag("--peer-listen", self.peer_listen.to_string().into());
        if spec.links == MeshLinks::Plain {
            flag("--peer-tls", "off".into());
        }
        if !self.dir.join(STARTED_FILE).exists() && is_empty(&self.data_dir()) {
            args.push("--new-mesh".into());
        }
        args.extend(spec.args.iter().cloned());
        args
    }
}

/// The addresses of each node: those that were used before, unless something else took them meanwhile.
fn settle_addresses(spec: &MeshSpec) -> Result<Vec<NodeAddresses>, SupervisorError> {
    let path = spec.dir.join(MESH_FILE);
    let mut file = match fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text)
            .map_err(|error| SupervisorError::Malformed { path: path.clone(), message: error.to_string() })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => MeshFile::default(),
        Err(error) => return Err(file_error(&path, error)),
    };
    let found = file.node.len();
    if found != 0 && found != spec.nodes {
        return Err(SupervisorError::NodeCount { path: spec.dir.clone(), found, asked: spec.nodes });
    }
    let mut free = free_addresses(2 * spec.nodes)?.into_iter();
    let mut next = || free.next().ok_or(SupervisorError::Port(io::ErrorKind::AddrNotAvailable.into()));
    if found == 0 {
        for number in 1..=spec.nodes {
            let id = format!("node-{number}");
            file.node.push(NodeAddresses { id, listen: next()?, peer_listen: next()? });
        }
    }
    for address in file.node.iter_mut().flat_map(|node| [&mut node.listen, &mut node.peer_listen]) {
        if TcpListener::bind(*address).is_err() {
            *address = next()?;
        }
    }
    let text = toml::to_string(&file)
        .map_err(|error| SupervisorError::Malformed { path: path.clone(), message: error.to_string() })?;
    write_whole(&path, text.as_bytes(), 0o644, Existing::Replace).map_err(|e| file_error(&path, e))?;
    Ok(file.node)
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}

fn file_error(path: &Path, source: io::Error) -> SupervisorError {
    SupervisorError::File { path: path.to_owned(), source }
}
