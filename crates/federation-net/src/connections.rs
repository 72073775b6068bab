//! Which connections are open, by who is at their other end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use federation_core::id::NodeId;
use tokio_util::sync::CancellationToken;

use crate::inner::lock;
use crate::tls::{PeerTls, Proven};

/// The open connections of a listener or a transport whose other end is proven.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    by_number: BTreeMap<u64, (Option<Proven>, CancellationToken)>,
}

/// A connection's entry, gone when dropped.
#[derive(Debug)]
pub(crate) struct Entry {
    open: Arc<Mutex<Open>>,
    number: u64,
}

impl Connections {
    /// Enters a connection that ends when `cut` is cancelled; not if the proven node has `per_node` already.
    pub(crate) fn enter(
        &self,
        proven: Option<Proven>,
        cut: CancellationToken,
        per_node: usize,
    ) -> Option<Entry> {
        let mut open = lock(&self.0);
        let node = node_of(proven.as_ref());
        let of_node = |(other, _): &&(Option<Proven>, _)| node.is_some() && node == node_of(other.as_ref());
        if open.by_number.values().filter(of_node).count() >= per_node {
            return None;
        }
        let number = open.next;
        open.next += 1;
        open.by_number.insert(number, (proven, cut));
        Some(Entry { open: Arc::clone(&self.0), number })
    }

    /// Cuts the connections whose other end could not prove now who it is. Names it, once for each.
    pub(crate) fn close_unproven(&self, tls: &PeerTls) -> Vec<NodeId> {
        let mut cut_off = Vec::new();
        for (proven, cut) in lock(&self.0).by_number.values() {
            let Some(proven) = proven.as_ref().filter(|proven| !tls.still_proves(proven)) else { continue };
            cut.cancel();
            cut_off.extend(proven.channel.node().cloned());
        }
        cut_off
    }
}

fn node_of(proven: Option<&Proven>) -> Option<&NodeId> {
    proven?.channel.node()
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.open).by_number.remove(&self.number);
    }
}
