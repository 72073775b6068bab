//! A store that tells the ledger what becomes durable in it.

use std::sync::Arc;

use federation_core::decide::{Admission, Change};
use federation_core::id::{Kind, RecordId, RecordKey};
use federation_core::port::store::{
    Committed, Done, ListPage, ListQuery, Outcome, RecordRead, ReplicaStore, Request, SessionPage,
    SessionQuery, Snapshot, StateHash, StoreError,
};
use federation_core::record::Version;
use federation_core::vector_clock::VectorClock;
use tokio::sync::Notify;

use super::ledger::Ledger;
use super::mesh::Store;

/// A node's store, watched.
pub struct Observed {
    store: Store,
    ledger: Ledger,
    node: usize,
    submitted: Arc<Notify>,
}

/// What a request would make durable.
enum Watched {
    Write(Option<VectorClock>),
    Admit(Box<(RecordKey, Version)>),
    Other,
}

impl Observed {
    /// Watches the store of a node.
    pub fn new(store: Store, ledger: Ledger, node: usize) -> Self {
        Self { store, ledger, node, submitted: Arc::default() }
    }

    /// Told whenever something waits for a commit.
    pub fn submitted(&self) -> Arc<Notify> {
        Arc::clone(&self.submitted)
    }
}

impl ReplicaStore for Observed {
    fn submit(
        &self,
        batch: Vec<Request>,
        done: Done<Result<Committed, StoreError>>,
    ) -> Result<(), StoreError> {
        let watched: Vec<_> = batch
            .iter()
            .map(|request| match request {
                Request::Change(Change::Write(mutation)) => Watched::Write(mutation.token.clone()),
                Request::Change(Change::Admit(received)) => {
                    let version = Version::of(&received.op, received.sealed.op.hash);
                    Watched::Admit(Box::new((received.op.key.clone(), version)))
                }
                _ => Watched::Other,
            })
            .collect();
        let (ledger, node) = (self.ledger.clone(), self.node);
        let answer: Done<Result<Committed, StoreError>> = Box::new(move |result| {
            if let Ok(committed) = &result {
                for (watched, outcome) in watched.into_iter().zip(&committed.outcomes) {
                    observe(&ledger, node, watched, outcome);
                }
            }
            done(result);
        });
        self.store.submit(batch, answer)?;
        self.submitted.notify_one();
        Ok(())
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.store.snapshot()
    }

    fn read(&self, key: RecordKey, done: Done<Result<RecordRead, StoreError>>) {
        ReplicaStore::read(&self.store, key, done);
    }

    fn keys_of(&self, kind: Kind, id: RecordId, done: Done<Result<Vec<RecordKey>, StoreError>>) {
        self.store.keys_of(kind, id, done);
    }

    fn list(&self, query: ListQuery, done: Done<Result<ListPage, StoreError>>) {
        self.store.list(query, done);
    }

    fn session_page(&self, query: SessionQuery, done: Done<Result<SessionPage, StoreError>>) {
        self.store.session_page(query, done);
    }

    fn state_hash(&self, done: Done<Result<StateHash, StoreError>>) {
        self.store.state_hash(done);
    }
}

fn observe(ledger: &Ledger, node: usize, watched: Watched, outcome: &Outcome) {
    match (watched, outcome) {
        (Watched::Write(token), Outcome::Written(written)) => {
            let version = Version::of(&written.op, written.sealed.op.hash);
            ledger.made(node, &written.op.key, version, token.as_ref());
        }
        (Watched::Admit(op), Outcome::Admitted(admission)) => {
            let is_held = match admission {
                Admission::Applied { .. } | Admission::Duplicate { .. } | Admission::Superseded => true,
                Admission::ClockAhead | Admission::Equivocation { .. } => false,
            };
            let (key, version) = *op;
            ledger.seen(node, &key, version, is_held);
        }
        _ => {}
    }
}
