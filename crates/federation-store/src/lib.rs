//! Durable state of a node: a log of its own with an index beside it, behind core's store port.
//!
//! An answer means durable: it is given after the `fdatasync` of the group that holds what it answers, and after
//! nothing else. This crate executes what [`federation_core::decide`] has planned; it makes no decision of the
//! protocol, opens no socket, and starts no async task.
//!
//! ```
//! use std::sync::Arc;
//! # use federation_core::{dot::Origin, id::{BootId, NodeId, OpHash}, op::{EncodedOp, Op}, time::WallMs};
//! # use federation_core::port::{clock::WallClock, sealer::Sealer, store::{OpenIds, ReplicaStore}};
//! use federation_core::scope::Scope;
//! use federation_store::{Engine, InlineStore, Options, OrderedIndexes, Setup, SimulatedDisk, Stepping};
//! # struct Fixed;
//! # impl WallClock for Fixed { fn now(&self) -> WallMs { WallMs(1) } }
//! # struct Unsigned;
//! # impl Sealer for Unsigned {
//! #     fn encode(&self, op: &Op) -> EncodedOp { federation_wire::v1::op::encode_op(op) }
//! #     fn seal(&self, _: &Origin, hashes: &[OpHash]) -> Vec<Arc<[u8]>> { vec![Arc::from([]); hashes.len()] }
//! # }
//! let (disk, indexes) = (SimulatedDisk::new(), OrderedIndexes::new());
//! let setup = Setup {
//!     ids: OpenIds { boot: BootId(1), store_random: 2, now: WallMs(3), new_mesh: true },
//!     node: NodeId::new("a").unwrap(),
//!     replica_scope: Scope::everything(),
//!     sealer: Arc::new(Unsigned),
//!     clock: Arc::new(Fixed),
//!     embedding_space: None,
//!     options: Options { segment_bytes: 65_536, ..Options::default() },
//! };
//! let (engine, report) = Engine::open(disk, &indexes, setup, &mut |_, _| {}).unwrap();
//! assert!(report.is_new);
//! let store = InlineStore::new(engine, Stepping::AtOnce);
//! assert_eq!(store.snapshot().facts.boots.len(), 1);
//! ```

pub mod disk;
pub mod index;

mod engine;
mod error;
mod format;
mod handle;
mod inline;
mod log;
mod metrics;
mod read;
mod replay;
mod schema;
mod state;
mod verify;

pub use disk::{RealDisk, SimulatedDisk};
pub use engine::{
    Answer, COMPACTION_BYTES_MIN, Compacted, Engine, OpenReport, Options, RebuildReason, Setup, Submission,
    Weight,
};
pub use error::OpenError;
pub use format::{FORMAT_VERSION, check_format};
pub use handle::{Failed, INDEX_DIRECTORY, StoreHandle};
pub use index::{OrderedIndexes, SledIndexes};
pub use inline::{InlineStore, Stepping};
pub use log::Corruption;
pub use metrics::{Counter, HISTOGRAM_BUCKETS, Histogram, HistogramSnapshot, Metrics};
pub use read::Reads;
pub use schema::SchemaError;
pub use verify::{HeldOp, IndexVerdict, ProofVerdict, VerifyFault, VerifyReport, verify, verify_offline};
