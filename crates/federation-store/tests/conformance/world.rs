//! A store under test, its disk and its index, and how a test talks to it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use federation_core::dot::Origin;
use federation_core::id::{BootId, NodeId, OpHash, RecordKey};
use federation_core::node_clock::NodeClock;
use federation_core::op::{EncodedOp, Op};
use federation_core::port::clock::WallClock;
use federation_core::port::sealer::Sealer;
use federation_core::port::store::{
    Committed, Facts, OpenIds, Outcome, RecordRead, Request, SessionStart, StateHash, StoreError,
};
use federation_core::scope::Scope;
use federation_core::time::WallMs;
use federation_store::disk::{Disk, Loss};
use federation_store::index::{IndexOpener, Survival};
use federation_store::{
    Engine, OpenError, OpenReport, Options, OrderedIndexes, Setup, SimulatedDisk, Submission,
};
use federation_wire::v1::op::encode_op;

/// Proofs that say only which op they are for: stores do not look into them.
pub(crate) struct Unsigned;

impl Sealer for Unsigned {
    fn encode(&self, op: &Op) -> EncodedOp {
        encode_op(op)
    }
    fn seal(&self, _: &Origin, hashes: &[OpHash]) -> Vec<Arc<[u8]>> {
        hashes.iter().map(proof).collect()
    }
}

/// The proof that every node of these tests gives an op.
pub(crate) fn proof(hash: &OpHash) -> Arc<[u8]> {
    Arc::from(&hash.0[..7])
}

pub(crate) struct Fixed(pub u64);

impl WallClock for Fixed {
    fn now(&self) -> WallMs {
        WallMs(self.0)
    }
}

pub(crate) const NOW: u64 = 1_000_000;

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// Segments that a few groups fill, and nothing by itself.
pub(crate) fn small() -> Options {
    Options { segment_bytes: 4_096, checkpoint_bytes: u64::MAX, reserve_bytes: 0, ..Options::default() }
}

static BOOTS: AtomicU64 = AtomicU64::new(100);

pub(crate) fn setup(options: Options, new_mesh: bool) -> Setup {
    let boot = BootId(BOOTS.fetch_add(1, Ordering::Relaxed));
    Setup {
        ids: OpenIds { boot, store_random: 77, now: WallMs(NOW), new_mesh },
        node: node("a"),
        replica_scope: Scope::everything(),
        sealer: Arc::new(Unsigned),
        clock: Arc::new(Fixed(NOW)),
        embedding_space: None,
        options,
    }
}

pub(crate) type SimulatedEngine = Engine<SimulatedDisk, OrderedIndexes>;

/// A simulated disk and what survives of the index on it.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) disk: SimulatedDisk,
    pub(crate) indexes: OrderedIndexes,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { disk: SimulatedDisk::new(), indexes: OrderedIndexes::new() }
    }

    pub(crate) fn fork(&self) -> Self {
        Self { disk: self.disk.fork(), indexes: self.indexes.fork() }
    }

    pub(crate) fn crash(&mut self, loss: Loss, survival: Survival) {
        self.disk = self.disk.reopened(loss);
        self.indexes.survive(survival);
    }

    pub(crate) fn try_open(&self, new_mesh: bool) -> Result<(SimulatedEngine, OpenReport), OpenError> {
        Engine::open(self.disk.clone(), &self.indexes, setup(small(), new_mesh), &mut |_, _| {})
    }

    /// Opens the directory for a node that keeps this.
    pub(crate) fn open_keeping(&self, replica_scope: Scope) -> SimulatedEngine {
        let setup = Setup { replica_scope, ..setup(small(), false) };
        Engine::open(self.disk.clone(), &self.indexes, setup, &mut |_, _| {}).unwrap().0
    }

    pub(crate) fn open(&self) -> (SimulatedEngine, OpenReport) {
        self.try_open(false).unwrap_or_else(|e| panic!("cannot open: {e:?}"))
    }
}

/// Commits each batch of `batches`, all in one group.
pub(crate) fn commit_group<D: Disk, O: IndexOpener>(
    engine: &mut Engine<D, O>,
    batches: Vec<Vec<Request>>,
) -> Vec<Result<Committed, StoreError>> {
    let answers = Arc::new(Mutex::new(BTreeMap::new()));
    let submissions = batches.into_iter().enumerate().map(|(i, requests)| {
        let answers = Arc::clone(&answers);
        let done = Box::new(move |answer| {
            assert!(answers.lock().unwrap().insert(i, answer).is_none(), "answered twice");
        });
        Submission { requests, done }
    });
    let given = engine.step(submissions.collect());
    assert!(answers.lock().unwrap().is_empty(), "answered before the step was over");
    given.into_iter().for_each(federation_store::Answer::give);
    std::mem::take(&mut *answers.lock().unwrap()).into_values().collect()
}

/// Commits one batch.
pub(crate) fn commit<D: Disk, O: IndexOpener>(
    engine: &mut Engine<D, O>,
    requests: Vec<Request>,
) -> Result<Committed, StoreError> {
    commit_group(engine, vec![requests]).pop().unwrap()
}

pub(crate) fn begin_session<D: Disk, O: IndexOpener>(engine: &mut Engine<D, O>, peer: &str) -> SessionStart {
    let committed = commit(engine, vec![Request::BeginSession { peer: node(peer) }]).unwrap();
    match committed.outcomes.into_iter().next() {
        Some(Outcome::Session(start)) => start,
        other => panic!("no session: {other:?}"),
    }
}

/// All that a store shows of its replicated state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) clock: NodeClock,
    pub(crate) records: BTreeMap<RecordKey, RecordRead>,
    /// Without boots and how they ended, which every opening changes.
    pub(crate) facts: Facts,
    pub(crate) hash: StateHash,
}

pub(crate) fn see<D: Disk, O: IndexOpener>(
    engine: &Engine<D, O>,
    keys: impl IntoIterator<Item = RecordKey>,
) -> Seen {
    let reads = engine.reads();
    let snapshot = engine.snapshot();
    let mut facts = (*snapshot.facts).clone();
    facts.boots.clear();
    facts.ended_in_order = false;
    facts.store = None;
    let records = keys.into_iter().map(|key| (key.clone(), reads.record(&key).unwrap())).collect();
    Seen {
        clock: snapshot.clock.clone(),
        records,
        facts,
        hash: reads.state_hash(&Scope::everything()).unwrap(),
    }
}
