//! This machine's wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use federation_core::port::clock::WallClock;
use federation_core::time::WallMs;

/// This machine's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    fn now(&self) -> WallMs {
        // A clock before 1970 is as wrong as one that stands at it.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
