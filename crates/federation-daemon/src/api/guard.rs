//! A task that panics is a bug, and a node with a bug stops: what was acknowledged is durable.

use tokio_util::sync::CancellationToken;

/// Held by a task for as long as it runs: if the task panics, the token is cancelled.
#[derive(Clone, Debug)]
pub struct PanicGuard(pub CancellationToken);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_panic_is_told() {
        let token = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        let guard = PanicGuard(token.clone());
        tasks.spawn(async move { drop(guard) });
        tasks.join_next().await;
        assert!(!token.is_cancelled());
        let guard = PanicGuard(token.clone());
        tasks.spawn(async move {
            let _guard = guard;
            panic!("on purpose");
        });
        tasks.join_next().await;
        assert!(token.is_cancelled());
    }
}
