//! The same on real files, with sled and with the threads.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use federation_core::decide::Change;
use federation_core::dot::Origin;
use federation_core::id::OpHash;
use federation_core::op::{EncodedOp, Op};
use federation_core::port::sealer::Sealer;
use federation_core::port::store::{
    Committed, Done, Health, Outcome, ReplicaStore, Request, StateHash, StoreError,
};
use federation_core::scope::Scope;
use federation_store::disk::LockError;
use federation_store::{
    Engine, INDEX_DIRECTORY, InlineStore, OpenError, Options, RealDisk, RebuildReason, SledIndexes, Stepping,
    StoreHandle,
};
use federation_wire::v1::op::encode_op;

use crate::script::{Step, compact, expected, key, keys, open_epoch, put, script};
use crate::world::{World, commit_group, see, setup, small};

pub(crate) type RealEngine = Engine<RealDisk, SledIndexes>;
type RealStore = StoreHandle<RealDisk, SledIndexes>;

pub(crate) fn engine(path: &Path) -> (RealEngine, federation_store::OpenReport) {
    let disk = RealDisk::open(path).unwrap();
    let indexes = SledIndexes::new(path.join(INDEX_DIRECTORY));
    Engine::open(disk, &indexes, setup(small(), false), &mut |_, _| {}).unwrap()
}

#[test]
fn real_files_and_sled_show_what_the_simulation_shows() {
    let dir = tempfile::tempdir().unwrap();
    let steps = script();
    let expected = expected(&steps);
    let (mut running, _) = engine(dir.path());
    for (step, expected) in steps.iter().zip(&expected) {
        match step {
            Step::Group(batches) => {
                assert!(commit_group(&mut running, batches.clone()).iter().all(Result::is_ok));
            }
            Step::Checkpoint => running.checkpoint().unwrap(),
            Step::Compact => compact(&mut running).unwrap(),
            Step::Restart => {
                drop(running);
                running = engine(dir.path()).0;
            }
        }
        assert_eq!(see(&running, keys()), *expected);
    }
    drop(running);
    let last = expected.last().unwrap();
    let (again, report) = engine(dir.path());
    assert_eq!((see(&again, keys()), report.rebuilt), (last.clone(), None));
    drop(again);

    let index = dir.path().join(INDEX_DIRECTORY);
    std::fs::remove_dir_all(&index).unwrap();
    let (again, report) = engine(dir.path());
    assert_eq!((see(&again, keys()), report.rebuilt), (last.clone(), Some(RebuildReason::Missing)));
    drop(again);

    // sled checks checksums of what it reads: garbage over its file is an error, a panic, or an empty tree.
    let db = std::fs::read(index.join("db")).unwrap();
    for (from, to) in [(0, db.len()), (0, 4_096), (db.len() / 2, db.len())] {
        let mut damaged = db.clone();
        damaged[from..to].fill(0xa5);
        std::fs::write(index.join("db"), damaged).unwrap();
        let (again, _) = engine(dir.path());
        assert_eq!(see(&again, keys()), *last, "garbage over {from}..{to} of sled's file");
    }
}

#[test]
fn a_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Options::default());
    let second = RealStore::open(dir.path(), setup(small(), false), &mut |_, _| {}, Box::new(|_| {}));
    assert!(matches!(second, Err(OpenError::Lock(LockError::InUse { .. }))));
    store.close().unwrap();
    open(dir.path(), small()).close().unwrap();
}

#[test]
fn a_store_that_is_dropped_by_its_own_callback_ends_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path(), small()));
    let last = Arc::clone(&store);
    let (release, released) = sync_channel::<()>(1);
    let done = Box::new(move |_| {
        released.recv_timeout(DEADLINE).unwrap();
        drop(last);
    });
    store.submit(vec![open_epoch(), Request::Change(put(1, "x"))], done).unwrap();
    drop(store);
    release.send(()).unwrap();
    let deadline = Instant::now() + DEADLINE;
    let report = loop {
        let failed = Box::new(|who| panic!("{who} panicked"));
        match RealStore::open(dir.path(), setup(small(), false), &mut |_, _| {}, failed) {
            Ok((_, report)) => break report,
            Err(OpenError::Lock(_)) if Instant::now() < deadline => std::thread::yield_now(),
            Err(error) => panic!("{error:?}"),
        }
    };
    assert!(report.ended_in_order);
}

#[test]
fn closing_is_an_end_in_order_on_real_files_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), small());
    submit(&store, vec![open_epoch(), Request::Change(put(1, "x"))]).recv_timeout(DEADLINE).unwrap().unwrap();
    store.close().unwrap();
    let (running, report) = engine(dir.path());
    assert!(report.ended_in_order && running.snapshot().facts.ended_in_order);
    drop(running);
    let (running, report) = engine(dir.path());
    assert!(!report.ended_in_order && !running.snapshot().facts.ended_in_order);
}

fn open(path: &Path, options: Options) -> RealStore {
    let failed = Box::new(|who| panic!("{who} panicked"));
    RealStore::open(path, setup(options, false), &mut |_, _| {}, failed).unwrap().0
}

fn submit(store: &impl ReplicaStore, requests: Vec<Request>) -> Receiver<Result<Committed, StoreError>> {
    let (send, receive) = sync_channel(1);
    // A caller may have stopped waiting.
    store.submit(requests, Box::new(move |answer| drop(send.send(answer)))).unwrap();
    receive
}

fn ask<T: Send + 'static>(ask: impl FnOnce(Done<Result<T, StoreError>>)) -> Result<T, StoreError> {
    let (send, receive) = sync_channel(1);
    ask(Box::new(move |answer| send.send(answer).unwrap()));
    receive.recv_timeout(DEADLINE).unwrap()
}

const DEADLINE: Duration = Duration::from_mins(1);

fn state_hash(store: &impl ReplicaStore) -> StateHash {
    ask(|done| store.state_hash(Scope::everything(), done)).unwrap()
}

#[test]
fn many_submitters_share_syncs_and_find_their_writes_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path(), Options::default()));
    submit(&*store, vec![open_epoch()]).recv_timeout(DEADLINE).unwrap().unwrap();
    std::thread::scope(|scope| {
        for client in 0..8_usize {
            let store = Arc::clone(&store);
            scope.spawn(move || {
                for i in 0..50 {
                    let change = Change::clone(&put((client * 3 + i) % 24, &format!("{client} {i}")));
                    let committed = submit(&*store, vec![Request::Change(change)])
                        .recv_timeout(DEADLINE)
                        .unwrap()
                        .unwrap();
                    let Some(Outcome::Written(written)) = committed.outcomes.first() else {
                        panic!("not written: {committed:?}")
                    };
                    assert!(store.snapshot().clock.contains(&written.op.dot));
                    assert!(store.snapshot().position >= committed.position);
                }
            });
        }
    });
    let metrics = store.metrics();
    assert_eq!(metrics.ops.value(), 400);
    assert!(metrics.groups.value() <= 402, "{} groups", metrics.groups.value());
    assert_eq!(metrics.live_versions.value(), 24);
    let hash = state_hash(&*store);
    assert_eq!(hash.versions, 24);
    let read = ask(|done| store.read(key(1), done)).unwrap();
    assert_eq!(read.ops.len(), 1);
    Arc::into_inner(store).unwrap().close().unwrap();

    let (again, report) =
        RealStore::open(dir.path(), setup(Options::default(), false), &mut |_, _| {}, Box::new(|_| {}))
            .unwrap();
    assert_eq!((report.replayed_ops, report.rebuilt), (0, None), "a close leaves nothing to do");
    assert_eq!(state_hash(&again), hash);
    drop(again);
}

#[test]
fn compaction_keeps_the_log_small_while_clients_write() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: SEGMENT_BYTES, reserve_bytes: 0, ..Options::default() };
    let store = Arc::new(open(dir.path(), options));
    submit(&*store, vec![open_epoch()]).recv_timeout(DEADLINE).unwrap().unwrap();
    std::thread::scope(|scope| {
        for client in 0..4_usize {
            let store = Arc::clone(&store);
            scope.spawn(move || {
                for i in 0..50 {
                    let text = format!("{client} {i} {}", "z".repeat(1_000));
                    let changes = (0..6).map(|id| Request::Change(put(client * 6 + id, &text)));
                    submit(&*store, changes.collect()).recv_timeout(DEADLINE).unwrap().unwrap();
                    let read = ask(|done| store.read(key(client * 6), done)).unwrap();
                    assert_eq!(read.ops.len(), 1, "a read finds its op wherever it is");
                }
            });
        }
    });
    let metrics = store.metrics();
    let bound = 3 * metrics.live_bytes.value() + 2 * SEGMENT_BYTES;
    assert!(metrics.log_bytes.value() > 4 * bound);
    let deadline = Instant::now() + DEADLINE;
    while metrics.log_size_bytes.value() > bound {
        assert!(Instant::now() < deadline, "{} of {bound}", metrics.log_size_bytes.value());
        std::thread::yield_now();
    }
    assert!(metrics.segments_removed.value() > 5);
    let hash = state_hash(&*store);
    Arc::into_inner(store).unwrap().close().unwrap();
    std::fs::remove_dir_all(dir.path().join(INDEX_DIRECTORY)).unwrap();
    let again = open(dir.path(), options);
    assert_eq!(state_hash(&again), hash);
    again.close().unwrap();
}

/// A hundredth of the writes are records, the rest replaces them. `FEDERATION_OVERWRITES=1000000` is the whole measurement,
/// with segments of full size; it prints what it finds.
#[test]
fn a_hundred_overwrites_of_each_record_leave_a_log_of_three_times_what_is_live() {
    let writes = std::env::var("FEDERATION_OVERWRITES").map_or(20_000, |text| text.parse::<usize>().unwrap());
    let records = writes / 100;
    let segment_bytes = Options::default().segment_bytes * writes as u64 / 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Options { segment_bytes, ..Options::default() });
    submit(&store, vec![open_epoch()]).recv_timeout(DEADLINE).unwrap().unwrap();
    let metrics = store.metrics();
    let bound = || 3 * metrics.live_bytes.value() + 2 * segment_bytes;
    let begun = Instant::now();
    let (mut waiting, mut largest, mut slowest) = (VecDeque::new(), 0, Duration::ZERO);
    for batch in 0..writes / BATCH {
        let changes = (0..BATCH).map(|i| {
            let number = batch * BATCH + i;
            Request::Change(put(number % records, &format!("{number} {}", "z".repeat(300))))
        });
        waiting.push_back((Instant::now(), submit(&store, changes.collect())));
        if waiting.len() == IN_FLIGHT {
            let (asked, answer) = waiting.pop_front().unwrap();
            answer.recv_timeout(DEADLINE).unwrap().unwrap();
            slowest = slowest.max(asked.elapsed());
        }
        let size = metrics.log_size_bytes.value();
        largest = largest.max(size);
    }
    for (_, answer) in waiting {
        answer.recv_timeout(DEADLINE).unwrap().unwrap();
    }
    let took = begun.elapsed();
    let live = metrics.live_bytes.value();
    let files = || -> u64 {
        let entries = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap());
        let segments = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".seg"));
        segments.map(|entry| entry.metadata().map_or(0, |metadata| metadata.len())).sum()
    };
    let deadline = Instant::now() + DEADLINE;
    while files() > bound() {
        assert!(Instant::now() < deadline, "{} bytes of segments, at most {}", files(), bound());
        std::thread::yield_now();
    }
    let (written, copied) = (metrics.log_bytes.value(), metrics.compaction_bytes.value());
    println!(
        "{writes} writes of {records} records in {took:?}, slowest answer {slowest:?}; live {live} bytes, log at most \
         {largest} bytes, at the end {} bytes in files of {} bytes; {written} bytes written, {copied} of them copies; \
         {} segments of {segment_bytes} bytes removed",
        metrics.log_size_bytes.value(),
        files(),
        metrics.segments_removed.value()
    );
    assert!(metrics.segments_removed.value() > 0);
    // What is written during a checkpoint is nothing to full segments, and all to small ones.
    assert!(
        largest <= bound() || segment_bytes < Options::default().segment_bytes,
        "{largest} bytes meanwhile"
    );
    assert_eq!(state_hash(&store).versions, records as u64);
    store.close().unwrap();
}

const BATCH: usize = 200;
const IN_FLIGHT: usize = 4;

/// Small, so that many fill, and large enough for a page of the file system not to matter.
const SEGMENT_BYTES: u64 = 65_536;

/// Panics when it is to encode.
struct Broken;

impl Sealer for Broken {
    fn encode(&self, op: &Op) -> EncodedOp {
        assert!(!format!("{:?}", op.key).contains("r7"), "broken on purpose");
        encode_op(op)
    }
    fn seal(&self, _: &Origin, hashes: &[OpHash]) -> Vec<Arc<[u8]>> {
        hashes.iter().map(crate::world::proof).collect()
    }
}

#[test]
fn a_panicking_writer_is_reported_and_answers_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let (send, failed) = sync_channel(1);
    let mut setup = setup(small(), false);
    setup.sealer = Arc::new(Broken);
    let observer = Box::new(move |who| send.send(who).unwrap());
    let (store, _) = RealStore::open(dir.path(), setup, &mut |_, _| {}, observer).unwrap();
    submit(&store, vec![open_epoch(), Request::Change(put(1, "fine"))])
        .recv_timeout(DEADLINE)
        .unwrap()
        .unwrap();
    let lost = submit(&store, vec![Request::Change(put(7, "breaks"))]);
    assert_eq!(failed.recv_timeout(DEADLINE), Ok("the store's writer"));
    assert_eq!(lost.recv_timeout(DEADLINE), Ok(Err(StoreError::InDoubt)));
    assert_eq!(store.snapshot().health, Health::Poisoned);
    let refused = store.submit(vec![Request::Change(put(1, "no"))], Box::new(|_| panic!("called")));
    assert_eq!(refused, Err(StoreError::ReadOnly));
    assert_eq!(ask(|done| store.read(key(1), done)).unwrap().ops.len(), 1, "reads go on");
    assert_eq!(store.close(), Err(StoreError::ReadOnly));
}

#[test]
fn an_inline_store_answers_before_it_returns_or_when_it_is_stepped() {
    let store = InlineStore::new(World::new().open().0, Stepping::AtOnce);
    let chain = store.clone();
    let answers = Arc::new(Mutex::new(Vec::new()));
    let (outer, inner) = (Arc::clone(&answers), Arc::clone(&answers));
    let done = Box::new(move |first: Result<Committed, StoreError>| {
        outer.lock().unwrap().push(first.unwrap().position);
        let again = Box::new(move |second: Result<Committed, StoreError>| {
            inner.lock().unwrap().push(second.unwrap().position);
        });
        chain.submit(vec![Request::Change(put(2, "from within a callback"))], again).unwrap();
    });
    store.submit(vec![open_epoch(), Request::Change(put(1, "x"))], done).unwrap();
    let positions = answers.lock().unwrap().clone();
    assert_eq!(positions.len(), 2);
    assert!(positions[0] < positions[1]);

    let world = World::new();
    let store = InlineStore::new(world.open().0, Stepping::Manual);
    submit(&store, vec![open_epoch()]);
    let waiting: Vec<_> = (0..5).map(|i| submit(&store, vec![Request::Change(put(i, "y"))])).collect();
    assert_eq!((store.waiting(), waiting[0].try_recv().is_err()), (6, true));
    let operations = world.disk.operations();
    assert!(store.step());
    assert_eq!(world.disk.operations() - operations, 2, "one write and one sync for all of them");
    assert!(waiting.iter().all(|answer| answer.try_recv().unwrap().is_ok()));
    assert!(!store.step());
}
