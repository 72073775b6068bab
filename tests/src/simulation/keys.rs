//! The keys of a run: what each node signs with, and what each has enrolled of the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use federation_core::id::{BootId, NodeId};
use federation_net::signing_keys::SigningKeys;
use federation_wire::identity::{AcceptedSeries, KeyEntry, KeyState};
use federation_wire::keys::{NodeKey, OwnKeys, PublicKey};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::schedule::KeyEnd;

/// The keys of a mesh. Clones share them.
#[derive(Clone, Debug)]
pub struct MeshKeys {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    nodes: Vec<KeysOfNode>,
    random: StdRng,
}

#[derive(Debug)]
struct KeysOfNode {
    id: NodeId,
    own: OwnKeys,
    signing: SigningKeys,
    /// What the others have enrolled of it.
    enrolled: BTreeMap<usize, Vec<KeyEntry>>,
    /// Made, and not signed with yet.
    next: Option<Arc<NodeKey>>,
    old: Option<OldKey>,
}

/// A key that a node has signed with and does not any more. Somebody has a copy of it.
#[derive(Clone, Debug)]
pub struct OldKey {
    /// Whose it is.
    pub node: usize,
    /// The key.
    pub key: Arc<NodeKey>,
    /// Where it is good for less than it was.
    pub ended: BTreeMap<usize, KeyEnd>,
    /// The last number of each series that it sealed, as the operator names them at every node that revokes it.
    pub accepted: BTreeMap<BootId, u64>,
}

impl MeshKeys {
    /// Each node has one key, and all have it enrolled.
    pub fn new(nodes: Vec<(NodeId, Arc<NodeKey>)>, seed: u64) -> Self {
        let n = nodes.len();
        let keys_of = |(i, (id, key)): (usize, (NodeId, Arc<NodeKey>))| KeysOfNode {
            id,
            enrolled: (0..n)
                .filter(|at| *at != i)
                .map(|at| (at, vec![KeyEntry::active(key.public())]))
                .collect(),
            own: OwnKeys::new(Arc::clone(&key)),
            signing: key.into(),
            next: None,
            old: None,
        };
        let nodes = nodes.into_iter().enumerate().map(keys_of).collect();
        // Not what the first keys were drawn from: it would draw them again.
        let random = StdRng::seed_from_u64(!seed);
        Self { inner: Arc::new(Mutex::new(Inner { nodes, random })) }
    }

    /// The handle that a node signs by, in all its boots.
    pub fn signing(&self, node: usize) -> SigningKeys {
        self.with(|inner| inner.nodes.get(node).expect("a node").signing.clone())
    }

    /// What `at` has enrolled of `of`.
    pub fn enrolled(&self, at: usize, of: usize) -> Vec<KeyEntry> {
        let of_node = |inner: &mut Inner| Some(inner.nodes.get(of)?.enrolled.get(&at)?.clone());
        self.with(of_node).unwrap_or_default()
    }

    /// The public keys under which each node signs or has signed.
    pub fn public(&self) -> Vec<(NodeId, Vec<PublicKey>)> {
        let all = |keys: &OwnKeys| {
            let former = keys.former().iter().map(|key| &key.public);
            former.chain([keys.active().public()]).cloned().collect()
        };
        self.with(|inner| inner.nodes.iter().map(|node| (node.id.clone(), all(&node.own))).collect())
    }

    /// `at` enrols the next key of `node`, which is made for the first who does. False if it has it already, or the key
    /// before is still good somewhere.
    pub fn enrol_next(&self, node: usize, at: usize) -> bool {
        self.with(|Inner { nodes, random }| {
            let Some(node) = nodes.get_mut(node) else { return false };
            if node.old.as_ref().is_some_and(|old| old.ended.len() < node.enrolled.len()) {
                return false;
            }
            let next = node.next.get_or_insert_with(|| Arc::new(NodeKey::generate(random)));
            let entry = KeyEntry::active(next.public());
            let Some(enrolled) = node.enrolled.get_mut(&at).filter(|known| !known.contains(&entry)) else {
                return false;
            };
            enrolled.push(entry);
            true
        })
    }

    /// The node signs with its next key from here on. None unless every other has it enrolled. Gives it.
    pub fn activate(&self, node: usize) -> Option<Arc<NodeKey>> {
        self.with(|inner| {
            let keys = inner.nodes.get_mut(node)?;
            let next = Arc::clone(keys.next.as_ref()?);
            let entry = KeyEntry::active(next.public());
            if !keys.enrolled.values().all(|known| known.contains(&entry)) {
                return None;
            }
            let old = Arc::clone(keys.own.active());
            keys.own = keys.own.rotated(Arc::clone(&next)).ok()?;
            keys.signing.replace(keys.own.clone());
            keys.next = None;
            let (ended, accepted) = (BTreeMap::new(), BTreeMap::new());
            keys.old = Some(OldKey { node, key: old, ended, accepted });
            Some(next)
        })
    }

    /// `at` retires the old key of `node`, or revokes it but for what it has sealed: up to these numbers, if it is the
    /// first who does. False if there is none, or it has done so already.
    pub fn end(&self, node: usize, at: usize, how: KeyEnd, sealed: BTreeMap<BootId, u64>) -> bool {
        self.with(|inner| {
            let Some(keys) = inner.nodes.get_mut(node) else { return false };
            let (Some(old), Some(enrolled)) = (keys.old.as_mut(), keys.enrolled.get_mut(&at)) else {
                return false;
            };
            if old.ended.contains_key(&at) {
                return false;
            }
            if old.ended.is_empty() {
                old.accepted = sealed;
            }
            let key = old.key.public().to_string();
            for entry in enrolled.iter_mut().filter(|entry| entry.key == key) {
                (entry.state, entry.accepted) = match how {
                    KeyEnd::Retired => (KeyState::Retired, Vec::new()),
                    KeyEnd::Revoked => (KeyState::Revoked, series(&old.accepted)),
                };
            }
            old.ended.insert(at, how);
            // The operator gives the line to the node itself, too.
            if how == KeyEnd::Revoked {
                let accepted: Vec<_> = old.accepted.iter().map(|(epoch, last)| (*epoch, *last)).collect();
                keys.own = keys.own.revoked(old.key.id(), &accepted).expect("a key of before");
                keys.signing.replace(keys.own.clone());
            }
            true
        })
    }

    /// The old keys that have ended somewhere.
    pub fn old(&self) -> Vec<OldKey> {
        let old = |node: &KeysOfNode| node.old.clone().filter(|old| !old.ended.is_empty());
        self.with(|inner| inner.nodes.iter().filter_map(old).collect())
    }

    fn with<T>(&self, look: impl FnOnce(&mut Inner) -> T) -> T {
        look(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn series(accepted: &BTreeMap<BootId, u64>) -> Vec<AcceptedSeries> {
    accepted.iter().map(|(epoch, last_seq)| AcceptedSeries::new(*epoch, *last_seq)).collect()
}
