//! The planted defects of this crate lose what a sound store keeps.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use federation_core::attest::Trust;
use federation_core::decide::{Change, Condition, Mutation};
use federation_core::dot::Origin;
use federation_core::id::{AgentId, BootId, Kind, Namespace, NodeId, OpHash, RecordId, RecordKey};
use federation_core::node_clock::NodeClock;
use federation_core::op::{Body, EncodedOp, Op};
use federation_core::planted::{Defect, plant};
use federation_core::port::clock::WallClock;
use federation_core::port::sealer::Sealer;
use federation_core::port::store::{OpenIds, Outcome, ReplicaStore as _, Request, SessionQuery};
use federation_core::scope::Scope;
use federation_core::time::WallMs;
use federation_store::disk::Loss;
use federation_store::{
    Compacted, Engine, InlineStore, Options, OrderedIndexes, Setup, SimulatedDisk, Stepping,
};

/// Ops that are written: more than one of them is left out by a cursor that skips.
const WRITES: u64 = 20;

type Store = InlineStore<SimulatedDisk, OrderedIndexes>;

/// What is planted holds for the process: one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Fixed;

impl WallClock for Fixed {
    fn now(&self) -> WallMs {
        WallMs(1_000_000)
    }
}

struct Unsigned;

impl Sealer for Unsigned {
    fn encode(&self, op: &Op) -> EncodedOp {
        federation_wire::v1::op::encode_op(op)
    }
    fn seal(&self, _: &Origin, hashes: &[OpHash]) -> Vec<Arc<[u8]>> {
        vec![Arc::from([]); hashes.len()]
    }
}

fn open(disk: &SimulatedDisk, boot: u64) -> Store {
    let setup = Setup {
        ids: OpenIds { boot: BootId(boot), store_random: 2, now: WallMs(3), new_mesh: false },
        node: NodeId::new("a").unwrap(),
        replica_scope: Scope::everything(),
        sealer: Arc::new(Unsigned),
        clock: Arc::new(Fixed),
        embedding_space: None,
        options: Options { segment_bytes: 16_384, reserve_bytes: 0, ..Options::default() },
    };
    let (engine, _) = Engine::open(disk.clone(), &OrderedIndexes::new(), setup, &mut |_, _| {}).unwrap();
    InlineStore::new(engine, Stepping::AtOnce)
}

fn submit(store: &Store, request: Request) -> Outcome {
    let (tell, told) = mpsc::sync_channel(1);
    store.submit(vec![request], Box::new(move |result| tell.send(result).unwrap())).unwrap();
    let committed = told.try_recv().unwrap().unwrap();
    committed.outcomes.into_iter().next().unwrap()
}

/// Writes [`WRITES`] records, each acknowledged as durable.
fn fill(store: &Store) {
    fill_in(store, "n");
}

fn fill_in(store: &Store, namespace: &str) {
    let origin = Origin { node: NodeId::new("a").unwrap(), epoch: BootId(1) };
    submit(store, Request::Change(Change::OpenEpoch(origin)));
    for number in 0..WRITES {
        let mutation = Mutation {
            key: RecordKey {
                namespace: Namespace::new(namespace).unwrap(),
                kind: Kind::memory(),
                id: RecordId::new(&format!("r{number}")).unwrap(),
            },
            author: AgentId::new("agent").unwrap(),
            body: Body::Put { payload: Arc::from(&b"x"[..]), embedding: None, archived: false },
            condition: Condition::None,
            token: None,
        };
        let outcome = submit(store, Request::Change(Change::Write(mutation)));
        assert!(matches!(outcome, Outcome::Written(_)), "{outcome:?}");
    }
}

/// The records that are left after the power went, of those that were acknowledged.
fn left_after_a_power_cut() -> u64 {
    let disk = SimulatedDisk::new();
    fill(&open(&disk, 1));
    let store = open(&disk.reopened(Loss::All), 2);
    store.reads().state_hash(&Scope::everything()).unwrap().records
}

/// The records that are left after compaction and a restart without an index, of those that were acknowledged.
fn left_after_compaction() -> u64 {
    let disk = SimulatedDisk::new();
    let store = open(&disk, 1);
    // These stay; what comes behind them is replaced again and again.
    fill(&store);
    for _ in 0..50 {
        fill_in(&store, "other");
    }
    while store.compact().unwrap() != Compacted::Done {}
    assert!(store.metrics().segments_removed.value() > 0);
    let scope = Scope::parse(["n"]).unwrap();
    open(&disk.reopened(Loss::All), 2).reads().state_hash(&scope).unwrap().records
}

/// The numbers of the ops that a session to an empty peer sends, of those that it claims.
fn sent_by_a_session() -> BTreeSet<u64> {
    let store = open(&SimulatedDisk::new(), 1);
    fill(&store);
    let request = Request::BeginSession { peer: NodeId::new("b").unwrap() };
    let Outcome::Session(start) = submit(&store, request) else { panic!("no session") };
    assert_eq!(start.clock.dot_count(), WRITES, "it claims all of them");
    let (mut sent, mut after) = (BTreeSet::new(), None);
    loop {
        let query = SessionQuery {
            session: start.session,
            known: NodeClock::new(),
            trust: Trust::full(),
            after,
            ops_max: 3,
            bytes_max: 1_000_000,
        };
        let page = store.reads().session_page(&query).unwrap();
        sent.extend(page.ops.iter().map(|op| op.dot.seq));
        after = page.next;
        if after.is_none() {
            return sent;
        }
    }
}

#[test]
fn lazy_fsync_loses_what_was_acknowledged() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(left_after_a_power_cut(), WRITES);
    plant(Some(Defect::LazyFsync));
    let left = left_after_a_power_cut();
    plant(None);
    assert_eq!(left, 0);
}

#[test]
fn remove_before_copy_loses_what_was_live_and_old() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(left_after_compaction(), WRITES);
    plant(Some(Defect::RemoveBeforeCopy));
    let left = left_after_compaction();
    plant(None);
    assert_eq!(left, 0);
}

#[test]
fn cursor_skips_leaves_ops_out_of_a_session_that_is_claimed_complete() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(sent_by_a_session(), (1..=WRITES).collect());
    plant(Some(Defect::CursorSkips));
    let sent = sent_by_a_session();
    plant(None);
    assert_eq!(sent, (1..=WRITES).filter(|seq| seq % 8 != 0).collect());
}
