//! A scripted run with everything in it, and what the store is to show after each step of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use federation_core::decide::{Change, Condition, Mutation};
use federation_core::dot::{Dot, Origin};
use federation_core::dot_set::DotSet;
use federation_core::id::{AgentId, BootId, Kind, LogPosition, Namespace, RecordId, RecordKey, StoreId};
use federation_core::node_clock::NodeClock;
use federation_core::op::Body;
use federation_core::port::store::{Fact, PeerFact, RefusalReason, Request, StoreError};
use federation_store::disk::{Disk, Loss};
use federation_store::index::{IndexOpener, Survival};
use federation_store::{Compacted, Engine};

use crate::model::{Model, origin};
use crate::world::{Seen, SimulatedEngine, World, commit_group, node, see};

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Batches of one group.
    Group(Vec<Vec<Request>>),
    Checkpoint,
    /// Compaction, step by step, until there is nothing to do.
    Compact,
    /// The process dies and starts again.
    Restart,
}

pub(crate) fn key(id: usize) -> RecordKey {
    RecordKey {
        namespace: Namespace::new(if id.is_multiple_of(3) { "team" } else { "team/notes" }).unwrap(),
        kind: if id.is_multiple_of(7) { Kind::new("event").unwrap() } else { Kind::memory() },
        id: RecordId::new(&format!("r{id}")).unwrap(),
    }
}

pub(crate) fn keys() -> BTreeSet<RecordKey> {
    (0..KEYS).map(key).collect()
}

pub(crate) const KEYS: usize = 32;
/// Those that are written again and again; the others once, and then they are old.
const HOT_KEYS: usize = 24;

pub(crate) fn put(id: usize, text: &str) -> Change {
    Change::Write(Mutation {
        key: key(id),
        author: AgentId::new("tester").unwrap(),
        body: Body::Put { payload: Arc::from(text.as_bytes()), embedding: None, archived: id % 11 == 5 },
        condition: Condition::None,
        token: None,
    })
}

pub(crate) fn delete(id: usize) -> Change {
    Change::Write(Mutation {
        key: key(id),
        author: AgentId::new("tester").unwrap(),
        body: Body::Delete,
        condition: Condition::Present,
        token: None,
    })
}

pub(crate) fn open_epoch() -> Request {
    Request::Change(Change::OpenEpoch(origin("a")))
}

fn requests(changes: impl IntoIterator<Item = Change>) -> Vec<Request> {
    changes.into_iter().map(Request::Change).collect()
}

/// Some 230 ops in some 100 groups: own writes and deletes, ops of two other nodes, concurrent and superseded ones,
/// completions, facts, dead letters, drops, sessions, checkpoints, compactions, restarts.
pub(crate) fn script() -> Vec<Step> {
    let (mut a, mut b, mut c) = (Model::default(), Model::of_node("b"), Model::of_node("c"));
    let mut steps = vec![Step::Group(vec![vec![open_epoch()]])];
    a.run(vec![Change::OpenEpoch(origin("a"))]);
    for round in 0..18_usize {
        let own: Vec<Change> = (0..8)
            .map(|i| put((round * 5 + i * 3) % HOT_KEYS, &format!("own {round} {i} {}", "x".repeat(i * 9))))
            .collect();
        a.run(own.clone());
        let (first, second) = own.split_at(3);
        steps.push(Step::Group(vec![requests(first.to_vec()), requests(second.to_vec())]));

        if round < 8 {
            let old = [put(HOT_KEYS + round, "old, and live for ever")];
            let gone = (round == 3).then(|| delete(HOT_KEYS));
            let once: Vec<Change> = old.into_iter().chain(gone).collect();
            a.run(once.clone());
            steps.push(Step::Group(vec![requests(once)]));
        }
        // Two writes of b to one record, of which only the second arrives; and a concurrent one of c.
        let b_first = b.run(vec![put(round, "b, never sent"), put(round + 1, "b, sent")]);
        let b_second = b.run(vec![put(round, "b again")]);
        c.run(vec![put(round, "c")]);
        let sent: Vec<Dot> =
            b_first.ops.iter().skip(1).chain(&b_second.ops).map(|op| op.op.dot.clone()).collect();
        let mut admitted: Vec<Change> = sent.iter().map(|dot| Change::Admit(b.ops[dot].clone())).collect();
        admitted.push(Change::Admit(c.ops.last_key_value().unwrap().1.clone()));
        a.run(admitted.clone());
        steps.push(Step::Group(vec![requests(admitted)]));
        // Then b completes: its unsent op is covered by the one that came. And one that came is sent again.
        let covered = NodeClock::from(b.clock.iter().fold(DotSet::new(), |mut dots, (origin, seqs)| {
            seqs.ranges().iter().for_each(|range| dots.insert_range(origin, *range));
            dots
        }));
        let late = vec![Change::Complete(covered), Change::Admit(b.ops[&b_first.ops[0].op.dot].clone())];
        a.run(late.clone());
        steps.push(Step::Group(vec![requests(late)]));
        if round % 3 == 1 {
            let gone = vec![delete(round * 2 % HOT_KEYS), delete((round * 2 + 1) % HOT_KEYS)];
            a.run(gone.clone());
            steps.push(Step::Group(vec![requests(gone)]));
        }
        steps.push(Step::Group(vec![remembered(round, &a)]));
        if round == REBOOTSTRAP_ROUND {
            // The epoch ends with what was remembered: a new one begins.
            a.end_epoch();
            a.run(vec![Change::OpenEpoch(epoch(round + 1))]);
            steps.push(Step::Group(vec![vec![Request::Change(Change::OpenEpoch(epoch(round + 1)))]]));
        }
        if round % 4 == 2 {
            // A drop beside writes: the log must keep their order.
            let (dot, key) = a.live().into_iter().nth(round).unwrap();
            let drop = Change::DropDead { key, dots: vec![dot] };
            let mixed = vec![put(round + 2, "before the drop"), drop, put(round + 3, "after the drop")];
            a.run(mixed.clone());
            steps.push(Step::Group(vec![requests(mixed)]));
        }
        if matches!(round, 5 | 9 | 12 | 16) {
            steps.push(Step::Compact);
        }
        match round {
            2 | 7 | 10 | 13 => steps.push(Step::Checkpoint),
            4 => steps.push(Step::Restart),
            8 => steps.extend([Step::Checkpoint, Step::Restart]),
            _ => {}
        }
        if round == 4 || round == 8 {
            a.restart();
            a.run(vec![Change::OpenEpoch(epoch(round))]);
            steps.push(Step::Group(vec![vec![Request::Change(Change::OpenEpoch(epoch(round)))]]));
        }
    }
    steps
}

fn epoch(round: usize) -> Origin {
    Origin { epoch: BootId(if round > REBOOTSTRAP_ROUND { 2 } else { 1 }), ..origin("a") }
}

const REBOOTSTRAP_ROUND: usize = 6;

fn remembered(round: usize, a: &Model) -> Vec<Request> {
    let peer = node(if round.is_multiple_of(2) { "b" } else { "c" });
    let live = a.live().into_keys().nth(round).unwrap();
    let at = round as u64;
    let known = PeerFact {
        store: StoreId { created_ms: 5, random: 6 },
        boot: BootId(at / 3),
        position: LogPosition(1_000 * at),
    };
    let mut facts = vec![
        Fact::Peer(peer.clone(), known),
        Fact::DeadLetter { peer: peer.clone(), dot: live.clone(), reason: RefusalReason::Invalid },
    ];
    if round % 3 < 2 {
        facts.push(Fact::DeadLetterDiscarded { peer: peer.clone(), dot: live.clone() });
    }
    if round % 3 == 1 {
        facts.push(Fact::DeadLetterRetried { peer: peer.clone(), dot: live });
    }
    match round {
        0 | 7 => facts.push(Fact::RebootstrapDrained(peer)),
        1 => facts.push(Fact::RebootstrapDone),
        REBOOTSTRAP_ROUND => {
            facts.push(Fact::RebootstrapBegun { store: StoreId { created_ms: 9, random: 9 } });
        }
        _ => {}
    }
    let mut all: Vec<Request> = facts.into_iter().map(Request::Remember).collect();
    all.push(Request::BeginSession { peer: node("b") });
    all
}

/// How far a run came.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    /// Steps that were done and, where they are groups, acknowledged.
    pub(crate) steps: usize,
    /// The greatest position that was told, with the boot that told it.
    pub(crate) told: Vec<(BootId, LogPosition)>,
    /// What was seen after each step, if it was asked for.
    pub(crate) seen: Vec<Seen>,
}

/// Whether a run keeps what is seen after each step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    AfterEach,
    Never,
}

/// Runs `steps` until the end or until the store no longer does what it is asked.
pub(crate) fn run(world: &mut World, steps: &[Step], look: Look) -> (Ran, Option<SimulatedEngine>) {
    let mut ran = Ran { steps: 0, told: Vec::new(), seen: Vec::new() };
    let Ok((mut engine, _)) = world.try_open(false) else { return (ran, None) };
    for step in steps {
        match step {
            Step::Group(batches) => {
                let answers = commit_group(&mut engine, batches.clone());
                if answers.iter().any(Result::is_err) {
                    assert!(answers.iter().all(|a| *a == Err(StoreError::InDoubt)), "{answers:?}");
                    return (ran, Some(engine));
                }
                let boot = engine.snapshot().facts.boots.last().unwrap().id;
                ran.told.push((boot, answers.last().unwrap().as_ref().unwrap().position));
            }
            Step::Checkpoint => {
                if engine.checkpoint().is_err() {
                    return (ran, Some(engine));
                }
            }
            Step::Compact => {
                if compact(&mut engine).is_err() {
                    return (ran, Some(engine));
                }
            }
            Step::Restart => {
                world.disk = world.disk.restarted();
                world.indexes.survive(Survival::Everything);
                match world.try_open(false) {
                    Ok((again, _)) => engine = again,
                    Err(_) => return (ran, None),
                }
            }
        }
        ran.steps += 1;
        if look == Look::AfterEach {
            ran.seen.push(see(&engine, keys()));
        }
    }
    (ran, Some(engine))
}

/// Compacts, with the checkpoints that it waits for, until there is nothing to do.
pub(crate) fn compact<D: Disk, O: IndexOpener>(engine: &mut Engine<D, O>) -> Result<(), StoreError> {
    for _ in 0..STEPS_MAX {
        match engine.compact(PIECE_BYTES)? {
            Compacted::More => {}
            Compacted::Waits => engine.checkpoint()?,
            Compacted::Done => return Ok(()),
        }
    }
    panic!("compaction does not end");
}

/// So little that a segment takes several steps.
pub(crate) const PIECE_BYTES: u64 = 1_500;
/// More steps than any compaction of these tests takes.
const STEPS_MAX: usize = 10_000;

/// What the store is to show after each step, found out without any fault.
pub(crate) fn expected(steps: &[Step]) -> Vec<Seen> {
    let (ran, _) = run(&mut World::new(), steps, Look::AfterEach);
    assert_eq!(ran.steps, steps.len(), "the script does not run through");
    ran.seen
}

/// Ways in which the disk may come out of a crash.
pub(crate) fn losses(seed: u64) -> [Loss; 4] {
    [Loss::None, Loss::All, Loss::Some { seed }, Loss::Some { seed: seed + 1_000_000 }]
}
