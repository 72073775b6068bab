//! What a node remembers of itself and of the mesh: as records of the log, and as keys of the index.

use std::sync::Arc;

use federation_core::id::{BootId, LogPosition, NodeId, StoreId};
use federation_core::limits::BOOTS_MAX;
use federation_core::port::store::{Boot, Fact, Facts, PeerFact, Rebootstrap};
use federation_core::scope::Scope;
use federation_wire::codec;
use federation_wire::v1::types::Wire;

use super::base::Base;
use super::values::decode;
use super::{SchemaError, keys, letters};
use crate::index::Batch;
use crate::log::RecordKind;

/// A fact as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogFact {
    /// The store began.
    Store {
        store: StoreId,
        /// The node that the directory belongs to.
        node: NodeId,
        /// Whether the mesh was new. If not, the node re-bootstraps.
        new_mesh: bool,
    },
    /// A boot began.
    Boot {
        boot: BootId,
        /// Where the one before it ended.
        previous_end: LogPosition,
    },
    /// The boot ended in order: nothing of it follows.
    Closed,
    /// Own ops carry this epoch.
    Epoch(BootId),
    /// The node keeps this from here on.
    ReplicaScope(Scope),
    /// What the port was asked to remember.
    Remember(Fact),
    /// All that is remembered, but for dead letters; what was said before counts no more.
    Base(Box<Base>),
}

/// The facts, and what only the store asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Memory {
    /// What the port shows. Shared with snapshots, so it is copied when it changes and only then.
    pub(crate) facts: Arc<Facts>,
    /// The node that the directory belongs to.
    pub(crate) node: Option<NodeId>,
    /// Whether the last thing that the log says is that a boot ended in order.
    pub(crate) is_closed: bool,
}

impl LogFact {
    /// Kind and content of its record.
    pub(crate) fn encode(&self) -> (RecordKind, Vec<u8>) {
        match self {
            Self::Store { store, node, new_mesh } => {
                (RecordKind::Store, codec::encode(&(Wire(*store), Wire(node), *new_mesh)))
            }
            Self::Boot { boot, previous_end } => {
                (RecordKind::Boot, codec::encode(&(Wire(*boot), Wire(*previous_end))))
            }
            Self::Closed => (RecordKind::Closed, Vec::new()),
            Self::Epoch(epoch) => (RecordKind::Epoch, codec::encode(&Wire(*epoch))),
            Self::ReplicaScope(scope) => (RecordKind::ReplicaScope, codec::encode(&Wire(scope))),
            Self::Base(base) => (RecordKind::Base, base.encode()),
            Self::Remember(fact) => match fact {
                Fact::Peer(peer, known) => (RecordKind::Peer, codec::encode(&(Wire(peer), Wire(known)))),
                Fact::DeadLetter { peer, dot, reason } => {
                    (RecordKind::DeadLetter, codec::encode(&(Wire(peer), Wire(dot), Wire(*reason))))
                }
                Fact::DeadLettersRetried(peer) => {
                    (RecordKind::DeadLettersRetried, codec::encode(&Wire(peer)))
                }
                Fact::DeadLetterRetried { peer, dot } => {
                    (RecordKind::DeadLetterRetried, codec::encode(&(Wire(peer), Wire(dot))))
                }
                Fact::DeadLetterDiscarded { peer, dot } => {
                    (RecordKind::DeadLetterDiscarded, codec::encode(&(Wire(peer), Wire(dot))))
                }
                Fact::RebootstrapBegun { store } => {
                    (RecordKind::RebootstrapBegun, codec::encode(&Wire(*store)))
                }
                Fact::RebootstrapDrained(peer) => {
                    (RecordKind::RebootstrapDrained, codec::encode(&Wire(peer)))
                }
                Fact::RebootstrapDone => (RecordKind::RebootstrapDone, Vec::new()),
            },
        }
    }

    /// Reads what [`LogFact::encode`] wrote; none if the kind is not that of a fact.
    pub(crate) fn decode(kind: RecordKind, content: &[u8]) -> Option<Result<Self, SchemaError>> {
        const WHAT: &str = "a fact in the log";
        Some(match kind {
            RecordKind::Store => decode(WHAT, content)
                .map(|(Wire(store), Wire(node), new_mesh)| Self::Store { store, node, new_mesh }),
            RecordKind::Boot => decode(WHAT, content)
                .map(|(Wire(boot), Wire(previous_end))| Self::Boot { boot, previous_end }),
            RecordKind::Epoch => decode(WHAT, content).map(|Wire(epoch)| Self::Epoch(epoch)),
            RecordKind::Peer => {
                decode(WHAT, content).map(|(Wire(peer), Wire(known))| Self::Remember(Fact::Peer(peer, known)))
            }
            RecordKind::DeadLetter => decode(WHAT, content).map(|(Wire(peer), Wire(dot), Wire(reason))| {
                Self::Remember(Fact::DeadLetter { peer, dot, reason })
            }),
            RecordKind::ReplicaScope => decode(WHAT, content).map(|Wire(scope)| Self::ReplicaScope(scope)),
            RecordKind::DeadLettersRetried => {
                decode(WHAT, content).map(|Wire(peer)| Self::Remember(Fact::DeadLettersRetried(peer)))
            }
            RecordKind::DeadLetterRetried => decode(WHAT, content)
                .map(|(Wire(peer), Wire(dot))| Self::Remember(Fact::DeadLetterRetried { peer, dot })),
            RecordKind::DeadLetterDiscarded => decode(WHAT, content)
                .map(|(Wire(peer), Wire(dot))| Self::Remember(Fact::DeadLetterDiscarded { peer, dot })),
            RecordKind::RebootstrapBegun => {
                decode(WHAT, content).map(|Wire(store)| Self::Remember(Fact::RebootstrapBegun { store }))
            }
            RecordKind::RebootstrapDrained => {
                decode(WHAT, content).map(|Wire(peer)| Self::Remember(Fact::RebootstrapDrained(peer)))
            }
            RecordKind::Base => Base::decode(content).map(|base| Self::Base(Box::new(base))),
            RecordKind::RebootstrapDone if content.is_empty() => Ok(Self::Remember(Fact::RebootstrapDone)),
            RecordKind::Closed if content.is_empty() => Ok(Self::Closed),
            RecordKind::RebootstrapDone | RecordKind::Closed => Err(SchemaError::Key { what: WHAT }),
            RecordKind::Op
            | RecordKind::Clock
            | RecordKind::Drop
            | RecordKind::Checkpoint
            | RecordKind::IdempotencyKey
            | RecordKind::Quarantine
            | RecordKind::Annotation => return None,
        })
    }
}

impl Memory {
    /// Takes a fact in, and writes the keys that it changes.
    ///
    /// Boots beyond [`BOOTS_MAX`] go, oldest first. A re-bootstrap ends the innocence of a new mesh: what the
    /// node then takes in comes from stores that may have collected.
    pub(crate) fn learn(&mut self, fact: LogFact, batch: &mut Batch) {
        if !matches!(fact, LogFact::Boot { .. } | LogFact::Closed) {
            self.goes_on(batch);
        }
        let facts = Arc::make_mut(&mut self.facts);
        match fact {
            LogFact::Store { store, node, new_mesh } => {
                facts.store = Some(store);
                facts.pristine = new_mesh;
                facts.rebootstrap = (!new_mesh).then(Rebootstrap::default);
                batch.put(key(NODE), codec::encode(&Wire(&node)));
                self.node = Some(node);
                self.write_store(batch);
                self.write_rebootstrap(batch);
            }
            LogFact::Boot { boot, previous_end } => {
                if let Some(previous) = facts.boots.last_mut() {
                    previous.ended_at.get_or_insert(previous_end);
                }
                facts.boots.push(Boot { id: boot, ended_at: None });
                let surplus = facts.boots.len().saturating_sub(BOOTS_MAX);
                facts.boots.drain(..surplus);
                facts.ended_in_order &= std::mem::take(&mut self.is_closed);
                batch.put(key(BOOTS), codec::encode(&Wire(&facts.boots)));
                self.write_ending(batch);
            }
            LogFact::Closed => {
                self.is_closed = true;
                self.write_ending(batch);
            }
            LogFact::Epoch(epoch) => {
                facts.own_epoch = Some(epoch);
                facts.ended_in_order = true;
                self.write_ending(batch);
                batch.put(key(EPOCH), codec::encode(&Wire(epoch)));
            }
            LogFact::Base(base) => self.begin_again(*base, batch),
            LogFact::ReplicaScope(scope) => {
                // Ops of an epoch are all of one scope: what completes them relies on it.
                facts.own_epoch = None;
                batch.remove(key(EPOCH));
                batch.put(key(SCOPE), codec::encode(&Wire(&scope)));
                facts.replica_scope = scope;
            }
            LogFact::Remember(Fact::Peer(peer, known)) => {
                batch.put(peer_key(PEER, &peer), codec::encode(&Wire(&known)));
                facts.peers.insert(peer, known);
            }
            LogFact::Remember(Fact::DeadLetter { peer, dot, reason }) => {
                letters::note(facts, peer, dot, reason, batch);
            }
            LogFact::Remember(Fact::DeadLettersRetried(peer)) => {
                letters::end_those_that_may(facts, &peer, batch);
            }
            LogFact::Remember(Fact::DeadLetterRetried { peer, dot }) => {
                letters::end(facts, &peer, &dot, batch);
            }
            LogFact::Remember(Fact::DeadLetterDiscarded { peer, dot }) => {
                letters::discard(facts, &peer, &dot, batch);
            }
            LogFact::Remember(Fact::RebootstrapBegun { store }) => {
                facts.store = Some(store);
                facts.pristine = false;
                facts.own_epoch = None;
                batch.remove(key(EPOCH));
                facts.rebootstrap = Some(Rebootstrap::default());
                self.write_store(batch);
                self.write_rebootstrap(batch);
            }
            LogFact::Remember(Fact::RebootstrapDrained(peer)) => {
                if let Some(rebootstrap) = &mut facts.rebootstrap
                    && !rebootstrap.drained.contains(&peer)
                {
                    rebootstrap.drained.push(peer);
                }
                self.write_rebootstrap(batch);
            }
            LogFact::Remember(Fact::RebootstrapDone) => {
                facts.rebootstrap = None;
                self.write_rebootstrap(batch);
            }
        }
    }

    /// Whether a node that keeps `scope` from here on keeps anything that it did not.
    pub(crate) fn is_widened_by(&self, scope: &Scope) -> bool {
        !self.facts.replica_scope.covers(scope)
    }

    /// Something else than a boot follows what the log said last: if that was an end, it was none.
    pub(crate) fn goes_on(&mut self, batch: &mut Batch) {
        if std::mem::take(&mut self.is_closed) {
            self.write_ending(batch);
        }
    }

    /// Takes in one key of [`keys::FACT`], as [`Memory::learn`] wrote it.
    pub(crate) fn read(&mut self, key: &[u8], value: &[u8]) -> Result<(), SchemaError> {
        const WHAT: &str = "a fact of the index";
        const MALFORMED: SchemaError = SchemaError::Key { what: WHAT };
        let (tag, rest) = key.get(1..).and_then(<[u8]>::split_first).ok_or(MALFORMED)?;
        let facts = Arc::make_mut(&mut self.facts);
        match *tag {
            NODE => self.node = Some(decode(WHAT, value).map(|Wire(node)| node)?),
            STORE => {
                let (Wire(store), pristine) = decode(WHAT, value)?;
                (facts.store, facts.pristine) = (Some(store), pristine);
            }
            BOOTS => facts.boots = decode(WHAT, value).map(|Wire(boots)| boots)?,
            ENDING => (facts.ended_in_order, self.is_closed) = decode(WHAT, value)?,
            SCOPE => facts.replica_scope = decode(WHAT, value).map(|Wire(scope)| scope)?,
            EPOCH => facts.own_epoch = Some(decode(WHAT, value).map(|Wire(epoch)| epoch)?),
            REBOOTSTRAP => {
                let Wire(drained): Wire<Option<Vec<NodeId>>> = decode(WHAT, value)?;
                facts.rebootstrap = drained.map(|drained| Rebootstrap { drained });
            }
            PEER => {
                let (peer, _) = split_peer(rest).ok_or(MALFORMED)?;
                let Wire(known): Wire<PeerFact> = decode(WHAT, value)?;
                facts.peers.insert(peer, known);
            }
            letters::LETTER => letters::read(facts, rest, value)?,
            _ => return Err(MALFORMED),
        }
        Ok(())
    }

    /// Takes all of its keys out of the index.
    pub(super) fn forget(&self, batch: &mut Batch) {
        for tag in [NODE, STORE, BOOTS, EPOCH, SCOPE, ENDING, REBOOTSTRAP] {
            batch.remove(key(tag));
        }
        for peer in self.facts.peers.keys() {
            batch.remove(peer_key(PEER, peer));
        }
        letters::forget(&self.facts, batch);
    }

    /// Writes all of its keys, but those of dead letters.
    pub(super) fn write(&self, batch: &mut Batch) {
        let facts = &*self.facts;
        if let Some(node) = &self.node {
            batch.put(key(NODE), codec::encode(&Wire(node)));
        }
        if let Some(epoch) = facts.own_epoch {
            batch.put(key(EPOCH), codec::encode(&Wire(epoch)));
        }
        batch.put(key(BOOTS), codec::encode(&Wire(&facts.boots)));
        batch.put(key(SCOPE), codec::encode(&Wire(&facts.replica_scope)));
        for (peer, known) in &facts.peers {
            batch.put(peer_key(PEER, peer), codec::encode(&Wire(known)));
        }
        self.write_store(batch);
        self.write_ending(batch);
        self.write_rebootstrap(batch);
    }

    fn write_store(&self, batch: &mut Batch) {
        if let Some(store) = self.facts.store {
            batch.put(key(STORE), codec::encode(&(Wire(store), self.facts.pristine)));
        }
    }

    fn write_ending(&self, batch: &mut Batch) {
        batch.put(key(ENDING), codec::encode(&(self.facts.ended_in_order, self.is_closed)));
    }

    fn write_rebootstrap(&self, batch: &mut Batch) {
        let drained = self.facts.rebootstrap.as_ref().map(|r| r.drained.clone());
        batch.put(key(REBOOTSTRAP), codec::encode(&Wire(drained)));
    }
}

fn key(tag: u8) -> Vec<u8> {
    vec![keys::FACT, tag]
}

pub(super) fn peer_key(tag: u8, peer: &NodeId) -> Vec<u8> {
    let mut out = key(tag);
    out.extend_from_slice(peer.as_str().as_bytes());
    out.push(0);
    out
}

pub(super) fn split_peer(bytes: &[u8]) -> Option<(NodeId, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let (peer, rest) = bytes.split_at_checked(end)?;
    Some((NodeId::new(std::str::from_utf8(peer).ok()?).ok()?, rest.get(1..)?))
}

const NODE: u8 = b'n';
const STORE: u8 = b's';
const BOOTS: u8 = b'b';
const EPOCH: u8 = b'e';
const SCOPE: u8 = b'k';
const ENDING: u8 = b'c';
const REBOOTSTRAP: u8 = b'r';
const PEER: u8 = b'p';

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: LogFact = LogFact::Boot { boot: BootId(2), previous_end: LogPosition(0) };

    /// What a boot after these facts finds, from the facts themselves and from the keys that they left.
    fn ended_in_order(facts: Vec<LogFact>) -> bool {
        let mut batch = Batch::new();
        let mut memory = Memory::default();
        for fact in facts {
            memory.learn(fact, &mut batch);
        }
        let mut again = Memory::default();
        for (key, value) in batch.into_changes() {
            if let Some(value) = value {
                again.read(&key, &value).unwrap();
            }
        }
        assert_eq!(again, memory);
        let found = [memory, again].map(|mut memory| {
            memory.learn(BOOT, &mut Batch::new());
            memory.facts.ended_in_order
        });
        assert_eq!(found[0], found[1]);
        found[0]
    }

    #[test]
    fn a_boot_ended_in_order_if_nothing_follows_its_end() {
        let epoch = || LogFact::Epoch(BootId(1));
        assert!(ended_in_order(vec![epoch(), LogFact::Closed]));
        assert!(!ended_in_order(vec![epoch()]));
        assert!(!ended_in_order(vec![LogFact::Closed, epoch()]));
        let done = LogFact::Remember(Fact::RebootstrapDone);
        assert!(!ended_in_order(vec![epoch(), LogFact::Closed, done]));
        assert!(ended_in_order(vec![epoch(), LogFact::Closed, BOOT, LogFact::Closed]));
        assert!(!ended_in_order(vec![epoch(), BOOT, LogFact::Closed]), "the one before did not");
        assert!(ended_in_order(vec![epoch(), BOOT, epoch(), LogFact::Closed]), "but the epoch is newer");
    }
}
