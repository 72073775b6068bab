//! A store that tells the books what becomes durable in it.

use std::sync::Arc;

use federation_core::decide::{Admission, Change, Condition};
use federation_core::dot::Dot;
use federation_core::dot_set::DotSet;
use federation_core::id::{Kind, RecordId, RecordKey};
use federation_core::op::Op;
use federation_core::port::clock::WallClock;
use federation_core::port::store::{
    Committed, Done, ListPage, ListQuery, Outcome, RecordRead, ReplicaStore, Request, SessionPage,
    SessionQuery, Snapshot, StateHash, StoreError,
};
use federation_core::record::Version;
use federation_core::scope::Scope;
use federation_core::time::WallMs;
use tokio::sync::Notify;

use super::SimulatedWall;
use super::attacker::liar::is_equivocal;
use super::books::Books;
use super::mesh::Store;
use super::trace::Trace;

/// A node's store, watched.
pub struct Observed {
    store: Store,
    books: Books,
    trace: Trace,
    node: usize,
    wall: SimulatedWall,
    submitted: Arc<Notify>,
}

/// What a request would make durable.
enum Watched {
    Write(Condition),
    Admit(Box<(Op, Version)>),
    Other,
}

impl Observed {
    /// Watches the store of a node.
    pub fn new(store: Store, books: Books, trace: Trace, node: usize, wall: SimulatedWall) -> Self {
        Self { store, books, trace, node, wall, submitted: Arc::default() }
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
                Request::Change(Change::Write(mutation)) => Watched::Write(mutation.condition.clone()),
                Request::Change(Change::Admit(received)) => {
                    let version = Version::of(&received.op, received.sealed.op.hash);
                    Watched::Admit(Box::new((received.op.clone(), version)))
                }
                _ => Watched::Other,
            })
            .collect();
        let (books, trace, node) = (self.books.clone(), self.trace.clone(), self.node);
        let wall = self.wall.clone();
        let answer: Done<Result<Committed, StoreError>> = Box::new(move |result| {
            if let Ok(committed) = &result {
                for (watched, outcome) in watched.into_iter().zip(&committed.outcomes) {
                    observe(&books, &trace, node, watched, outcome, wall.now());
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

    fn keys_of_dots(&self, dots: Vec<Dot>, done: Done<Result<Vec<Option<RecordKey>>, StoreError>>) {
        self.store.keys_of_dots(dots, done);
    }

    fn list(&self, query: ListQuery, done: Done<Result<ListPage, StoreError>>) {
        self.store.list(query, done);
    }

    fn session_page(&self, query: SessionQuery, done: Done<Result<SessionPage, StoreError>>) {
        self.store.session_page(query, done);
    }

    fn uncovered(&self, dots: DotSet, done: Done<Result<DotSet, StoreError>>) {
        self.store.uncovered(dots, done);
    }

    fn state_hash(&self, scope: Scope, done: Done<Result<StateHash, StoreError>>) {
        self.store.state_hash(scope, done);
    }
}

fn observe(books: &Books, trace: &Trace, node: usize, watched: Watched, outcome: &Outcome, now: WallMs) {
    match (watched, outcome) {
        (Watched::Write(condition), Outcome::Written(written)) => {
            let version = Version::of(&written.op, written.sealed.op.hash);
            trace.say(|| format!("n{node} writes {} {} {}", version.dot, written.op.key, version.hash));
            books.made(node, &written.op, version, &condition, now);
        }
        (Watched::Admit(admitted), Outcome::Admitted(admission)) => {
            let (op, version) = *admitted;
            trace.say(|| format!("n{node} admits {} {}: {admission:?}", version.dot, version.hash));
            match admission {
                // Its dot is taken by an op that is replaced since: which bytes that had, the node does not know any more.
                Admission::Duplicate { held: None } if is_equivocal(&op) => {}
                Admission::Applied { .. } | Admission::Duplicate { .. } | Admission::Superseded => {
                    let is_new = !matches!(admission, Admission::Duplicate { .. });
                    books.admitted(node, &op, version, is_new.then_some(now));
                }
                Admission::ClockAhead | Admission::Equivocation { .. } => {}
            }
        }
        _ => {}
    }
}
