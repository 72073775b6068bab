//! Recovery of a log whose bytes were changed.

use std::sync::{Arc, OnceLock};

use federation_core::decide::{Change, Condition, Mutation};
use federation_core::dot::Origin;
use federation_core::id::{AgentId, BootId, Kind, Namespace, NodeId, RecordId, RecordKey};
use federation_core::op::Body;
use federation_core::port::clock::WallClock;
use federation_core::port::store::{OpenIds, ReplicaStore, Request};
use federation_core::scope::Scope;
use federation_core::time::WallMs;
use federation_store::disk::{Disk, DiskFile};
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
    let disk = store_with_writes().fork().restarted();
    patch(&disk, input);
    let Ok(first) = open(&disk, 2) else { return };
    let clock = first.snapshot().clock.clone();
    drop(first);
    match open(&disk, 3) {
        Ok(second) => assert_eq!(second.snapshot().clock, clock, "recovery is the same when it is repeated"),
        Err(error) => panic!("a log that was recovered opens again: {error}"),
    }
}

fn open(disk: &SimulatedDisk, boot: u64) -> Result<Engine<SimulatedDisk, OrderedIndexes>, OpenError> {
    let setup = Setup {
        ids: OpenIds { boot: BootId(boot), store_random: 7, now: WallMs(1), new_mesh: boot == 1 },
        node: name(NodeId::new("a")),
        replica_scope: Scope::everything(),
        sealer: Arc::new(GroupSealer::new(Arc::new(NodeKey::from_seed(&[7; 32])))),
        clock: Arc::new(Fixed),
        embedding_space: None,
        options: Options { segment_bytes: 16_384, reserve_bytes: 0, ..Options::default() },
    };
    Engine::open(disk.restarted(), &OrderedIndexes::new(), setup, &mut |_, _| {}).map(|(engine, _)| engine)
}

fn store_with_writes() -> &'static SimulatedDisk {
    static STORE: OnceLock<SimulatedDisk> = OnceLock::new();
    STORE.get_or_init(|| {
        let disk = SimulatedDisk::new();
        let Ok(engine) = open(&disk, 1) else { panic!("an empty directory opens") };
        let store = InlineStore::new(engine, Stepping::AtOnce);
        let origin = Origin { node: name(NodeId::new("a")), epoch: BootId(1) };
        submit(&store, Change::OpenEpoch(origin));
        for number in 0_u8..6 {
            let put = Body::Put { payload: Arc::from([number; 40]), embedding: None, archived: false };
            let body = if number == 5 { Body::Delete } else { put };
            submit(&store, Change::Write(mutation(number % 4, body)));
        }
        disk
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
