//! Pages of ops that their origins did not seal, in frames that are sound.

#![expect(clippy::indexing_slicing, reason = "changes proofs that it has just made")]

use std::sync::Arc;

use federation_core::dot::{Dot, Origin};
use federation_core::hlc::Hlc;
use federation_core::id::{AgentId, BootId, Kind, Namespace, NodeId, RecordId, RecordKey};
use federation_core::op::{Body, Op};
use federation_core::port::sealer::Sealer;
use federation_core::vector_clock::VectorClock;
use federation_wire::frame::Route;
use federation_wire::keys::NodeKey;
use federation_wire::seal::GroupSealer;
use federation_wire::v1::delivery::{Delivery, Lane, Page, PageOp};
use federation_wire::v1::op::{decode_op, encode_op};
use rand::{Rng, RngExt};

use super::ear::Heard;
use super::{Attacker, STRANGER, Sound, Strike};

/// Ops of a group whose proofs all have a path of two hashes.
const GROUP: u64 = 4;
/// A proof begins with the id of the key that signed.
const KEY_ID_BYTES: usize = 8;
/// Bytes of a proof before its path.
const PATH_AT: usize = 80;

/// An op and the proof that goes with it.
pub(super) struct Sealed {
    op: Vec<u8>,
    proof: Vec<u8>,
}

impl Attacker {
    /// The body of a push and how many ops it has; none if nothing was heard to make it from.
    pub(super) fn forge(&mut self, strike: Strike, sound: &Sound) -> Option<(Vec<u8>, usize)> {
        let sender = Origin { node: sound.envelope.sender.clone(), epoch: sound.envelope.sender_boot };
        let ops = match strike {
            Strike::ForgedOrigin => self.under_another_name(&sound.key, &sender),
            Strike::AlteredOp => self.altered()?,
            Strike::WrongPath => {
                let sealed = self.sealed(&sound.key, &sender);
                self.misplaced(sealed)
            }
            _ => {
                let origin = Origin {
                    node: NodeId::new(STRANGER).expect("a valid id"),
                    epoch: BootId(self.random.next_u64()),
                };
                let key = if self.random.random_bool(0.5) { &self.own_key } else { &sound.key };
                let key = Arc::clone(key);
                self.sealed(&key, &origin)
            }
        };
        Some(page(&ops))
    }

    /// New ops of an origin, sealed by `key`.
    fn sealed(&mut self, key: &Arc<NodeKey>, origin: &Origin) -> Vec<Sealed> {
        let first = 1_000_000 + self.random.random_range(0..1_000_000);
        self.sealed_from(key, origin, first)
    }

    /// The same from this number on.
    pub(super) fn sealed_from(&self, key: &Arc<NodeKey>, origin: &Origin, first: u64) -> Vec<Sealed> {
        let sealer = GroupSealer::new(Arc::clone(key));
        let now = self.wall.now();
        let encoded: Vec<_> = (first..first + GROUP)
            .map(|seq| {
                encode_op(&Op {
                    dot: Dot { origin: origin.clone(), seq },
                    hlc: Hlc::at(now),
                    key: record_key(seq),
                    author: AgentId::new("attacker").expect("a valid id"),
                    context: VectorClock::new(),
                    body: Body::Put { payload: b"forged"[..].into(), embedding: None, archived: false },
                })
            })
            .collect();
        let hashes: Vec<_> = encoded.iter().map(|op| op.hash).collect();
        let proofs = sealer.seal(origin, &hashes);
        encoded
            .iter()
            .zip(proofs)
            .map(|(op, proof)| Sealed { op: op.bytes.to_vec(), proof: proof.to_vec() })
            .collect()
    }

    /// Ops under the name of a node, sealed by another; which says so, or names the key that it should be.
    fn under_another_name(&mut self, key: &Arc<NodeKey>, sealer: &Origin) -> Vec<Sealed> {
        let others: Vec<_> = self.nodes.iter().filter(|(id, _)| *id != sealer.node).cloned().collect();
        let at = self.random.random_range(0..others.len());
        let Some((node, true_key)) = others.get(at) else { return Vec::new() };
        let epoch = self.epoch_of(node).unwrap_or(BootId(self.random.next_u64()));
        let mut ops = self.sealed(key, &Origin { node: node.clone(), epoch });
        if self.random.random_bool(0.5) {
            for sealed in &mut ops {
                sealed.proof[..KEY_ID_BYTES].copy_from_slice(&true_key.id().0);
            }
        }
        ops
    }

    /// The last epoch in which a node has made ops, of those that were heard.
    pub(super) fn epoch_of(&self, node: &NodeId) -> Option<BootId> {
        let ops = self.heard_ops();
        let read = ops.iter().rev().filter_map(|sealed| decode_op(&sealed.op).ok());
        read.map(|op| op.dot.origin).find(|origin| origin.node == *node).map(|origin| origin.epoch)
    }

    /// An op that somebody has made, with something changed.
    fn altered(&mut self) -> Option<Vec<Sealed>> {
        let mut heard = self.heard_ops();
        if heard.is_empty() {
            return None;
        }
        let mut sealed = heard.swap_remove(self.random.random_range(0..heard.len()));
        let mut op = decode_op(&sealed.op).ok()?;
        match self.random.random_range(0..4) {
            0 => op.body = Body::Put { payload: b"altered"[..].into(), embedding: None, archived: false },
            1 => op.key = record_key(0),
            2 => op.dot.seq += 1_000_000,
            _ => {
                let at = self.random.random_range(0..sealed.op.len());
                sealed.op[at] ^= 1 << self.random.random_range(0..8);
                return Some(vec![sealed]);
            }
        }
        sealed.op = encode_op(&op).bytes.to_vec();
        Some(vec![sealed])
    }

    /// Ops whose proofs are of each other, or have a bit of their path changed, or lack some of it.
    fn misplaced(&mut self, mut ops: Vec<Sealed>) -> Vec<Sealed> {
        match self.random.random_range(0..3) {
            0 => {
                let mut proofs: Vec<_> = ops.iter().map(|sealed| sealed.proof.clone()).collect();
                proofs.rotate_left(1);
                for (sealed, proof) in ops.iter_mut().zip(proofs) {
                    sealed.proof = proof;
                }
            }
            1 => {
                for sealed in &mut ops {
                    let at = self.random.random_range(PATH_AT..sealed.proof.len());
                    sealed.proof[at] ^= 1 << self.random.random_range(0..8);
                }
            }
            _ => {
                for sealed in &mut ops {
                    sealed.proof.truncate(self.random.random_range(0..sealed.proof.len()));
                }
            }
        }
        ops
    }

    /// The bytes of every op of late that a boot of a node has sent.
    pub(super) fn ops_sent_by(&self, node: &NodeId, boot: BootId) -> Vec<Vec<u8>> {
        let is_of = |heard: &Heard| heard.envelope.sender == *node && heard.envelope.sender_boot == boot;
        self.ops_of(is_of).into_iter().map(|sealed| sealed.op).collect()
    }

    /// Every op of the pages of late, whoever they were sent to.
    fn heard_ops(&self) -> Vec<Sealed> {
        self.ops_of(|_| true)
    }

    fn ops_of(&self, fits: impl Fn(&Heard) -> bool) -> Vec<Sealed> {
        let mut ops = Vec::new();
        let pushes = self.ear.of_late().into_iter().filter(|heard| heard.route() == Route::Push);
        for heard in pushes.filter(|heard| fits(heard)) {
            if let Ok(Delivery::Page(page)) = Delivery::from_bytes(&heard.body()) {
                let sealed =
                    page.ops.iter().map(|op| Sealed { op: op.op.to_vec(), proof: op.proof.to_vec() });
                ops.extend(sealed);
            }
        }
        ops
    }
}

/// The body of a push of these ops, and how many they are.
pub(super) fn page(ops: &[Sealed]) -> (Vec<u8>, usize) {
    let page = ops.iter().map(|sealed| PageOp { op: &sealed.op, proof: &sealed.proof }).collect();
    (Page { lane: Lane::Live, receipts: Vec::new(), ops: page }.to_bytes(), ops.len())
}

fn record_key(number: u64) -> RecordKey {
    RecordKey {
        namespace: Namespace::new("sim").expect("a valid namespace"),
        kind: Kind::new("note").expect("a valid kind"),
        id: RecordId::new(&format!("attacked-{number}")).expect("a valid id"),
    }
}
