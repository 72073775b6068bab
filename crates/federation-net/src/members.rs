//! Who takes part, as of one moment, and how that changes while the node runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use federation_core::id::{KeyId, NodeId};
use federation_core::limits::LIVE_LANE_OPS_MAX;
use federation_core::link::LinkEvent;
use federation_core::quorum::policy::WriteLevel;
use federation_wire::identity::{Directory, EnrolledNode, KeyState};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{Membership, PeerEndpoint};
use crate::error::StartError;
use crate::inner::{Inner, lock};
use crate::peer::{Peer, PeerMessage, driver};

/// Messages that wait for a link's task: a full live lane, and room for the rest.
const LINK_MESSAGES_MAX: usize = LIVE_LANE_OPS_MAX + 1_024;

/// Who takes part, as of one moment. What needs more than one answer of it looks at one of them.
#[derive(Debug)]
pub(crate) struct Members {
    /// Every enrolled peer, dialled or not.
    peers: BTreeMap<NodeId, Arc<Peer>>,
    /// Nodes that must hold a write, by the operator's setting.
    write_level: WriteLevel,
}

/// Links that are not driven yet.
pub(crate) type Links = Vec<(Arc<Peer>, mpsc::Receiver<PeerMessage>)>;

/// What changed when a node took in who takes part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Peers that are dialled now and were not.
    pub joined: Vec<NodeId>,
    /// Peers that were dialled and are not any more.
    pub left: Vec<NodeId>,
    /// Peers that are dialled elsewhere.
    pub moved: Vec<NodeId>,
    /// Nodes whose keys, scopes or certificate have changed, or that are or are not enrolled any more.
    pub changed: Vec<NodeId>,
    /// Who may not go on calling: the node, and the key it has proven itself by; none: whatever it has proven itself by.
    /// The owner of listener and transport cuts these connections.
    pub cut: Vec<(NodeId, Option<KeyId>)>,
    /// Nodes that count and nodes that must hold a write, before.
    pub quorum_before: (usize, usize),
    /// Nodes that count and nodes that must hold a write, from here on.
    pub quorum: (usize, usize),
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        let lists = [&self.joined, &self.left, &self.moved, &self.changed];
        lists.iter().all(|list| list.is_empty()) && self.quorum == self.quorum_before
    }
}

impl Members {
    /// Those that `peers` and `directory` name. A peer that was dialled at the same place `before` stays the one it
    /// was, with all that is known of it; others get a link, which is to be driven and ends with `stop`.
    pub(crate) fn new(
        own: &NodeId,
        membership: &Membership,
        before: Option<&Members>,
        stop: &CancellationToken,
    ) -> Result<(Self, Links), StartError> {
        let (mut peers, mut links) = (BTreeMap::new(), Vec::new());
        for endpoint in &membership.peers {
            let node = endpoint.id.clone();
            if node == *own {
                return Err(StartError::SelfPeer { node });
            }
            if membership.directory.node(&node).is_none_or(EnrolledNode::is_retired) {
                return Err(StartError::NotEnrolled { node });
            }
            let peer = match before.and_then(|before| before.at(endpoint)) {
                Some(peer) => Arc::clone(peer),
                None => {
                    let (sender, receiver) = mpsc::channel(LINK_MESSAGES_MAX);
                    let dialled = Some((endpoint.clone(), sender));
                    let peer = Arc::new(Peer::new(node.clone(), stop.child_token(), dialled));
                    links.push((Arc::clone(&peer), receiver));
                    peer
                }
            };
            if peers.insert(node.clone(), peer).is_some() {
                return Err(StartError::DuplicatePeer { node });
            }
        }
        for enrolled in membership.directory.nodes().filter(|node| node.id != *own && !node.is_retired()) {
            peers.entry(enrolled.id.clone()).or_insert_with(|| {
                let known = before.and_then(|before| before.peer(&enrolled.id));
                match known.filter(|peer| peer.endpoint.is_none()) {
                    Some(peer) => Arc::clone(peer),
                    None => Arc::new(Peer::new(enrolled.id.clone(), stop.child_token(), None)),
                }
            });
        }
        let members = Self { peers, write_level: membership.write_level };
        let (n, w) = (members.n(), members.w());
        if w < 1 || w > n { Err(StartError::Quorum { w, n }) } else { Ok((members, links)) }
    }

    /// Nodes that count, this one included.
    pub(crate) fn n(&self) -> usize {
        self.dialled().count() + 1
    }

    /// Nodes that must hold a write, by the operator's setting.
    pub(crate) fn w(&self) -> usize {
        self.write_level.needed(self.n())
    }

    /// Every enrolled peer.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.peers.values()
    }

    /// The peers that are dialled.
    pub(crate) fn dialled(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.peers.values().filter(|peer| peer.endpoint.is_some())
    }

    /// The enrolled peer of that name.
    pub(crate) fn peer(&self, node: &NodeId) -> Option<&Arc<Peer>> {
        self.peers.get(node)
    }

    fn at(&self, endpoint: &PeerEndpoint) -> Option<&Arc<Peer>> {
        self.peer(&endpoint.id).filter(|peer| peer.endpoint.as_ref() == Some(endpoint))
    }
}

/// Drives links until they end.
pub(crate) fn drive(inner: &Arc<Inner>, links: Links) {
    for (peer, messages) in links {
        inner.tasks.spawn("link", driver::run(Arc::clone(inner), peer, messages));
    }
}

/// Takes in who takes part from here on: all of it, or nothing if something of it is wrong.
///
/// What has begun goes on with those who took part when it began: a write keeps its n and W, and counts out whoever
/// has left. Nobody else notices.
pub(crate) fn reload(inner: &Arc<Inner>, membership: Membership) -> Result<Changes, StartError> {
    let _one_at_a_time = lock(&inner.reloading);
    let before = inner.members();
    let (members, links) = Members::new(&inner.config.node, &membership, Some(&before), inner.tasks.stop())?;
    let changes = changes(&before, &members, &inner.gate.directory(), &membership.directory);
    // First who may still call, then who is asked: in between, whoever is new is refused once more.
    inner.gate.enrol(membership.directory);
    let members = Arc::new(members);
    inner.members.store(Arc::clone(&members));
    let stays = |peer: &Arc<Peer>| members.peer(&peer.id).is_some_and(|now| Arc::ptr_eq(now, peer));
    for peer in before.all().filter(|peer| !stays(peer)) {
        peer.stop.cancel();
        inner.with_open_writes(|open, _, out| open.coordinator.left(&peer.id, out));
    }
    drive(inner, links);
    if !changes.is_empty() {
        // What each side says of itself in hello may be another now.
        for peer in members.dialled() {
            peer.tell(LinkEvent::Resync);
        }
    }
    Ok(changes)
}

fn changes(before: &Members, after: &Members, was: &Directory, is: &Directory) -> Changes {
    let dialled =
        |members: &Members, id: &NodeId| members.peer(id).is_some_and(|peer| peer.endpoint.is_some());
    let ids = |members: &Members, keep: &dyn Fn(&Arc<Peer>) -> bool| {
        members.dialled().filter(|peer| keep(peer)).map(|peer| peer.id.clone()).collect::<Vec<_>>()
    };
    let moved = |peer: &Arc<Peer>| {
        before.peer(&peer.id).is_some_and(|old| old.endpoint.is_some() && old.endpoint != peer.endpoint)
    };
    let known: BTreeSet<_> = was.nodes().chain(is.nodes()).map(|node| &node.id).collect();
    Changes {
        joined: ids(after, &|peer| !dialled(before, &peer.id)),
        left: ids(before, &|peer| !dialled(after, &peer.id)),
        moved: ids(after, &moved),
        changed: known.into_iter().filter(|id| was.node(id) != is.node(id)).cloned().collect(),
        cut: was.nodes().flat_map(|node| ended(node, is.node(&node.id))).collect(),
        quorum_before: (before.n(), before.w()),
        quorum: (after.n(), after.w()),
    }
}

/// What a node may not prove itself by any more.
fn ended(was: &EnrolledNode, is: Option<&EnrolledNode>) -> Vec<(NodeId, Option<KeyId>)> {
    let Some(is) = is.filter(|is| !is.is_retired() && is.tls_fingerprint == was.tls_fingerprint) else {
        return if was.is_retired() { Vec::new() } else { vec![(was.id.clone(), None)] };
    };
    let is_active =
        |node: &EnrolledNode, id: &KeyId| node.keys.get(id).is_some_and(|key| key.state == KeyState::Active);
    let ended = was.keys.keys().filter(|id| is_active(was, id) && !is_active(is, id));
    ended.map(|id| (was.id.clone(), Some(*id))).collect()
}
