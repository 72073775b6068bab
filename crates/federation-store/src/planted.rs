//! Known defects, to show that tests and chaos campaigns can go red.
//!
//! Compiled in by the feature `planted-bugs` alone, which no release build has. Which one is active is said by the
//! environment variable `FEDERATION_PLANTED_BUG` of the process; without it there is none.

use std::env;
use std::sync::LazyLock;

/// Whether writes to the log are never made durable (`lazy-fsync`): the acks go out all the same.
pub(crate) fn is_fsync_lazy() -> bool {
    *LAZY_FSYNC
}

static LAZY_FSYNC: LazyLock<bool> = LazyLock::new(|| {
    let name = env::var(VARIABLE).unwrap_or_default();
    // A harness that names a bug that is not there would take its green for a proof.
    assert!(matches!(name.as_str(), "" | "lazy-fsync"), "there is no planted bug {name:?}");
    if !name.is_empty() {
        tracing::warn!(bug = name, "this process has a planted bug");
    }
    !name.is_empty()
});

const VARIABLE: &str = "FEDERATION_PLANTED_BUG";
