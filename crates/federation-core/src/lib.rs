//! The decisions of a federation of replicas: what a write becomes, how versions merge, when a quorum is met,
//! what a peer still needs.
//!
//! Everything here is pure: same state, same arguments, same result. There is no async, no socket, no file, no
//! clock, no randomness, no logging and no serialisation in this crate; time is an argument, and what touches the
//! world is a trait in [`port`].
//!
//! ```
//! use federation_core::apply::{apply, Applied};
//! use federation_core::dot::{Dot, Origin};
//! use federation_core::hlc::Hlc;
//! use federation_core::id::{BootId, NodeId, OpHash};
//! use federation_core::node_clock::NodeClock;
//! use federation_core::record::{Record, Version, VersionState};
//! use federation_core::time::WallMs;
//! use federation_core::vector_clock::VectorClock;
//!
//! let origin = Origin { node: NodeId::new("a").unwrap(), epoch: BootId(1) };
//! let version = Version {
//!     dot: Dot { origin, seq: 1 },
//!     hash: OpHash([0; 32]),
//!     hlc: Hlc::at(WallMs(1_000)),
//!     context: VectorClock::new(),
//!     state: VersionState::Present,
//! };
//! let (mut record, mut clock) = (Record::new(), NodeClock::new());
//! let first = apply(&mut record, &mut clock, None, version.clone());
//! assert!(matches!(first, Ok(Applied::Live { concurrent: false, .. })));
//! let again = apply(&mut record, &mut clock, Some(version.hash), version);
//! assert_eq!(again, Ok(Applied::Duplicate));
//! ```

pub mod apply;
pub mod attest;
pub mod context;
pub mod coordinator;
pub mod decide;
pub mod dot;
pub mod dot_set;
pub mod embedding;
pub mod epoch;
pub mod hlc;
pub mod id;
pub mod limits;
pub mod link;
pub mod node_clock;
pub mod op;
pub mod planted;
pub mod port;
pub mod quorum;
pub mod record;
pub mod rejoin;
pub mod scope;
pub mod seq_ranges;
pub mod session;
pub mod time;
pub mod vector_clock;
