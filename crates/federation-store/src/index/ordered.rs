//! An index in memory, for simulation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::{Batch, Entry, Index, IndexError, IndexOpener};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// An ordered map in memory.
#[derive(Debug)]
pub struct OrderedIndex {
    map: Arc<RwLock<Map>>,
    kept: Arc<Mutex<Kept>>,
    generation: u64,
}

/// What survives of an [`OrderedIndex`], shared by clones. A test says how much before it opens it again.
#[derive(Clone, Debug, Default)]
pub struct OrderedIndexes {
    kept: Arc<Mutex<Kept>>,
}

/// What is left of an index after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// The checkpoint that is this many before the last one; the oldest that is kept if there are fewer.
    Checkpoint {
        /// How many before the last.
        before_last: usize,
    },
    /// An empty one that looks healthy.
    Empty,
    /// Something that cannot be opened.
    Damaged,
    /// Every batch that was applied: the process died, the machine did not.
    Everything,
}

#[derive(Debug, Default)]
struct Kept {
    checkpoints: Vec<Arc<Map>>,
    latest: Arc<RwLock<Map>>,
    survival: Option<Survival>,
    generation: u64,
    fails: bool,
    batches: u64,
}

impl OrderedIndexes {
    /// No index yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What survives, apart from these: to open one crash in many ways. What was applied since counts for neither.
    #[must_use]
    pub fn fork(&self) -> Self {
        let kept = self.lock();
        let latest = kept.latest.read().unwrap_or_else(PoisonError::into_inner).clone();
        let copy = Kept {
            checkpoints: kept.checkpoints.clone(),
            latest: Arc::new(RwLock::new(latest)),
            survival: kept.survival,
            generation: kept.generation,
            fails: kept.fails,
            batches: kept.batches,
        };
        Self { kept: Arc::new(Mutex::new(copy)) }
    }

    /// Says what the next opening finds. Without it, it finds the last checkpoint.
    pub fn survive(&self, survival: Survival) {
        self.lock().survival = Some(survival);
    }

    /// Lets every further batch fail, until the index is opened again.
    pub fn fail(&self) {
        self.lock().fails = true;
    }

    /// Checkpoints that are kept.
    pub fn checkpoints(&self) -> usize {
        self.lock().checkpoints.len()
    }

    /// Batches applied so far.
    pub fn batches(&self) -> u64 {
        self.lock().batches
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self, map: Map) -> OrderedIndex {
        let mut kept = self.lock();
        kept.generation += 1;
        kept.fails = false;
        kept.latest = Arc::new(RwLock::new(map));
        OrderedIndex {
            map: Arc::clone(&kept.latest),
            kept: Arc::clone(&self.kept),
            generation: kept.generation,
        }
    }
}

impl IndexOpener for OrderedIndexes {
    type Index = OrderedIndex;

    fn open(&self) -> Result<OrderedIndex, IndexError> {
        let map = {
            let mut kept = self.lock();
            let survival = kept.survival.take().unwrap_or(Survival::Checkpoint { before_last: 0 });
            match survival {
                Survival::Damaged => return Err(IndexError::Panicked),
                Survival::Empty => Map::new(),
                Survival::Everything => kept.latest.read().unwrap_or_else(PoisonError::into_inner).clone(),
                Survival::Checkpoint { before_last } => {
                    let at = kept.checkpoints.len().saturating_sub(before_last + 1);
                    kept.checkpoints.get(at).map(|map| (**map).clone()).unwrap_or_default()
                }
            }
        };
        Ok(self.index(map))
    }

    fn create(&self) -> Result<OrderedIndex, IndexError> {
        self.lock().checkpoints.clear();
        Ok(self.index(Map::new()))
    }
}

impl Index for OrderedIndex {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(self.map.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Entry>, IndexError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let range = map.range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Excluded(to)));
        Ok(range.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn apply(&self, batch: Batch) -> Result<(), IndexError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.fails || kept.generation != self.generation {
            return Err(IndexError::Injected);
        }
        kept.batches += 1;
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in batch.into_changes() {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        Ok(())
    }

    fn checkpoint(&self) -> Result<(), IndexError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.fails || kept.generation != self.generation {
            return Err(IndexError::Injected);
        }
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner).clone();
        kept.checkpoints.push(Arc::new(map));
        let surplus = kept.checkpoints.len().saturating_sub(CHECKPOINTS_KEPT_MAX);
        kept.checkpoints.drain(..surplus);
        Ok(())
    }
}

/// Older ones are of no use: a real index goes back to its last one at most, and tests to a few before.
const CHECKPOINTS_KEPT_MAX: usize = 8;
