//! Which of the enrolled peers are dialled.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use federation_core::id::NodeId;
use federation_net::config::PeerEndpoint;
use federation_wire::identity::{Directory, EnrolledNode, PeerUrl};
use federation_wire::keys::OwnKeys;

use crate::config::Fault;
use crate::config::raw::{RawConfig, defaults};
use crate::config::valid::take;
use crate::enrolment::{EnrolError, peers_file};

/// What tells this node among the entries.
pub(super) struct Own<'a> {
    pub(super) id: Option<&'a NodeId>,
    pub(super) keys: Option<&'a OwnKeys>,
    pub(super) address: Option<SocketAddr>,
}

/// What was picked.
pub(super) struct Picked {
    /// Everybody who is enrolled; none if the file is faulty.
    pub(super) directory: Option<Directory>,
    /// Who is dialled.
    pub(super) endpoints: Vec<PeerEndpoint>,
    /// Nodes that count, this one included; as asked for, where something of it is faulty.
    pub(super) n: usize,
}

pub(super) fn pick(raw: &RawConfig, own: &Own<'_>, faults: &mut Vec<Fault>) -> Picked {
    let faults_before = faults.len();
    let path: std::path::PathBuf = raw.peers_file.clone().unwrap_or_else(|| defaults::peers_file.into());
    let directory = take(faults, directory(&path, raw.peers_file.is_some()));
    let everyone = directory.clone().unwrap_or_default();
    for node in everyone.nodes() {
        if let Some(found) = own.is(node) {
            faults.push(Fault::SelfPeer { found, peers_file: path.clone() });
        }
    }
    let with_url = everyone.nodes().filter(|node| node.url.is_some() && !node.is_retired());
    let (nodes, asked) = match &raw.quorum_peers {
        None => {
            let nodes: Vec<_> = with_url.collect();
            let asked = nodes.len();
            (nodes, asked)
        }
        Some(urls) => (by_url(&urls.0, &everyone, &path, directory.is_some(), faults), urls.0.len()),
    };
    let endpoints: Vec<_> = nodes.into_iter().filter_map(|node| endpoint(node, faults)).collect();
    let n = if faults.len() == faults_before { endpoints.len() } else { asked } + 1;
    Picked { directory, endpoints, n }
}

/// The enrolments. A file that was named must exist; the default one may be missing.
fn directory(path: &Path, was_named: bool) -> Result<Directory, Fault> {
    let file = if was_named { peers_file::load(path) } else { peers_file::load_or_new(path) };
    Ok(file.and_then(|file| peers_file::directory(path, &file)).map_err(|error| match error {
        EnrolError::Read { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
            EnrolError::PeersMissing { path }
        }
        error => error,
    })?)
}

fn by_url<'a>(
    urls: &[String],
    everyone: &'a Directory,
    peers_file: &Path,
    is_known: bool,
    faults: &mut Vec<Fault>,
) -> Vec<&'a EnrolledNode> {
    let mut seen: Vec<PeerUrl> = Vec::new();
    let mut nodes = Vec::new();
    for text in urls {
        let parsed = PeerUrl::parse(text).map_err(|fault| Fault::PeerUrl { url: text.clone(), fault });
        let Some(url) = take(faults, parsed) else { continue };
        if seen.contains(&url) {
            faults.push(Fault::PeerTwice { url: url.to_string() });
            continue;
        }
        match everyone.at(&url) {
            Some(node) if node.is_retired() => {
                faults.push(Fault::PeerRetired { url: url.to_string(), id: node.id.to_string() });
            }
            Some(node) => nodes.push(node),
            // In a file that could not be read nobody is enrolled: one fault is enough.
            None if is_known => {
                let peers_file = peers_file.to_owned();
                faults.push(Fault::PeerNotEnrolled { url: url.to_string(), peers_file });
            }
            None => {}
        }
        seen.push(url);
    }
    nodes
}

fn endpoint(node: &EnrolledNode, faults: &mut Vec<Fault>) -> Option<PeerEndpoint> {
    let url = node.url.as_ref()?;
    if !url.is_tls() && !url.is_loopback() {
        faults.push(Fault::PeerUrlOffLoopback { id: node.id.to_string(), url: url.to_string() });
        return None;
    }
    Some(PeerEndpoint { id: node.id.clone(), url: url.clone() })
}

impl Own<'_> {
    /// What of an entry is this node's own, if anything.
    fn is(&self, node: &EnrolledNode) -> Option<String> {
        if self.id == Some(&node.id) {
            return Some(format!("the id {}", node.id));
        }
        if self.keys.is_some_and(|own| node.keys.keys().any(|id| own.public(*id).is_some())) {
            return Some(format!("the key of {}", node.id));
        }
        let (url, own) = (node.url.as_ref()?, self.address?);
        let host = url.host().trim_matches(['[', ']']);
        let same_host = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip == own.ip());
        (same_host && url.port() == own.port()).then(|| format!("the URL {url} of {}", node.id))
    }
}
