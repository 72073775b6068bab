//! A mesh of the real crates in one thread: net over [`crate::network`], the store's engine over a simulated disk,
//! simulated time, everything drawn from one seed.

pub mod attacker;
mod check;
pub mod coverage;
mod fault;
pub mod ledger;
pub mod mesh;
pub mod observed;
pub mod scenario;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use federation_core::port::clock::WallClock;
use federation_core::time::WallMs;
use tokio::time::Instant;

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
