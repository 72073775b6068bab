//! The store port as futures.

use std::sync::Arc;

use federation_core::port::store::{Committed, Done, Outcome, ReplicaStore, Request, StoreError};
use tokio::sync::oneshot;

/// Hands a batch to the writer and waits until it is durable.
///
/// # Cancel safety
/// Dropped, the batch is committed all the same.
pub(crate) async fn submit(store: &dyn ReplicaStore, batch: Vec<Request>) -> Result<Committed, StoreError> {
    let (done, answer) = oneshot::channel();
    store.submit(batch, Box::new(move |result| drop(done.send(result))))?;
    answer.await.unwrap_or(Err(StoreError::Closed))
}

/// As [`submit`], for one request.
pub(crate) async fn submit_one(store: &dyn ReplicaStore, request: Request) -> Result<Outcome, StoreError> {
    let committed = submit(store, vec![request]).await?;
    committed.outcomes.into_iter().next().ok_or(StoreError::Closed)
}

/// Asks one of the store's queries and waits for its answer.
pub(crate) async fn query<T: Send + 'static>(
    store: &Arc<dyn ReplicaStore>,
    ask: impl FnOnce(&dyn ReplicaStore, Done<Result<T, StoreError>>),
) -> Result<T, StoreError> {
    let (done, answer) = oneshot::channel();
    ask(&**store, Box::new(move |result| drop(done.send(result))));
    answer.await.unwrap_or(Err(StoreError::Closed))
}
