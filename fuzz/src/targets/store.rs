//! A store whose log or index was changed.

use std::sync::{Arc, OnceLock};

use federation_core::decide::{Change, Condition, Mutation};
use federation_core::dot::Origin;
use federation_core::id::{AgentId, BootId, Kind, Namespace, NodeId, RecordId, RecordKey};
use federation_core::op::Body;
use federation_core::port::clock::WallClock;
use federation_core::port::store::{ListQuery, Listed, OpenIds, ReplicaStore, Request};
use federation_core::scope::Scope;
use federation_core::time::WallMs;
use federation_store::disk::{Disk, DiskFile};
use federation_store::index::{Batch, Index as _, IndexOpener as _};
use federation_store::{
    Engine, InlineStore, OpenError, Options, OrderedIndexes, Setup, SimulatedDisk, Stepping,
};
use federation_wire::keys::NodeKey;
use federation_wire::seal::GroupSealer;

struct Fixed;

impl WallClock for Fixed {
    fn now(&self) -> WallMs {
        WallMs(1_700_000_000_000)
    }
}

/// The input is a list of patches: file, offset (two bytes), length, bytes. They are laid over a store with a few
/// writes in it, which is then opened without an index. It may be refused; what it does not refuse it must open
/// again to the same clock.
pub(super) fn log(input: &[u8]) {
    let disk = store_with_writes().0.fork().restarted();
    patch(&disk, input);
    let Ok(first) = open(&disk, &OrderedIndexes::new(), 2) else { return };
    let clock = first.snapshot().clock.clone();
    drop(first);
    match open(&disk, &OrderedIndexes::new(), 3) {
        Ok(second) => assert_eq!(second.snapshot().clock, clock, "recovery is the same when it is repeated"),
        Err(error) => panic!("a log that was recovered opens again: {error}"),
    }
}

/// The input is a list of changes: entry, length, bytes. Each is the new value of an entry of the index, or with an odd
/// length the key of a new one. Whatever the store makes of them, it answers.
pub(super) fn index(input: &[u8]) {
    let (disk, indexes) = store_with_writes();
    let (disk, indexes) = (disk.fork().restarted(), indexes.fork());
    change(&indexes, input);
    let Ok(engine) = open(&disk, &indexes, 2) else { return };
    let store = InlineStore::new(engine, Stepping::AtOnce);
    let (kind, id) = (name(Kind::new("note")), name(RecordId::new("r1")));
    let query = ListQuery {
        kind: kind.clone(),
        namespace: None,
        after: None,
        which: Listed::Visible,
        looks_max: 1_000,
        limit: 10,
        bytes_max: 1 << 20,
    };
    store.list(query, Box::new(drop));
    store.keys_of(kind.clone(), id.clone(), Box::new(drop));
    store.read(RecordKey { namespace: name(Namespace::new("n")), kind, id }, Box::new(drop));
    store.state_hash(Scope::everything(), Box::new(drop));
    let change = Change::Write(mutation(1, Body::Delete));
    let _ = store.submit(vec![Request::Change(change)], Box::new(drop));
}

fn change(indexes: &OrderedIndexes, mut input: &[u8]) {
    let Ok(index) = indexes.open() else { return };
    let entries = index.scan(&[], &[0xff; 64], 1_000).unwrap_or_default();
    let mut batch = Batch::new();
    while let [entry, length, rest @ ..] = input {
        let (bytes, behind) = rest.split_at(usize::from(*length).min(rest.len()));
        input = behind;
        let Some((key, value)) = entries.get(usize::from(*entry) % entries.len().max(1)) else { return };
        if length % 2 == 1 {
            batch.put([key, bytes].concat(), value.clone());
        } else {
            batch.put(key.clone(), bytes.to_vec());
        }
    }
    let applied = index.apply(batch).and_then(|()| index.checkpoint());
    assert!(applied.is_ok(), "an index in memory takes anything");
}

fn open(
    disk: &SimulatedDisk,
    indexes: &OrderedIndexes,
    boot: u64,
) -> Result<Engine<SimulatedDisk, OrderedIndexes>, OpenError> {
    let setup = Setup {
        ids: OpenIds { boot: BootId(boot), store_random: 7, now: WallMs(1), new_mesh: boot == 1 },
        node: name(NodeId::new("a")),
        replica_scope: Scope::everything(),
        sealer: Arc::new(GroupSealer::new(Arc::new(NodeKey::from_seed(&[7; 32])))),
        clock: Arc::new(Fixed),
        embedding_space: None,
        options: Options { segment_bytes: 16_384, reserve_bytes: 0, ..Options::default() },
    };
    Engine::open(disk.restarted(), indexes, setup, &mut |_, _| {}).map(|(engine, _)| engine)
}

fn store_with_writes() -> &'static (SimulatedDisk, OrderedIndexes) {
    static STORE: OnceLock<(SimulatedDisk, OrderedIndexes)> = OnceLock::new();
    STORE.get_or_init(|| {
        let (disk, indexes) = (SimulatedDisk::new(), OrderedIndexes::new());
        let Ok(engine) = open(&disk, &indexes, 1) else { panic!("an empty directory opens") };
        let store = InlineStore::new(engine, Stepping::AtOnce);
        let origin = Origin { node: name(NodeId::new("a")), epoch: BootId(1) };
        submit(&store, Change::OpenEpoch(origin));
        for number in 0_u8..6 {
            let put = Body::Put { payload: Arc::from([number; 40]), embedding: None, archived: false };
            let body = if number == 5 { Body::Delete } else { put };
            submit(&store, Change::Write(mutation(number % 4, body)));
        }
        assert!(store.close().is_ok(), "a sound store ends in order");
        (disk, indexes)
    })
}

fn submit(store: &impl ReplicaStore, change: Change) {
    let done = Box::new(|committed: Result<_, _>| assert!(committed.is_ok(), "the store takes writes"));
    assert!(store.submit(vec![Request::Change(change)], done).is_ok(), "the store is not busy");
}

fn mutation(id: u8, body: Body) -> Mutation {
    let key = RecordKey {
        namespace: name(Namespace::new("n")),
        kind: name(Kind::new("note")),
        id: name(RecordId::new(&format!("r{id}"))),
    };
    Mutation { key, author: name(AgentId::new("fuzz")), body, condition: Condition::None, token: None }
}

fn patch(disk: &SimulatedDisk, mut input: &[u8]) {
    let names = disk.list().unwrap_or_default();
    while let [file, low, high, length, rest @ ..] = input {
        let (bytes, behind) = rest.split_at(usize::from(*length).min(rest.len()));
        input = behind;
        let Some(chosen) = names.get(usize::from(*file) % names.len().max(1)) else { return };
        let Ok(open) = disk.open(chosen) else { continue };
        let room = open.len_bytes().unwrap_or(0);
        let offset = u64::from(u16::from_le_bytes([*low, *high])) % room.max(1);
        let kept = usize::try_from(room - offset).unwrap_or(0).min(bytes.len());
        // A disk that refuses the patch is one input less.
        let _ = open.write_at(offset, bytes.get(..kept).unwrap_or_default()).and_then(|()| open.sync_data());
    }
}

fn name<T, E: std::fmt::Display>(made: Result<T, E>) -> T {
    match made {
        Ok(made) => made,
        Err(error) => panic!("a valid name: {error}"),
    }
}
