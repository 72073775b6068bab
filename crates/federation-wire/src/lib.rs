//! Bytes to types and back: the codec, signed frames, the bytes of an op and their proof, the messages between
//! nodes, identity, the rules of a memory, and the types of the client API.
//!
//! A sibling service needs this crate and core to read, verify and make records of its own. There is no socket,
//! no task, no file and no wall clock here; randomness and time are arguments. Whatever comes from the network
//! or from a disk is bounded by [`federation_core::limits`], has one encoding, and never panics.
//!
//! ```
//! use std::sync::Arc;
//!
//! use federation_core::dot::{Dot, Origin};
//! use federation_core::hlc::Hlc;
//! use federation_core::id::{AgentId, BootId, Kind, Namespace, NodeId, RecordId, RecordKey};
//! use federation_core::op::{Body, Op};
//! use federation_core::port::sealer::Sealer;
//! use federation_core::time::WallMs;
//! use federation_core::vector_clock::VectorClock;
//! use federation_wire::identity::KeyRefusal;
//! use federation_wire::keys::NodeKey;
//! use federation_wire::seal::{GroupSealer, verify_proof};
//! use federation_wire::v1::op::decode_op;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let origin = Origin { node: NodeId::new("a")?, epoch: BootId(1) };
//! let op = Op {
//!     dot: Dot { origin: origin.clone(), seq: 1 },
//!     hlc: Hlc::at(WallMs(1_000)),
//!     key: RecordKey {
//!         namespace: Namespace::new("team/settings")?,
//!         kind: Kind::new("setting")?,
//!         id: RecordId::new("theme")?,
//!     },
//!     author: AgentId::new("ada")?,
//!     context: VectorClock::new(),
//!     body: Body::Put { payload: Arc::from(*b"dark"), embedding: None, archived: false },
//! };
//!
//! // The origin makes the bytes once and proves a group of them with one signature.
//! let key = Arc::new(NodeKey::from_seed(&[7; 32]));
//! let sealer = GroupSealer::new(Arc::clone(&key));
//! let encoded = sealer.encode(&op);
//! let proofs = sealer.seal(&origin, &[encoded.hash]);
//!
//! // Anyone who knows the origin's key can read and verify each op alone.
//! assert_eq!(decode_op(&encoded.bytes)?, op);
//! let keys = |_: &Dot, id| if id == key.id() { Ok(key.public().clone()) } else { Err(KeyRefusal::Unknown) };
//! verify_proof(&op.dot, &encoded.hash, &proofs[0], keys)?;
//! # Ok(())
//! # }
//! ```

pub mod api;
pub mod causal_token;
pub mod codec;
pub mod embedding;
pub mod frame;
pub mod hex;
pub mod identity;
pub mod keys;
pub mod memory;
mod merkle;
pub mod receipt;
pub mod seal;
pub mod slug;
pub mod v1;
