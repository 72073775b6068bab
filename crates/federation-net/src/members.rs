//! Who takes part, as of one moment, and how that changes while the node runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use federation_core::id::NodeId;
use federation_core::limits::LIVE_LANE_OPS_MAX;
use federation_core::link::LinkEvent;
use federation_core::quorum::levels::WriteLevels;
use federation_wire::identity::{Directory, EnrolledNode};
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
    pub(crate) write_levels: WriteLevels,
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
    /// Nodes that count and nodes that must hold a write, before.
    pub quorum_before: (usize, usize),
    /// Nodes that count and nodes that must hold a write, from here on.
    pub quorum: (usize, usize),
    /// Whether the nodes that must hold a write of some namespace are others.
    pub levels: bool,
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        let lists = [&self.joined, &self.left, &self.moved, &self.changed];
        lists.iter().all(|list| list.is_empty()) && self.quorum == self.quorum_before && !self.levels
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
            let peer = if let Some(peer) = before.and_then(|before| before.at(endpoint)) {
                Arc::clone(peer)
            } else {
                let (sender, receiver) = mpsc::channel(LINK_MESSAGES_MAX);
                let dialled = Some((endpoint.clone(), sender));
                let peer = Arc::new(Peer::new(node.clone(), stop.child_token(), dialled));
                links.push((Arc::clone(&peer), receiver));
                peer
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
        let members = Self { peers, write_levels: membership.write_levels.clone() };
        let n = members.n();
        let impossible = members.write_levels.all().map(|level| level.needed(n)).find(|w| *w < 1 || *w > n);
        impossible.map_or(Ok((members, links)), |w| Err(StartError::Quorum { w, n }))
    }

    /// Nodes that count where all of them keep a namespace, this one included.
    pub(crate) fn n(&self) -> usize {
        self.dialled().count() + 1
    }

    /// Nodes that must hold a write there, by the operator's setting, where that says nothing else of its namespace.
    pub(crate) fn w(&self) -> usize {
        self.write_levels.default.needed(self.n())
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

/// What a reload would change.
pub(crate) fn preview(inner: &Arc<Inner>, membership: &Membership) -> Result<Changes, StartError> {
    let before = inner.members();
    let (members, _) = Members::new(&inner.config.node, membership, Some(&before), inner.tasks.stop())?;
    Ok(changes(&before, &members, &inner.gate.directory(), &membership.directory))
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
        quorum_before: (before.n(), before.w()),
        quorum: (after.n(), after.w()),
        levels: before.write_levels != after.write_levels,
    }
}

#[cfg(test)]
mod tests {
    use federation_core::quorum::policy::WriteLevel;
    use federation_wire::identity::{Enrolment, KeyEntry, KeyState};
    use federation_wire::keys::NodeKey;

    use super::*;

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn key(seed: u8) -> NodeKey {
        NodeKey::from_seed(&[seed; 32])
    }

    fn entry(name: &str, port: u16, seed: u8) -> Enrolment {
        Enrolment::full(name, &format!("https://127.0.0.1:{port}"), key(seed).public())
    }

    fn membership(entries: &[Enrolment], level: usize) -> Membership {
        let directory = Directory::new(entries).unwrap();
        let endpoint =
            |node: &EnrolledNode| Some(PeerEndpoint { id: node.id.clone(), url: node.url.clone()? });
        let peers = directory.nodes().filter_map(endpoint).collect();
        Membership { directory, peers, write_levels: WriteLevel::Count(level).into() }
    }

    fn members(membership: &Membership, before: Option<&Members>) -> Result<(Members, usize), StartError> {
        let stop = CancellationToken::new();
        let (members, links) = Members::new(&id("own"), membership, before, &stop)?;
        Ok((members, links.len()))
    }

    #[test]
    fn who_stays_is_the_same_and_who_does_not_ends() {
        let before = membership(&[entry("a", 1, 1), entry("b", 2, 2), entry("c", 3, 3)], 2);
        let (old, links) = members(&before, None).unwrap();
        assert_eq!((links, old.n(), old.w()), (3, 4, 2));

        let mut moved = entry("b", 9, 2);
        moved.keys.push(KeyEntry::active(key(7).public()));
        let after = membership(&[entry("a", 1, 1), moved, entry("d", 4, 4)], 3);
        let (new, links) = members(&after, Some(&old)).unwrap();
        assert_eq!(links, 2, "b's new place, and d");
        assert!(Arc::ptr_eq(old.peer(&id("a")).unwrap(), new.peer(&id("a")).unwrap()));
        assert!(!Arc::ptr_eq(old.peer(&id("b")).unwrap(), new.peer(&id("b")).unwrap()));
        let found = changes(&old, &new, &before.directory, &after.directory);
        let expect = Changes {
            joined: vec![id("d")],
            left: vec![id("c")],
            moved: vec![id("b")],
            changed: vec![id("b"), id("c"), id("d")],
            levels: true,
            quorum_before: (4, 2),
            quorum: (4, 3),
        };
        assert_eq!(found, expect);
        assert!(!found.is_empty());
        let none = changes(&new, &new, &after.directory, &after.directory);
        assert!(none.is_empty());
    }

    #[test]
    fn what_is_wrong_changes_nothing() {
        let check = |entries: &[Enrolment], level, expect: StartError| {
            assert_eq!(members(&membership(entries, level), None).err(), Some(expect));
        };
        check(&[entry("a", 1, 1)], 3, StartError::Quorum { w: 3, n: 2 });
        check(&[entry("a", 1, 1)], 0, StartError::Quorum { w: 0, n: 2 });
        check(&[entry("own", 1, 1)], 1, StartError::SelfPeer { node: id("own") });
        let mut retired = entry("a", 1, 1);
        retired.keys[0].state = KeyState::Retired;
        check(&[retired], 1, StartError::NotEnrolled { node: id("a") });
    }
}
