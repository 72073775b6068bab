//! The harness's own books: every op that was ever made, what its writer had truly seen, and which disks hold it.
//!
//! Kept from what the stores answer, beside the code under test: the causality in here is computed from who had
//! seen what, not from the contexts that the product builds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use federation_core::decide::Condition;
use federation_core::dot::Dot;
use federation_core::hlc::Hlc;
use federation_core::id::{AgentId, BootId, NodeId, RecordKey};
use federation_core::op::{Body, Op};
use federation_core::record::{Record, Version};
use federation_core::time::WallMs;
use federation_wire::api::DotText;

use crate::history::{Fate, OpFact};

/// What a disk holds.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Every op that was durable on it, live or replaced.
    dots: BTreeSet<Dot>,
    /// The live ops of each record.
    live: BTreeMap<RecordKey, BTreeSet<Dot>>,
}

impl Held {
    /// Whether an op was durable on it.
    pub fn has(&self, dot: &Dot) -> bool {
        self.dots.contains(dot)
    }
}

/// All ops of a run. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Books {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    ops: BTreeMap<Dot, Entry>,
    by_key: BTreeMap<RecordKey, BTreeSet<Dot>>,
    held: BTreeMap<usize, Held>,
    /// What the writer of each call has seen, where its token says so.
    tokens: BTreeMap<AgentId, BTreeSet<Dot>>,
    incidents: Vec<String>,
    /// The latest time of an own op, by node.
    latest: BTreeMap<usize, Hlc>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: RecordKey,
    version: Version,
    content: Option<String>,
    /// The ops of the record that its writer had seen, with all that those had seen.
    knew: BTreeSet<Dot>,
    /// Whether its origin has made it, to the knowledge of the harness.
    is_made: bool,
    fate: Fate,
}

impl Books {
    /// A record may come to exist.
    pub fn expect(&self, key: &RecordKey) {
        self.lock().by_key.entry(key.clone()).or_default();
    }

    /// A call's writer has seen exactly these ops of its record, and what their writers had.
    pub fn expect_token(&self, author: &AgentId, seen: BTreeSet<Dot>) {
        self.lock().tokens.insert(author.clone(), seen);
    }

    /// What somebody who has read these ops has seen: them, and what their writers had seen.
    pub fn seen_with<'a>(&self, dots: impl IntoIterator<Item = &'a Dot>) -> BTreeSet<Dot> {
        self.lock().closed(&dots.into_iter().cloned().collect())
    }

    /// A client's write is durable at its node, which took it under this condition, at this time of its clock.
    pub fn made(&self, node: usize, op: &Op, version: Version, condition: &Condition, now: WallMs) {
        let mut inner = self.lock();
        let faults = inner.faults_of(node, op, condition, now);
        inner.incidents.extend(faults);
        let latest = inner.latest.entry(node).or_insert(op.hlc);
        *latest = op.hlc.max(*latest);
        let knew = match inner.tokens.get(&op.author) {
            Some(seen) => seen.clone(),
            None => inner.seen_at(node, &op.key),
        };
        inner.enter(op, version, Some(knew));
        inner.arrive(node, &op.dot, &op.key);
    }

    /// An op came to a node, which holds it now, or something that replaced it. `taken_at` by its clock; none if it
    /// says that it had the op before.
    pub fn admitted(&self, node: usize, op: &Op, version: Version, taken_at: Option<WallMs>) {
        let mut inner = self.lock();
        if let Some(now) = taken_at.filter(|now| op.hlc.is_ahead_of(*now)) {
            inner.incidents.push(format!("n{node} took {} of {}, its clock says {}", op.dot, op.hlc, now.0));
        }
        inner.enter(op, version, None);
        inner.arrive(node, &op.dot, &op.key);
    }

    /// A client was told that its write has its quorum.
    pub fn promised(&self, dot: &Dot) {
        if let Some(op) = self.lock().ops.get_mut(dot) {
            op.fate = Fate::Promised;
        }
    }

    /// What was promised so far, with its record.
    pub fn promises(&self) -> Vec<(Dot, RecordKey)> {
        let inner = self.lock();
        let promised = inner.ops.iter().filter(|(_, op)| op.fate == Fate::Promised);
        promised.map(|(dot, op)| (dot.clone(), op.key.clone())).collect()
    }

    /// Something is wrong.
    pub fn incident(&self, what: String) {
        self.lock().incidents.push(what);
    }

    /// A node was started on what its disk holds: ops that became durable in a commit that nobody was told of are
    /// learned now.
    pub fn found(&self, node: usize, id: &NodeId, key: &RecordKey, record: &Record, ops: &[Op]) {
        let mut inner = self.lock();
        for (version, op) in record.versions().iter().zip(ops) {
            if !inner.ops.contains_key(&version.dot) {
                // An op that nobody was told of: what its context says is all that is known of its writer.
                let of_record = inner.by_key.get(key).cloned().unwrap_or_default();
                let covered = of_record.into_iter().filter(|dot| version.context.contains(dot)).collect();
                let is_own = version.dot.origin.node == *id;
                inner.enter(op, version.clone(), is_own.then_some(covered));
            }
        }
        let live: BTreeSet<_> = record.versions().iter().map(|version| version.dot.clone()).collect();
        let held = inner.held.entry(node).or_default();
        held.dots.extend(live.iter().cloned());
        held.live.insert(key.clone(), live);
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
        for (dot, op) in ops.iter_mut().filter(|(_, op)| op.fate == Fate::Durable) {
            if !held.values().any(|held| held.dots.contains(dot)) {
                op.fate = Fate::MayBeGone;
            }
        }
    }

    /// Every record that there may be.
    pub fn keys(&self) -> Vec<RecordKey> {
        self.lock().by_key.keys().cloned().collect()
    }

    /// Every op with its record, whoever made it.
    pub fn dots(&self) -> Vec<(Dot, RecordKey)> {
        self.lock().ops.iter().map(|(dot, op)| (dot.clone(), op.key.clone())).collect()
    }

    /// The last number of each series that a node has made ops of.
    pub fn last_seqs(&self, node: &NodeId) -> BTreeMap<BootId, u64> {
        let mut last = BTreeMap::new();
        for dot in self.lock().ops.keys().filter(|dot| dot.origin.node == *node) {
            let seq = last.entry(dot.origin.epoch).or_default();
            *seq = dot.seq.max(*seq);
        }
        last
    }

    /// The ops that their origins have made.
    pub fn facts(&self) -> BTreeMap<DotText, OpFact> {
        let inner = self.lock();
        inner.ops.iter().filter(|(_, op)| op.is_made).map(|(dot, op)| (text(dot), inner.fact(op))).collect()
    }

    /// What a put wrote.
    pub fn content(&self, dot: &Dot) -> Option<String> {
        self.lock().ops.get(dot).and_then(|op| op.content.clone())
    }

    /// What was wrong at the moment it happened.
    pub fn incidents(&self) -> Vec<String> {
        self.lock().incidents.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// These ops and what their writers had seen.
    fn closed(&self, dots: &BTreeSet<Dot>) -> BTreeSet<Dot> {
        let mut out = dots.clone();
        for op in dots.iter().filter_map(|dot| self.ops.get(dot)) {
            out.extend(op.knew.iter().cloned());
        }
        out
    }

    /// What a writer has seen who takes itself to have seen what the node has.
    fn seen_at(&self, node: usize, key: &RecordKey) -> BTreeSet<Dot> {
        let live = self.held.get(&node).and_then(|held| held.live.get(key));
        live.map(|live| self.closed(live)).unwrap_or_default()
    }

    /// What is wrong with an op by what its node held at that moment.
    fn faults_of(&self, node: usize, op: &Op, condition: &Condition, now: WallMs) -> Vec<String> {
        let mut faults = Vec::new();
        let live = self.held.get(&node).and_then(|held| held.live.get(&op.key)).into_iter().flatten();
        let live: Vec<_> = live.filter_map(|dot| self.ops.get(dot)).collect();
        if let Some(there) = live.iter().find(|there| there.content.is_some())
            && *condition == Condition::Absent
        {
            faults.push(format!("{} was to be new, and n{node} had {}", op.dot, there.version.dot));
        }
        let covered = live.iter().filter(|there| op.context.contains(&there.version.dot));
        let newest = covered.map(|there| there.version.hlc).max();
        // A clock that has fallen far behind what its node made or covers is not followed by the op's time.
        let at_least = newest.max(self.latest.get(&node).copied());
        let is_near = at_least.is_some_and(|at_least| !at_least.next().is_ahead_of(op.hlc.wall()));
        if newest.is_some_and(|newest| op.hlc <= newest) && is_near {
            faults.push(format!("{} of {} replaces what is later", op.dot, op.hlc));
        }
        if op.hlc.is_ahead_of(now) || op.hlc < Hlc::at(now) {
            faults.push(format!("{} is of {}, made at {}", op.dot, op.hlc, now.0));
        }
        faults
    }

    /// `knew` is known of an op that its origin has just made.
    fn enter(&mut self, op: &Op, version: Version, knew: Option<BTreeSet<Dot>>) {
        let dot = version.dot.clone();
        let is_other = |known: &Entry| known.version.hash != version.hash;
        if self.ops.get(&dot).is_some_and(is_other) {
            self.incidents.push(format!("{dot} names two ops"));
            self.ops.remove(&dot);
        }
        let content = match &op.body {
            Body::Put { payload, .. } => Some(String::from_utf8_lossy(payload).into_owned()),
            Body::Delete => None,
        };
        self.by_key.entry(op.key.clone()).or_default().insert(dot.clone());
        let entry = self.ops.entry(dot).or_insert_with(|| Entry {
            key: op.key.clone(),
            version,
            content,
            knew: BTreeSet::new(),
            is_made: false,
            fate: Fate::Durable,
        });
        if let Some(knew) = knew
            && !entry.is_made
        {
            (entry.knew, entry.is_made) = (knew, true);
        }
    }

    /// An op is durable at a node: there it is live, or one is that had seen it.
    fn arrive(&mut self, node: usize, dot: &Dot, key: &RecordKey) {
        let Some(op) = self.ops.get_mut(dot) else { return };
        let knew = op.knew.clone();
        let held = self.held.entry(node).or_default();
        let is_new = held.dots.insert(dot.clone());
        let live = held.live.entry(key.clone()).or_default();
        let ops = &self.ops;
        let is_replaced = live.iter().any(|live| ops.get(live).is_some_and(|live| live.knew.contains(dot)));
        if is_new && !is_replaced {
            live.retain(|live| !knew.contains(live));
            live.insert(dot.clone());
        }
    }

    fn fact(&self, op: &Entry) -> OpFact {
        let of_record = self.by_key.get(&op.key).into_iter().flatten();
        OpFact {
            key: op.key.id.as_str().to_owned(),
            hash: op.version.hash.to_string(),
            content: op.content.clone(),
            hlc: op.version.hlc.to_bits(),
            covers: of_record.filter(|dot| op.version.context.contains(dot)).map(text).collect(),
            knew: op.knew.iter().map(text).collect(),
            fate: op.fate,
        }
    }
}

/// As histories name an op.
pub fn text(dot: &Dot) -> DotText {
    DotText(dot.clone())
}
