//! Random histories of three nodes: the engine shows what the model shows, and an index made anew shows it again.

use federation_core::decide::Change;
use federation_core::dot::Dot;
use federation_core::node_clock::NodeClock;
use federation_core::port::store::Request;
use federation_store::Compacted;
use federation_store::disk::{Disk, Loss};
use federation_store::index::Survival;
use proptest::prelude::*;

use crate::model::{Model, origin};
use crate::script::{PIECE_BYTES, delete, key, keys, put};
use crate::world::{Seen, SimulatedEngine, World, commit_group, see};

#[derive(Clone, Copy, Debug)]
enum Event {
    Write {
        node: usize,
        id: usize,
        is_delete: bool,
    },
    /// One op, if the other side lacks it.
    Send {
        from: usize,
        to: usize,
        which: usize,
    },
    /// All live ops that the other side lacks, then the whole clock.
    Session {
        from: usize,
        to: usize,
    },
    Drop {
        which: usize,
    },
    Checkpoint,
    /// So many steps of compaction.
    Compact {
        steps: usize,
    },
    /// A power cut of the node with the engine.
    Crash {
        before_last: usize,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let (node, id) = (0..3_usize, 0..5_usize);
    prop_oneof![
        8 => (node.clone(), id, any::<bool>())
            .prop_map(|(node, id, is_delete)| Event::Write { node, id, is_delete }),
        6 => (node.clone(), node.clone(), 0..20_usize)
            .prop_map(|(from, to, which)| Event::Send { from, to, which }),
        2 => (node.clone(), node).prop_map(|(from, to)| Event::Session { from, to }),
        1 => (0..10_usize).prop_map(|which| Event::Drop { which }),
        1 => Just(Event::Checkpoint),
        2 => (1..30_usize).prop_map(|steps| Event::Compact { steps }),
        1 => (0..3_usize).prop_map(|before_last| Event::Crash { before_last }),
    ]
}

/// Node 0 is the engine and its model; 1 and 2 are models.
struct History {
    world: World,
    engine: Option<SimulatedEngine>,
    nodes: Vec<Model>,
    /// What gathers for the engine's next group.
    group: Vec<Vec<Request>>,
}

impl History {
    fn new() -> Self {
        let world = World::new();
        let engine = Some(world.open().0);
        let mut nodes = vec![Model::default(), Model::of_node("b"), Model::of_node("c")];
        nodes[0].run(vec![Change::OpenEpoch(origin("a"))]);
        let group = vec![vec![Request::Change(Change::OpenEpoch(origin("a")))]];
        Self { world, engine, nodes, group }
    }

    fn change(&mut self, node: usize, changes: Vec<Change>) {
        if node == 0 {
            self.group.push(changes.iter().cloned().map(Request::Change).collect());
        }
        self.nodes[node].run(changes);
        if self.group.len() > 3 {
            self.commit();
        }
    }

    fn commit(&mut self) {
        let group = std::mem::take(&mut self.group);
        let engine = self.engine.as_mut().unwrap();
        assert!(commit_group(engine, group).iter().all(Result::is_ok));
    }

    fn missing(&self, from: usize, to: usize) -> Vec<Dot> {
        let known: &NodeClock = &self.nodes[to].clock;
        self.nodes[from].live().into_keys().filter(|dot| !known.contains(dot)).collect()
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Write { node, id, is_delete } => {
                let change = if is_delete { delete(id) } else { put(id, &format!("{node} writes {id}")) };
                self.change(node, vec![change]);
            }
            Event::Send { from, to, which } => {
                let missing = self.missing(from, to);
                if let Some(dot) = missing.get(which % missing.len().max(1)) {
                    let op = self.nodes[from].ops[dot].clone();
                    self.change(to, vec![Change::Admit(op)]);
                }
            }
            Event::Session { from, to } => {
                let mut changes: Vec<Change> = self
                    .missing(from, to)
                    .iter()
                    .map(|dot| Change::Admit(self.nodes[from].ops[dot].clone()))
                    .collect();
                changes.push(Change::Complete(self.nodes[from].clock.clone()));
                self.change(to, changes);
            }
            Event::Drop { which } => {
                let live = self.nodes[0].live();
                if let Some((dot, key)) = live.into_iter().nth(which) {
                    self.change(0, vec![Change::DropDead { key, dots: vec![dot] }]);
                }
            }
            Event::Checkpoint => {
                self.commit();
                self.engine.as_mut().unwrap().checkpoint().unwrap();
            }
            Event::Compact { steps } => {
                self.commit();
                let engine = self.engine.as_mut().unwrap();
                for _ in 0..steps {
                    if engine.compact(PIECE_BYTES).unwrap() == Compacted::Waits {
                        engine.checkpoint().unwrap();
                    }
                }
            }
            Event::Crash { before_last } => {
                self.commit();
                let before = see(self.engine.as_ref().unwrap(), keys());
                self.engine = None;
                self.world.crash(Loss::All, Survival::Checkpoint { before_last });
                self.engine = Some(self.world.open().0);
                assert_eq!(see(self.engine.as_ref().unwrap(), keys()), before);
                self.nodes[0].restart();
                self.change(0, vec![Change::OpenEpoch(origin("a"))]);
            }
        }
    }

    fn check(mut self) -> Seen {
        self.commit();
        let running = see(self.engine.as_ref().unwrap(), keys());
        assert_eq!(running.clock, self.nodes[0].clock);
        for id in 0..5 {
            let expected = self.nodes[0].records.get(&key(id)).cloned().unwrap_or_default();
            assert_eq!(running.records[&key(id)].record, expected);
        }
        self.engine = None;
        self.world.crash(Loss::All, Survival::Empty);
        assert_eq!(see(&self.world.open().0, keys()), running, "an index made anew differs");
        running
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn an_index_made_anew_from_the_log_is_the_running_one(
        events in proptest::collection::vec(event(), 1..60)
    ) {
        let mut history = History::new();
        for event in events {
            history.step(event);
        }
        history.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn no_damage_to_any_file_makes_the_opening_panic(
        flips in proptest::collection::vec((0..64_usize, 0..5_000_u64, 0..8_u8), 1..6),
        survival in prop_oneof![Just(Survival::Empty), Just(Survival::Everything), Just(Survival::Damaged)],
    ) {
        let mut world = WORLD.get_or_init(|| {
            let mut world = World::new();
            drop(crate::script::run(&mut world, &crate::script::script(), crate::script::Look::Never));
            world
        }).fork();
        world.crash(Loss::All, survival);
        let names = world.disk.list().unwrap();
        for (file, offset, bit) in flips {
            world.disk.flip_bit(&names[file % names.len()], offset, bit);
        }
        if let Ok((engine, _)) = world.try_open(false) {
            // With its index it may open over damage that it has no reason to read; reads then say so or are right.
            let reads = engine.reads();
            for key in keys() {
                let _ = reads.record(&key);
            }
        }
    }
}

static WORLD: std::sync::OnceLock<World> = std::sync::OnceLock::new();
