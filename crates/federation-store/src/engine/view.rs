//! The state as `decide` reads it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use federation_core::decide::ReplicaView;
use federation_core::dot::{Dot, Origin};
use federation_core::embedding::EmbeddingSpace;
use federation_core::hlc::Hlc;
use federation_core::id::{Kind, OpHash, RecordId, RecordKey};
use federation_core::node_clock::NodeClock;
use federation_core::record::Record;

use crate::index::Index;
use crate::read::keys_of;
use crate::schema::values::Stored;
use crate::state::{LookupError, key_of, stored};

/// The index and the writer's state, and every record that was looked up: its versions' places are needed again.
pub(super) struct View<'a, I: Index> {
    pub(super) index: &'a I,
    pub(super) clock: &'a NodeClock,
    pub(super) own_origin: Option<&'a Origin>,
    pub(super) last_hlc: Option<Hlc>,
    pub(super) own_space: Option<&'a EmbeddingSpace>,
    pub(super) loaded: RefCell<BTreeMap<RecordKey, Stored>>,
}

impl<I: Index> ReplicaView for View<'_, I> {
    type Error = LookupError;

    fn clock(&self) -> &NodeClock {
        self.clock
    }

    fn own_origin(&self) -> Option<&Origin> {
        self.own_origin
    }

    fn last_hlc(&self) -> Option<Hlc> {
        self.last_hlc
    }

    fn own_space(&self) -> Option<&EmbeddingSpace> {
        self.own_space
    }

    fn record(&self, key: &RecordKey) -> Result<Record, LookupError> {
        let stored = stored(self.index, key)?;
        let record = stored.record();
        self.loaded.borrow_mut().insert(key.clone(), stored);
        Ok(record)
    }

    fn held(&self, dot: &Dot) -> Result<Option<OpHash>, LookupError> {
        if !self.clock.contains(dot) {
            return Ok(None);
        }
        let Some(key) = key_of(self.index, dot)? else { return Ok(None) };
        Ok(stored(self.index, &key)?.version(dot).map(|(version, _)| version.hash))
    }

    fn keys_of(&self, kind: &Kind, id: &RecordId) -> Result<Vec<RecordKey>, LookupError> {
        keys_of(self.index, kind, id)
    }
}
