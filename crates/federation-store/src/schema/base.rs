//! What is remembered, said at once: so that the records that it has come from can go.

use std::collections::BTreeMap;
use std::sync::Arc;

use federation_core::id::{BootId, NodeId, StoreId};
use federation_core::port::store::{Boot, Fact, Facts, PeerFact, Rebootstrap};
use federation_core::scope::Scope;
use federation_wire::codec;
use federation_wire::v1::types::Wire;

use super::SchemaError;
use super::facts::{LogFact, Memory};
use super::values::decode;
use crate::index::Batch;

/// A memory without its dead letters, which stand behind it as facts of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    node: Option<NodeId>,
    store: Option<StoreId>,
    boots: Vec<Boot>,
    own_epoch: Option<BootId>,
    ended_in_order: bool,
    rebootstrap: Option<Rebootstrap>,
    pristine: bool,
    replica_scope: Scope,
    peers: BTreeMap<NodeId, PeerFact>,
}

impl Base {
    pub(super) fn encode(&self) -> Vec<u8> {
        let drained = self.rebootstrap.as_ref().map(|rebootstrap| rebootstrap.drained.clone());
        let peers: Vec<_> = self.peers.iter().map(|(peer, known)| (Wire(peer), Wire(known))).collect();
        codec::encode(&(
            (Wire(&self.node), Wire(&self.store), Wire(&self.boots)),
            (Wire(&self.own_epoch), self.ended_in_order, Wire(drained), self.pristine),
            (Wire(&self.replica_scope), peers),
        ))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, SchemaError> {
        let (
            (Wire(node), Wire(store), Wire(boots)),
            (Wire(own_epoch), ended_in_order, Wire(drained), pristine),
            (Wire(replica_scope), peers),
        ) = decode("a base in the log", bytes)?;
        let peers: Vec<(Wire<NodeId>, Wire<PeerFact>)> = peers;
        let drained: Option<Vec<NodeId>> = drained;
        Ok(Self {
            node,
            store,
            boots,
            own_epoch,
            ended_in_order,
            rebootstrap: drained.map(|drained| Rebootstrap { drained }),
            pristine,
            replica_scope,
            peers: peers.into_iter().map(|(Wire(peer), Wire(known))| (peer, known)).collect(),
        })
    }

    /// The memory that it says, of which nothing is in the index yet. The boot that wrote it had not ended.
    pub(super) fn into_memory(self) -> Memory {
        let facts = Facts {
            store: self.store,
            boots: self.boots,
            own_epoch: self.own_epoch,
            ended_in_order: self.ended_in_order,
            rebootstrap: self.rebootstrap,
            pristine: self.pristine,
            replica_scope: self.replica_scope,
            peers: self.peers,
            dead_letters: BTreeMap::new(),
        };
        Memory { facts: Arc::new(facts), node: self.node, is_closed: false }
    }
}

impl Memory {
    /// All of it as facts, a [`Base`] first. Together in one group they say it, whatever was said before.
    pub(crate) fn restated(&self) -> Vec<LogFact> {
        let facts = &*self.facts;
        let base = Base {
            node: self.node.clone(),
            store: facts.store,
            boots: facts.boots.clone(),
            own_epoch: facts.own_epoch,
            ended_in_order: facts.ended_in_order,
            rebootstrap: facts.rebootstrap.clone(),
            pristine: facts.pristine,
            replica_scope: facts.replica_scope.clone(),
            peers: facts.peers.clone(),
        };
        let letters = facts.dead_letters.iter().flat_map(|(peer, letters)| {
            letters.iter().flat_map(|(dot, letter)| {
                let name = || (peer.clone(), dot.clone());
                let (of, reason) = (name(), letter.reason);
                let refused = Fact::DeadLetter { peer: of.0, dot: of.1, reason };
                let discarded = letter.is_discarded.then(name);
                let discarded = discarded.map(|(peer, dot)| Fact::DeadLetterDiscarded { peer, dot });
                std::iter::once(refused).chain(discarded).map(LogFact::Remember)
            })
        });
        std::iter::once(LogFact::Base(Box::new(base))).chain(letters).collect()
    }

    /// Forgets all that it has, and takes in what `base` says in its place.
    pub(super) fn begin_again(&mut self, base: Base, batch: &mut Batch) {
        self.forget(batch);
        *self = base.into_memory();
        self.write(batch);
    }
}

#[cfg(test)]
mod tests {
    use federation_core::dot::{Dot, Origin};
    use federation_core::id::LogPosition;
    use federation_core::port::store::RefusalReason;

    use super::*;
    use crate::index::{Index, IndexOpener, OrderedIndexes};
    use crate::schema::keys;
    use crate::state::each;

    fn remembered() -> Memory {
        let (peer, store) = (NodeId::new("b").unwrap(), StoreId { created_ms: 5, random: 6 });
        let origin = Origin { node: peer.clone(), epoch: BootId(3) };
        let letter = |seq| {
            let dot = Dot { origin: origin.clone(), seq };
            LogFact::Remember(Fact::DeadLetter { peer: peer.clone(), dot, reason: RefusalReason::TooLarge })
        };
        let facts = [
            LogFact::Store { store, node: NodeId::new("a").unwrap(), new_mesh: false },
            LogFact::Boot { boot: BootId(1), previous_end: LogPosition(0) },
            LogFact::ReplicaScope(Scope::parse(["team/*"]).unwrap()),
            LogFact::Epoch(BootId(1)),
            LogFact::Closed,
            LogFact::Boot { boot: BootId(2), previous_end: LogPosition(70) },
            LogFact::Remember(Fact::RebootstrapDrained(peer.clone())),
            LogFact::Remember(Fact::Peer(
                peer.clone(),
                PeerFact { store, boot: BootId(8), position: LogPosition(9) },
            )),
            letter(4),
            letter(5),
            LogFact::Remember(Fact::DeadLetterDiscarded {
                peer,
                dot: Dot { origin: origin.clone(), seq: 5 },
            }),
        ];
        let mut memory = Memory::default();
        for fact in facts {
            memory.learn(fact, &mut Batch::new());
        }
        memory
    }

    #[test]
    fn a_memory_that_is_restated_is_itself_whatever_was_known_before() {
        let memory = remembered();
        let mut other = remembered();
        let mut written = Batch::new();
        let more = [
            Fact::Peer(
                NodeId::new("c").unwrap(),
                PeerFact {
                    store: StoreId { created_ms: 1, random: 1 },
                    boot: BootId(1),
                    position: LogPosition(1),
                },
            ),
            Fact::DeadLettersRetried(NodeId::new("b").unwrap()),
            Fact::DeadLetter {
                peer: NodeId::new("c").unwrap(),
                dot: Dot { origin: Origin { node: NodeId::new("a").unwrap(), epoch: BootId(1) }, seq: 1 },
                reason: RefusalReason::Invalid,
            },
        ];
        for fact in more {
            other.learn(LogFact::Remember(fact), &mut written);
        }
        let (mut none, mut written_anew) = (Memory::default(), Batch::new());
        for fact in memory.restated() {
            let (kind, content) = fact.encode();
            assert_eq!(LogFact::decode(kind, &content), Some(Ok(fact.clone())));
            other.learn(fact.clone(), &mut written);
            none.learn(fact, &mut written_anew);
        }
        assert_eq!((&other, &none), (&memory, &memory));
        for batch in [written, written_anew] {
            let index = OrderedIndexes::new().open().unwrap();
            index.apply(batch).unwrap();
            let mut read = Memory::default();
            each(&index, &[keys::FACT], |key, value| read.read(key, value)).unwrap();
            assert_eq!(read, memory, "the index says the same");
        }
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic() {
        let (_, content) = remembered().restated().remove(0).encode();
        for cut in 0..content.len() {
            assert!(Base::decode(&content[..cut]).is_err(), "{cut}");
        }
    }
}
