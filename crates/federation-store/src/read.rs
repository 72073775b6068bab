//! Reads, from any thread, while one engine writes.

mod list;
mod session;

use std::sync::Arc;

use federation_core::dot::Dot;
use federation_core::dot_set::DotSet;
use federation_core::id::{Kind, RecordId, RecordKey};
use federation_core::op::SealedOp;
use federation_core::port::store::{
    Health, ListPage, ListQuery, RecordRead, SessionPage, SessionQuery, Snapshot, StateHash, StoreError,
};
use federation_core::record::Version;
use federation_core::scope::Scope;

use crate::disk::Disk;
use crate::engine::Shared;
use crate::index::Index;
use crate::log::{Pin, Place};
use crate::metrics::Metrics;
use crate::schema::keys;
use crate::schema::values::Stored;
use crate::state::{LookupError, each, key_of, stored};

/// Reads of one store. Clones are cheap; each call blocks on the index and the log.
pub struct Reads<D: Disk, I> {
    shared: Arc<Shared<D, I>>,
}

impl<D: Disk, I> Clone for Reads<D, I> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<D: Disk, I: Index> Reads<D, I> {
    pub(crate) fn new(shared: Arc<Shared<D, I>>) -> Self {
        Self { shared }
    }

    /// State as of the last group.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// What the store has done since it was opened.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.shared.metrics)
    }

    /// The live versions of one record with their ops.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`], as for every read here.
    pub fn record(&self, key: &RecordKey) -> Result<RecordRead, StoreError> {
        let pin = self.shared.log.pin();
        let stored = self.answer(stored(&self.shared.index, key))?;
        let ops = stored.versions().iter().map(|(version, place)| self.op(&pin, version, *place));
        let ops = ops.collect::<Result<_, _>>()?;
        Ok(RecordRead { record: stored.record(), ops })
    }

    /// The keys with live versions of this kind and id, at most 64.
    pub fn keys_of(&self, kind: &Kind, id: &RecordId) -> Result<Vec<RecordKey>, StoreError> {
        self.answer(keys_of(&self.shared.index, kind, id))
    }

    /// The record of each of `dots` that is live.
    pub fn keys_of_dots(&self, dots: &[Dot]) -> Result<Vec<Option<RecordKey>>, StoreError> {
        self.answer(dots.iter().map(|dot| key_of(&self.shared.index, dot)).collect())
    }

    /// A page of visible records.
    pub fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        list::page(self, query)
    }

    /// A page of a session.
    pub fn session_page(&self, query: &SessionQuery) -> Result<SessionPage, StoreError> {
        session::page(self, query)
    }

    /// Which of `dots` are neither live here nor covered by a live version.
    ///
    /// It is read while the writer goes on. That does no harm: what replaces a version covers what that covered.
    pub fn uncovered(&self, dots: &DotSet) -> Result<DotSet, StoreError> {
        let mut left = dots.clone();
        let walked = each(&self.shared.index, &[keys::RECORD], |_, value| {
            if left.is_empty() {
                return Ok(());
            }
            for (version, _) in Stored::decode(value)?.versions() {
                left.subtract(&version.context);
                left.subtract(&std::iter::once(version.dot.clone()).collect());
            }
            Ok(())
        });
        self.answer(walked)?;
        Ok(left)
    }

    /// Hash over the live state in a scope.
    ///
    /// blake3 over `"federation-store/v1/state\0"` and then, for each live version in order of (record key, dot):
    /// namespace, kind, id and the origin's node id, each as its length in bytes (u32) and its bytes; the origin's
    /// epoch (u64); the seq (u64). Numbers are little-endian. Equal live state, equal hash, whatever the log holds.
    ///
    /// It is read while the writer goes on: it is that of one instant if nothing is written meanwhile.
    pub fn state_hash(&self, scope: &Scope) -> Result<StateHash, StoreError> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(STATE_DOMAIN);
        let (mut versions, mut records) = (0, 0);
        let walked = each(&self.shared.index, &[keys::RECORD], |key, value| {
            let key = keys::read_record(key)?;
            if !scope.contains(&key.namespace) {
                return Ok(());
            }
            let stored = Stored::decode(value)?;
            records += u64::from(stored.is_visible());
            for (version, _) in stored.versions() {
                versions += 1;
                hash_live(&mut hasher, &key, &version.dot);
            }
            Ok(())
        });
        self.answer(walked)?;
        Ok(StateHash { hash: *hasher.finalize().as_bytes(), versions, records })
    }

    /// Says in the snapshot that nothing is written any more, for a writer that cannot.
    pub(crate) fn poison(&self) {
        let snapshot = (*self.snapshot()).clone();
        self.shared.snapshot.store(Arc::new(Snapshot { health: Health::Poisoned, ..snapshot }));
    }

    fn op(&self, pin: &Pin, version: &Version, place: Place) -> Result<SealedOp, StoreError> {
        self.shared.log.op(pin, place, version.hash).ok_or_else(|| {
            self.shared.metrics.unreadable.add(1);
            StoreError::Unreadable
        })
    }

    fn answer<T>(&self, result: Result<T, LookupError>) -> Result<T, StoreError> {
        result.map_err(|error| {
            tracing::error!(%error, "cannot read the index");
            self.shared.metrics.unreadable.add(1);
            StoreError::Unreadable
        })
    }
}

/// The keys with live versions of this kind and id, in any namespace.
pub(crate) fn keys_of<I: Index>(
    index: &I,
    kind: &Kind,
    id: &RecordId,
) -> Result<Vec<RecordKey>, LookupError> {
    let prefix = keys::by_id_prefix(kind, id);
    let entries = index.scan(&prefix, &keys::behind(&prefix), KEYS_OF_ID_MAX)?;
    Ok(entries.iter().map(|(key, _)| keys::read_by_id(key)).collect::<Result<_, _>>()?)
}

fn hash_live(hasher: &mut blake3::Hasher, key: &RecordKey, dot: &Dot) {
    let texts = [key.namespace.as_str(), key.kind.as_str(), key.id.as_str(), dot.origin.node.as_str()];
    for text in texts {
        // Ids are far shorter than 4 GiB.
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        hasher.update(&length.to_le_bytes()).update(text.as_bytes());
    }
    hasher.update(&dot.origin.epoch.0.to_le_bytes()).update(&dot.seq.to_le_bytes());
}

const STATE_DOMAIN: &[u8] = b"federation-store/v1/state\0";
/// Namespaces in which one id is looked for.
const KEYS_OF_ID_MAX: usize = 64;
