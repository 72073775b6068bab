//! Waiting for what must come: polled, with a deadline.

use std::time::{Duration, Instant};

/// Time between two looks.
const POLL: Duration = Duration::from_millis(10);

/// Asks until `ask` has an answer, at most `within`.
pub(crate) async fn until<T>(within: Duration, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}
