//! What the scopes come to for this node: who counts for a namespace, what a completion is worth, where a re-bootstrap
//! takes from. Looked up at each use: enrolments may change while a node runs.

use std::sync::Arc;

use federation_core::attest::{Claimable, CompletionScopes, Trust};
use federation_core::id::Namespace;
use federation_core::port::store::Facts;
use federation_core::rejoin::DrainedPeer;
use federation_core::scope::Scope;
use federation_wire::v1::delivery::Complete;

use crate::inner::Inner;
use crate::members::Members;
use crate::peer::Peer;

/// Where a node that re-bootstraps takes from, and how many of them it needs.
pub(crate) struct Drains {
    /// Nodes that may hold a write of a namespace that this node keeps, this one included.
    pub(crate) n: usize,
    /// The smallest quorum that such a write can have had.
    pub(crate) w_min: usize,
    /// Those of the others that give this node anything.
    pub(crate) sources: Vec<Arc<Peer>>,
}

impl Inner {
    /// What this node keeps.
    pub(crate) fn own_scope(&self) -> Scope {
        self.snapshot().facts.replica_scope.clone()
    }

    /// The peers that count for a namespace: dialled ones to which its ops leave.
    pub(crate) fn replicas(&self, members: &Members, namespace: &Namespace) -> Vec<Arc<Peer>> {
        let counts = |peer: &&Arc<Peer>| self.gate.trust(&peer.id).lets_out(namespace);
        members.dialled().filter(counts).cloned().collect()
    }

    /// What of its clock a completion of `sender` may bring into this node's.
    pub(crate) fn claimable_from(&self, sender: &Peer, complete: &Complete) -> Claimable {
        let scopes = CompletionScopes {
            sender: &complete.replica_scope,
            grant: &complete.grant,
            relay: &self.gate.trust(&sender.id).relay,
            receiver: &self.own_scope(),
        };
        scopes.claimable()
    }

    /// What a drain of a peer is worth by the scopes that its completion names; none: nothing.
    pub(crate) fn worth_of_drain(&self, complete: &Complete) -> Option<DrainedPeer> {
        let own = self.own_scope();
        if complete.replica_scope.covers(&own) && complete.grant.covers(&own) {
            Some(DrainedPeer::Whole)
        } else {
            complete.grant.meets(&own).then_some(DrainedPeer::Partial)
        }
    }

    /// Where this node's re-bootstrap takes from.
    ///
    /// Where all keep and give everything, each write was held by W of the same n. Else a coordinator may have counted
    /// this node and itself alone: which others it gave the write to, this node does not know. Then W of two is what it
    /// is sure of, and it asks all.
    pub(crate) fn drains(&self, facts: &Facts) -> Drains {
        let (own, members) = (&facts.replica_scope, self.members());
        let everything = Scope::everything();
        let mut drains = Drains { n: 1, w_min: 1, sources: Vec::new() };
        let mut is_uniform = own.covers(&everything);
        for peer in members.dialled() {
            let Trust { replicates, grant, .. } = self.gate.trust(&peer.id);
            let state = peer.state();
            // What it gives is not known before it has said hello.
            let granted = state.granted.as_ref().unwrap_or(&everything);
            is_uniform &= [&replicates, &grant, granted].iter().all(|scope| scope.covers(&everything));
            if replicates.meets(own) {
                drains.n += 1;
                if granted.meets(own) {
                    drains.sources.push(Arc::clone(peer));
                }
            }
        }
        let n_min = if is_uniform { drains.n } else { drains.n.min(2) };
        drains.w_min = members.write_levels.needed_min(n_min).max(1);
        drains
    }
}
