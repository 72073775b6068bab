//! A mesh of the real crates in one thread: net over [`crate::network`], the store's engine over a simulated disk,
//! simulated time, everything drawn from one seed.

pub mod attacker;
pub mod books;
pub mod campaign;
mod committer;
pub mod coverage;
pub mod disks;
mod faults;
mod judge;
pub mod kept;
pub mod keys;
pub mod mesh;
pub mod observed;
pub mod proof;
pub mod scopes;
pub mod trace;
pub mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use federation_core::decide::{Condition, Mutation};
use federation_core::id::{AgentId, Kind, Namespace, RecordId, RecordKey};
use federation_core::op::Body;
use federation_core::port::clock::WallClock;
use federation_core::time::WallMs;
use tokio::time::Instant;

use crate::checker::Violation;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The guarantee or invariant that it breaks.
    pub claim: String,
    /// What was seen, for people.
    pub seen: String,
}

impl From<Violation> for Finding {
    fn from(violation: Violation) -> Self {
        let Violation { guarantee, node, key, seen, .. } = violation;
        let node = node.map(|node| format!("n{node}: ")).unwrap_or_default();
        let key = key.map(|key| format!("{key}: ")).unwrap_or_default();
        Self { claim: format!("{guarantee:?}"), seen: format!("{node}{key}{seen}") }
    }
}

/// Wall-clock time at which every simulation begins.
const EPOCH_MS: u64 = 1_800_000_000_000;

/// A wall clock that follows simulated time, with an offset of its own.
#[derive(Clone, Debug)]
pub struct SimulatedWall {
    started: Instant,
    offset_ms: Arc<AtomicI64>,
}

impl SimulatedWall {
    /// A clock that is right.
    pub fn new(started: Instant) -> Self {
        Self { started, offset_ms: Arc::default() }
    }

    /// From here on it is wrong by this much.
    pub fn set_offset_ms(&self, offset: i64) {
        self.offset_ms.store(offset, Ordering::Relaxed);
    }
}

impl WallClock for SimulatedWall {
    fn now(&self) -> WallMs {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        WallMs((EPOCH_MS + elapsed).saturating_add_signed(self.offset_ms.load(Ordering::Relaxed)))
    }
}

/// Lets simulated time pass: a step of a schedule, not a wait for something to happen.
pub async fn pass(span: Duration) {
    tokio::time::sleep(span).await;
}

/// Runs a history on simulated time, in a runtime of its own.
pub fn simulate<T>(history: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(history)
}

/// The namespace of records whose names name none.
pub(crate) const NAMESPACE: &str = "sim";

/// A record of this name: in the namespace before its dot, if it has one.
pub fn key(name: &str) -> RecordKey {
    let namespace = name.split_once('.').map_or(NAMESPACE, |(namespace, _)| namespace);
    RecordKey {
        namespace: Namespace::new(namespace).expect("a valid namespace"),
        kind: Kind::new("note").expect("a valid kind"),
        id: RecordId::new(name).expect("a valid id"),
    }
}

/// A write of that record, whatever is there.
pub fn put(name: &str) -> Mutation {
    Mutation {
        key: key(name),
        author: AgentId::new("client").expect("a valid id"),
        body: Body::Put { payload: b"text"[..].into(), embedding: None, archived: false },
        condition: Condition::None,
        token: None,
    }
}
