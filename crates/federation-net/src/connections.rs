//! Which connections are open, by who is at their other end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use federation_core::id::{KeyId, NodeId};
use tokio_util::sync::CancellationToken;

use crate::inner::lock;
use crate::transport::ChannelIdentity;

/// The open connections of a listener or a transport whose other end is proven.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    by_number: BTreeMap<u64, (ChannelIdentity, CancellationToken)>,
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
        channel: ChannelIdentity,
        cut: CancellationToken,
        per_node: usize,
    ) -> Option<Entry> {
        let mut open = lock(&self.0);
        let of_node =
            |(other, _): &&(ChannelIdentity, _)| channel.node().is_some() && channel.node() == other.node();
        if open.by_number.values().filter(of_node).count() >= per_node {
            return None;
        }
        let number = open.next;
        open.next += 1;
        open.by_number.insert(number, (channel, cut));
        Some(Entry { open: Arc::clone(&self.0), number })
    }

    /// Cuts the connections to `node`: those on which it proved itself by `key`, or all of them. Tells how many.
    pub(crate) fn close(&self, node: &NodeId, key: Option<KeyId>) -> usize {
        let open = lock(&self.0);
        let is_meant = |channel: &ChannelIdentity| {
            channel.node() == Some(node) && (key.is_none() || channel.key() == key)
        };
        let meant = open.by_number.values().filter(|(channel, _)| is_meant(channel));
        meant.map(|(_, cut)| cut.cancel()).count()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.open).by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_closed_by_node_or_by_key() {
        let connections = Connections::default();
        let (a, b) = (NodeId::new("a").unwrap(), NodeId::new("b").unwrap());
        let by_key =
            |node: &NodeId, key| ChannelIdentity::NodeKey { node: node.clone(), key: KeyId([key; 8]) };
        let tokens: Vec<_> = (0..4).map(|_| CancellationToken::new()).collect();
        let channels =
            [by_key(&a, 1), by_key(&a, 2), ChannelIdentity::Certificate { node: a.clone() }, by_key(&b, 3)];
        let entries: Vec<_> = channels
            .into_iter()
            .zip(&tokens)
            .map(|(channel, token)| connections.enter(channel, token.clone(), 3).unwrap())
            .collect();
        let more = |channel| connections.enter(channel, CancellationToken::new(), 3);
        assert!(more(by_key(&a, 1)).is_none(), "a has three");
        assert!(more(ChannelIdentity::Unproven).is_some() && more(by_key(&b, 3)).is_some());
        let cut = || tokens.iter().map(CancellationToken::is_cancelled).collect::<Vec<_>>();
        assert_eq!(connections.close(&a, Some(KeyId([3; 8]))), 0);
        assert_eq!(connections.close(&a, Some(KeyId([2; 8]))), 1);
        assert_eq!(cut(), [false, true, false, false]);
        assert_eq!(connections.close(&a, None), 3);
        assert_eq!(cut(), [true, true, true, false]);
        drop(entries);
        assert_eq!(connections.close(&b, None), 0, "a connection that has ended is not there");
    }
}
