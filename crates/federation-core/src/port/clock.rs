//! Wall-clock time.

use crate::time::WallMs;

/// Tells wall-clock time. May jump, in either direction; nothing that must not be lost depends on it.
pub trait WallClock: Send + Sync {
    /// The time now.
    fn now(&self) -> WallMs;
}
