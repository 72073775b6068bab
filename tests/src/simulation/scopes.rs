//! The scopes of a run, as the harness knows them: what each enrolment is to say, and what no frame may carry.
//!
//! Judged by the schedule's own words, not by the product's rules.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use federation_core::id::{Namespace, NodeId};
use federation_core::scope::Scope;
use federation_wire::frame::ReceivedFrame;
use federation_wire::identity::Enrolment;
use federation_wire::keys::PublicKey;
use federation_wire::v1::delivery::{Delivery, Page};
use federation_wire::v1::op::read_op;

use super::keys::MeshKeys;
use crate::schedule::{NAMESPACES, Scopes};

/// The scopes of a mesh. Clones share it; without scopes everybody keeps and grants everything.
#[derive(Clone, Debug, Default)]
pub struct MeshScopes {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    scopes: Option<Scopes>,
    /// What each node keeps or has ever kept.
    ever: Vec<BTreeSet<String>>,
    /// What each node keeps or has kept since it has its disk.
    on_disk: Vec<BTreeSet<String>>,
    /// How often what a node keeps has changed.
    changes: u64,
    leaks: Vec<Leak>,
}

/// An op that left to who may not have it.
#[derive(Clone, Debug)]
pub struct Leak {
    /// The node that was sent it.
    pub to: usize,
    /// What was seen, for people.
    pub what: String,
}

impl MeshScopes {
    /// The scopes of a schedule.
    pub fn new(scopes: Option<Scopes>) -> Self {
        let ever = scopes.as_ref().map(|scopes| scopes.keeps.clone()).unwrap_or_default();
        let on_disk = ever.clone();
        Self { inner: Arc::new(Mutex::new(Inner { scopes, ever, on_disk, ..Inner::default() })) }
    }

    /// Whether there are any.
    pub fn are_there(&self) -> bool {
        self.with(|inner| inner.scopes.is_some())
    }

    /// The namespaces that there are.
    pub fn namespaces(&self) -> Vec<Namespace> {
        let names = if self.are_there() { &NAMESPACES[..] } else { &[super::NAMESPACE][..] };
        names.iter().map(|name| Namespace::new(name).expect("a valid namespace")).collect()
    }

    /// Whether a node keeps a namespace now.
    pub fn keeps(&self, node: usize, namespace: &Namespace) -> bool {
        self.with(|inner| {
            let keeps = inner.scopes.as_ref().map(|scopes| scopes.keeps.get(node));
            keeps.is_none_or(|keeps| keeps.is_some_and(|keeps| keeps.contains(namespace.as_str())))
        })
    }

    /// Whether a node may hold ops of a namespace: it keeps it, or has kept it since it has its disk.
    pub fn may_hold(&self, node: usize, namespace: &Namespace) -> bool {
        self.with(|inner| {
            inner.scopes.is_none()
                || inner.on_disk.get(node).is_some_and(|held| held.contains(namespace.as_str()))
        })
    }

    /// What a node keeps, as its config says.
    pub fn replica_scope(&self, node: usize) -> Scope {
        self.with(|inner| match &inner.scopes {
            None => Scope::everything(),
            Some(scopes) => scope(scopes.keeps.get(node).into_iter().flatten()),
        })
    }

    /// What `at` enrols `of` with.
    pub fn enrol(&self, at: usize, of: usize, enrolment: &mut Enrolment) {
        self.with(|inner| {
            let Some(scopes) = &inner.scopes else { return };
            enrolment.replicates = scopes.keeps.get(of).into_iter().flatten().cloned().collect();
            let granted = NAMESPACES.iter().filter(|namespace| scopes.grants(at, of, namespace));
            enrolment.grant = granted.map(|namespace| (*namespace).to_owned()).collect();
            if scopes.accepts_own {
                enrolment.accept = inner.ever.get(of).into_iter().flatten().cloned().collect();
            }
            if scopes.unrelayed.contains(&(at, of)) {
                enrolment.relay.clear();
            }
        });
    }

    /// How many nodes count for a namespace by these enrolments of a coordinator.
    pub fn replicas(enrolled: &[Enrolment], namespace: &Namespace) -> usize {
        let has = |globs: &[String]| globs.iter().any(|glob| glob == "**" || glob == namespace.as_str());
        1 + enrolled.iter().filter(|entry| has(&entry.replicates) && has(&entry.grant)).count()
    }

    /// How many nodes can promise a write of a namespace at a node, if all is well: that node, and those that keep it, are
    /// granted it by that node and grant it that node. None without scopes: all.
    pub fn can_promise(&self, at: usize, namespace: &Namespace) -> Option<usize> {
        self.with(|inner| {
            let (scopes, name) = (inner.scopes.as_ref()?, namespace.as_str());
            let gives_back =
                |of: &usize| *of == at || (scopes.grants(at, *of, name) && scopes.grants(*of, at, name));
            Some(scopes.keepers(name).iter().filter(|of| gives_back(of)).count())
        })
    }

    /// A node is to keep this from its next start on. False if a namespace would not be held by enough nodes that reach
    /// each other, or nothing changes.
    pub fn change(&self, node: usize, keeps: &BTreeSet<String>) -> bool {
        self.with(|inner| {
            let Some(mut scopes) = inner.scopes.clone() else { return false };
            let Some(known) = scopes.keeps.get_mut(node).filter(|known| *known != keeps) else {
                return false;
            };
            known.clone_from(keeps);
            if keeps.is_empty() || !scopes.is_whole() {
                return false;
            }
            inner.scopes = Some(scopes);
            inner.changes += 1;
            let Inner { ever, on_disk, .. } = inner;
            for kept in [ever, on_disk].into_iter().filter_map(|kept| kept.get_mut(node)) {
                kept.extend(keeps.iter().cloned());
            }
            true
        })
    }

    /// What a node keeps or has kept since it has its disk.
    pub fn on_disk(&self, node: usize) -> BTreeSet<String> {
        self.with(|inner| inner.on_disk.get(node).cloned().unwrap_or_default())
    }

    /// A node has another disk, on which is what it had kept when that was `had`: what it kept otherwise is not on it.
    pub fn replace_disk(&self, node: usize, had: BTreeSet<String>) {
        self.with(|inner| {
            let keeps = inner.scopes.as_ref().and_then(|scopes| scopes.keeps.get(node));
            if let (Some(keeps), Some(on_disk)) = (keeps, inner.on_disk.get_mut(node)) {
                *on_disk = had;
                on_disk.extend(keeps.iter().cloned());
            }
        });
    }

    /// How often what a node keeps has changed.
    pub fn changes(&self) -> u64 {
        self.with(|inner| inner.changes)
    }

    /// Whether somebody does not grant somebody something: then ops come by a third node.
    pub fn hold_back(&self) -> bool {
        self.with(|inner| inner.scopes.as_ref().is_some_and(|scopes| !scopes.withheld.is_empty()))
    }

    /// Looks into a frame that a node has sent to another: it may carry no op that its sender does not grant the other, or
    /// that the other has never kept.
    pub fn watch(&self, keys: &MeshKeys, bytes: &Bytes) {
        if !self.are_there() {
            return;
        }
        let Ok(frame) = ReceivedFrame::parse(bytes) else { return };
        let envelope = frame.header().envelope.clone();
        let (nodes, key_id) = (keys.public(), frame.header().key_id);
        let number = |id: &NodeId| nodes.iter().position(|(known, _)| known == id);
        let (Some(from), Some(to)) = (number(&envelope.sender), number(&envelope.recipient)) else { return };
        let signed =
            |(_, keys): &(NodeId, Vec<PublicKey>)| keys.iter().find(|key| key.id() == key_id).cloned();
        let Some(key) = nodes.get(from).and_then(signed) else { return };
        let Ok(verified) = frame.verify(&key) else { return };
        let Ok(Delivery::Page(Page { ops, .. })) =
            verified.body().map_or(Err(()), |body| Delivery::from_bytes(body).map_err(drop))
        else {
            return;
        };
        for op in ops.iter().filter_map(|op| read_op(op.op).ok()).map(|read| read.op) {
            let namespace = &op.key.namespace;
            let may_leave = self.with(|inner| {
                let name = namespace.as_str();
                let is_granted = inner.scopes.as_ref().is_none_or(|scopes| scopes.grants(from, to, name));
                // Of what it keeps now its sender may not know yet.
                is_granted && inner.ever.get(to).is_some_and(|ever| ever.contains(name))
            });
            if !may_leave {
                let what = format!("n{from} sent n{to} {} of {}", op.dot, op.key);
                self.with(|inner| inner.leaks.push(Leak { to, what }));
            }
        }
    }

    /// What has left to who may not have it, since the last call.
    pub fn take_leaks(&self) -> Vec<Leak> {
        self.with(|inner| std::mem::take(&mut inner.leaks))
    }

    fn with<T>(&self, look: impl FnOnce(&mut Inner) -> T) -> T {
        look(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn scope<'a>(names: impl Iterator<Item = &'a String>) -> Scope {
    Scope::parse(names.map(String::as_str)).expect("valid globs")
}
