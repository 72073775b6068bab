//! What the harness knows of every op: what it says, and on which disks it, or what replaced it, is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use federation_core::dot::Dot;
use federation_core::id::RecordKey;
use federation_core::record::Version;
use federation_core::vector_clock::VectorClock;

/// The dots that a disk holds.
pub type Held = BTreeSet<Dot>;

/// All ops of a run. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    ops: BTreeMap<Dot, Entry>,
    /// By node.
    held: BTreeMap<usize, Held>,
    faults: Vec<String>,
    digest: u64,
    reused_unseen: u64,
}

/// An op.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its record.
    pub key: RecordKey,
    /// What it is.
    pub version: Version,
    /// Whether every disk that held it was lost, with no promise given: then it may be gone.
    pub may_be_gone: bool,
    /// Whether its writer was told that it has its quorum.
    pub is_promised: bool,
    /// Whether another node than its origin ever held it.
    pub has_travelled: bool,
}

impl Ledger {
    /// A client's write is durable at its node.
    pub fn made(&self, node: usize, key: &RecordKey, version: Version, token: Option<&VectorClock>) {
        let mut inner = self.lock();
        if let Some(token) = token {
            let beyond: Vec<_> = inner
                .ops
                .iter()
                .filter(|(dot, op)| op.key == *key && version.context.contains(dot) && !token.contains(dot))
                .map(|(dot, _)| dot.clone())
                .collect();
            if !beyond.is_empty() {
                inner
                    .faults
                    .push(format!("{} covers {beyond:?}, which its writer had not read", version.dot));
            }
        }
        inner.enter(node, key, version, true);
    }

    /// An op came to a node.
    pub fn seen(&self, node: usize, key: &RecordKey, version: Version, is_held: bool) {
        self.lock().enter(node, key, version, is_held);
    }

    /// A client was told that its write has its quorum.
    pub fn promised(&self, dot: &Dot) {
        if let Some(op) = self.lock().ops.get_mut(dot) {
            op.is_promised = true;
        }
    }

    /// What a node's disk holds.
    pub fn held(&self, node: usize) -> Held {
        self.lock().held.get(&node).cloned().unwrap_or_default()
    }

    /// A node's disk is another one now.
    pub fn replace(&self, node: usize, held: Held) {
        let mut inner = self.lock();
        inner.held.insert(node, held);
        let Inner { ops, held, .. } = &mut *inner;
        for (dot, op) in ops.iter_mut().filter(|(_, op)| !op.is_promised) {
            op.may_be_gone |= !held.values().any(|held| held.contains(dot));
        }
    }

    /// All ops.
    pub fn ops(&self) -> BTreeMap<Dot, Entry> {
        self.lock().ops.clone()
    }

    /// What was wrong at the moment it happened.
    pub fn faults(&self) -> Vec<String> {
        self.lock().faults.clone()
    }

    /// Dots given twice by a disk that went back to before an op that nobody else had ever seen.
    pub fn reused_unseen(&self) -> u64 {
        self.lock().reused_unseen
    }

    /// Adds something to the run's trace.
    pub fn trace(&self, what: &str) {
        self.lock().trace(what);
    }

    /// The trace of the run so far, as a number.
    pub fn digest(&self) -> u64 {
        self.lock().digest
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn enter(&mut self, node: usize, key: &RecordKey, version: Version, is_held: bool) {
        let dot = version.dot.clone();
        self.trace(&format!("{node} {dot} {} {is_held}", version.hash));
        if let Some(known) = self.ops.get(&dot).filter(|known| known.version.hash != version.hash) {
            if known.has_travelled || known.is_promised {
                self.faults.push(format!("{dot} names two ops"));
            } else {
                self.reused_unseen += 1;
            }
            self.ops.remove(&dot);
        }
        let is_own = dot.origin.node.as_str() == format!("n{node}");
        let op = self.ops.entry(dot.clone()).or_insert_with(|| Entry {
            key: key.clone(),
            version,
            may_be_gone: false,
            is_promised: false,
            has_travelled: false,
        });
        op.has_travelled |= !is_own;
        if is_held {
            self.held.entry(node).or_default().insert(dot);
        }
    }

    /// FNV-1a.
    fn trace(&mut self, what: &str) {
        for byte in what.bytes().chain([0]) {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
