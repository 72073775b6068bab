//! Random histories: whatever happens, no version vanishes unless an op whose writer had seen it replaced it,
//! and all replicas end equal.

use proptest::prelude::*;

use federation_core::attest::Trust;
use federation_core::id::RecordKey;
use federation_core::op::Body;
use federation_core::scope::Scope;
use federation_core::time::DurationMs;

use crate::mesh::{At, End, Mesh, Mood, Read};
use crate::replica::{Replica, key_in, put};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Write {
        at: At,
        record: usize,
        is_delete: bool,
        reads: usize,
    },
    Read {
        at: At,
        record: usize,
    },
    Deliver {
        index: usize,
        again: bool,
    },
    Lose {
        index: usize,
    },
    Session {
        from: At,
        to: At,
    },
    BeginSession {
        from: At,
        to: At,
    },
    NextPage {
        index: usize,
    },
    BreakSession {
        index: usize,
    },
    Mood {
        at: At,
        mood: Mood,
    },
    Tick {
        at: At,
        ms: u64,
    },
    Restart {
        at: At,
        end: End,
        silent: At,
    },
    Hello {
        from: At,
        to: At,
        is_answered: bool,
    },
    /// An image is taken of a running node's disk.
    Image {
        at: At,
    },
    /// An image is taken of a disk that was left in order.
    ColdImage {
        at: At,
        silent: At,
    },
    RollBack {
        at: At,
        silent: At,
    },
    Wipe {
        at: At,
    },
    /// A node is started with another scope.
    Scope {
        at: At,
        names: u8,
        silent: At,
    },
}

/// What a history needs beyond its mesh: reads that clients keep, and old copies of disks.
struct Run {
    mesh: Mesh,
    reads: Vec<(usize, Read)>,
    images: Vec<Option<Replica>>,
    /// The node whose disk was lost last.
    last_lost: Option<At>,
    /// Few records make many siblings, many make holes in clocks.
    records: usize,
}

const NAMESPACES: [&str; 3] = ["x", "y", "z"];

/// A record of every run: each in a namespace of its own.
fn key(record: usize) -> RecordKey {
    key_in(NAMESPACES[record], "r")
}

/// Some of the namespaces, by their bits.
fn scope(bits: u8) -> Scope {
    let chosen = NAMESPACES.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
    Scope::parse(chosen.map(|(_, name)| *name)).unwrap()
}

impl Run {
    fn new(nodes: usize, records: usize) -> Self {
        let names = &["a", "b", "c", "d", "e"][..nodes];
        let (mesh, images) = (Mesh::new(names), vec![None; nodes]);
        Self { mesh, reads: Vec::new(), images, last_lost: None, records }
    }

    fn step(&mut self, step: Step) {
        let mesh = &mut self.mesh;
        let node = |at: At| at % mesh.n();
        match step {
            Step::Write { at, record, is_delete, reads } => {
                let (at, record) = (node(at), record % self.records);
                if !mesh.replicas[at].facts.replica_scope.contains(&key(record).namespace) {
                    return;
                }
                let of_record: Vec<&Read> =
                    self.reads.iter().filter(|(r, _)| *r == record).map(|(_, read)| read).collect();
                // One in two writes names a read, where there is one.
                let read = of_record.get(reads % (2 * of_record.len().max(1))).copied();
                let body = if is_delete { Body::Delete } else { put("x") };
                let _too_many_siblings = mesh.try_write(at, &key(record), body, read);
            }
            Step::Read { at, record } => {
                let record = record % self.records;
                let read = mesh.read(node(at), &key(record));
                self.reads.push((record, read));
            }
            Step::Deliver { index, again } => mesh.deliver(index, again),
            Step::Lose { index } => mesh.lose(index),
            Step::Session { from, to } => mesh.session(node(from), node(to)),
            Step::BeginSession { from, to } => mesh.begin_session(node(from), node(to)),
            Step::NextPage { index } => {
                mesh.step_session(index);
            }
            Step::BreakSession { index } => mesh.break_session(index),
            Step::Mood { at, mood } => {
                let at = node(at);
                mesh.moods[at] = mood;
            }
            Step::Tick { at, ms } => {
                let at = node(at);
                mesh.replicas[at].now = mesh.replicas[at].now.saturating_add(DurationMs(ms));
            }
            Step::Restart { at, end, silent } => {
                let (at, silent) = (node(at), silent % (2 * mesh.n()));
                mesh.restart(at, end, |peer| peer != silent);
            }
            Step::Hello { from, to, is_answered: true } => mesh.hello(node(from), node(to)),
            Step::Hello { from, to, is_answered: false } => mesh.half_hello(node(from), node(to)),
            Step::Image { at } => {
                let at = node(at);
                self.images[at] = Some(mesh.replicas[at].clone());
            }
            Step::ColdImage { at, silent } => {
                let (at, silent) = (node(at), silent % (2 * mesh.n()));
                let mut image = mesh.replicas[at].clone();
                image.close();
                self.images[at] = Some(image);
                mesh.restart(at, End::InOrder, |peer| peer != silent);
            }
            Step::RollBack { at, silent } => {
                let (at, silent) = (node(at), silent % (2 * mesh.n()));
                if let Some(image) = self.images[at].clone() {
                    self.loses(at);
                    self.mesh.come_back_with(at, image, |peer| peer != silent);
                }
            }
            Step::Wipe { at } => {
                let at = node(at);
                self.loses(at);
                self.mesh.come_back_wiped(at);
            }
            Step::Scope { at, names, silent } => {
                let (at, silent) = (node(at), silent % (2 * mesh.n()));
                let scope = scope(names);
                for other in (0..mesh.n()).filter(|other| *other != at) {
                    let trust = Trust { replicates: scope.clone(), ..mesh.trust(other, at) };
                    mesh.trusts.insert((other, at), trust);
                }
                mesh.replicas[at].keep(scope);
                mesh.restart(at, End::CutOff, |peer| peer != silent);
            }
        }
        self.mesh.check();
    }

    /// A disk is about to be lost. One at a time: what the last one forgot, it has heard again from those that had not.
    fn loses(&mut self, at: At) {
        if self.last_lost.replace(at).is_some_and(|last| last != at) {
            for from in 0..self.mesh.n() {
                for to in 0..self.mesh.n() {
                    self.mesh.hello(from, to);
                }
            }
        }
    }

    fn end(mut self) {
        self.mesh.converge();
        self.mesh.assert_converged();
    }
}

fn quiet_step() -> impl Strategy<Value = Step> {
    let i = || 0..64_usize;
    prop_oneof![
        6 => (i(), i(), prop::bool::weighted(0.2), i())
            .prop_map(|(at, record, is_delete, reads)| Step::Write { at, record, is_delete, reads }),
        2 => (i(), i()).prop_map(|(at, record)| Step::Read { at, record }),
        6 => (i(), any::<bool>()).prop_map(|(index, again)| Step::Deliver { index, again }),
        2 => i().prop_map(|index| Step::Lose { index }),
        1 => (i(), i()).prop_map(|(from, to)| Step::Session { from, to }),
        2 => (i(), i()).prop_map(|(from, to)| Step::BeginSession { from, to }),
        8 => i().prop_map(|index| Step::NextPage { index }),
        1 => i().prop_map(|index| Step::BreakSession { index }),
    ]
}

fn rough_step() -> impl Strategy<Value = Step> {
    let i = || 0..64_usize;
    let mood = prop_oneof![Just(Mood::Willing), Just(Mood::Busy), Just(Mood::Forbidding)];
    let ms = prop_oneof![Just(1_u64), Just(5_000), Just(90_000)];
    prop_oneof![
        12 => quiet_step(),
        1 => (i(), mood).prop_map(|(at, mood)| Step::Mood { at, mood }),
        1 => (i(), ms).prop_map(|(at, ms)| Step::Tick { at, ms }),
        1 => restart(),
    ]
}

fn ruinous_step() -> impl Strategy<Value = Step> {
    let i = || 0..64_usize;
    prop_oneof![
        20 => rough_step(),
        1 => i().prop_map(|at| Step::Image { at }),
        1 => (i(), i()).prop_map(|(at, silent)| Step::ColdImage { at, silent }),
        1 => (i(), i()).prop_map(|(at, silent)| Step::RollBack { at, silent }),
        1 => i().prop_map(|at| Step::Wipe { at }),
    ]
}

/// Disks that go back again and again while few ops reach anyone: who lost an op seldom hears of it.
fn forgetful_step() -> impl Strategy<Value = Step> {
    let i = || 0..64_usize;
    prop_oneof![
        6 => (i(), i()).prop_map(|(at, record)| Step::Write { at, record, is_delete: false, reads: 0 }),
        1 => quiet_step(),
        3 => restart(),
        3 => (i(), i(), any::<bool>())
            .prop_map(|(from, to, is_answered)| Step::Hello { from, to, is_answered }),
        2 => i().prop_map(|at| Step::Image { at }),
        2 => (i(), i()).prop_map(|(at, silent)| Step::ColdImage { at, silent }),
        3 => (i(), i()).prop_map(|(at, silent)| Step::RollBack { at, silent }),
    ]
}

/// Nodes that keep and trust each other with different parts, and change their minds.
fn scoped_step() -> impl Strategy<Value = Step> {
    let i = || 0..64_usize;
    prop_oneof![
        20 => rough_step(),
        1 => i().prop_map(|at| Step::Wipe { at }),
        1 => (i(), any::<u8>(), i()).prop_map(|(at, names, silent)| Step::Scope { at, names, silent }),
    ]
}

fn restart() -> impl Strategy<Value = Step> {
    let end = prop_oneof![Just(End::InOrder), Just(End::CutOff)];
    (0..64_usize, end, 0..64_usize).prop_map(|(at, end, silent)| Step::Restart { at, end, silent })
}

fn run(nodes: usize, records: usize, steps: Vec<Step>) {
    let mut run = Run::new(nodes, records);
    for step in steps {
        run.step(step);
    }
    run.end();
}

fn cases(of_a_quick_run: u32) -> ProptestConfig {
    // PROPTEST_CASES multiplies a long run; the default keeps `cargo test` short.
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig::with_cases(wanted.unwrap_or(of_a_quick_run))
}

/// What each node keeps, and what each trusts each other with: grant, accept, relay.
type Scopes = (Vec<u8>, Vec<[u8; 3]>);

fn scopes() -> impl Strategy<Value = Scopes> {
    // Everything, half of the time: with less, little would go anywhere.
    let names = || prop_oneof![Just(7_u8), 0..8_u8];
    let trust = [names(), names(), names()];
    (prop::collection::vec(names(), 4), prop::collection::vec(trust, 16))
}

fn run_scoped(nodes: usize, (kept, trusted): Scopes, steps: Vec<Step>) {
    let mut run = Run::new(nodes, NAMESPACES.len());
    for at in 0..nodes {
        run.mesh.replicas[at].facts.replica_scope = scope(kept[at]);
        for of in (0..nodes).filter(|of| *of != at) {
            let [grant, accept, relay] = trusted[4 * at + of].map(scope);
            let trust = Trust { replicates: scope(kept[of]), grant, accept, relay, ..Trust::full() };
            run.mesh.trusts.insert((at, of), trust);
        }
    }
    for step in steps {
        run.step(step);
    }
    // All come to trust each other fully, and what each keeps is all that it lacks: it is then given it.
    run.mesh.trusts.clear();
    for at in 0..nodes {
        let replicates = run.mesh.replicas[at].facts.replica_scope.clone();
        for other in (0..nodes).filter(|other| *other != at) {
            let trust = Trust { replicates: replicates.clone(), ..Trust::full() };
            run.mesh.trusts.insert((other, at), trust);
        }
    }
    run.mesh.converge();
    run.mesh.assert_converged_in_scope();
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn nothing_vanishes_between_nodes_that_keep_and_trust_different_parts(
        nodes in 2_usize..5,
        scopes in scopes(),
        steps in prop::collection::vec(scoped_step(), 1..100),
    ) {
        run_scoped(nodes, scopes, steps);
    }

    #[test]
    fn nothing_unseen_vanishes_under_loss_and_reordering(
        nodes in 2..6_usize,
        records in 1..=NAMESPACES.len(),
        steps in prop::collection::vec(quiet_step(), 1..80),
    ) {
        run(nodes, records, steps);
    }

    #[test]
    fn nothing_unseen_vanishes_under_refusals_skew_and_restarts(
        nodes in 2..6_usize,
        records in 1..=NAMESPACES.len(),
        steps in prop::collection::vec(rough_step(), 1..80),
    ) {
        run(nodes, records, steps);
    }

    #[test]
    fn nothing_held_elsewhere_vanishes_when_disks_are_wiped_or_rolled_back(
        nodes in 2..5_usize,
        records in 1..=NAMESPACES.len(),
        steps in prop::collection::vec(ruinous_step(), 1..80),
    ) {
        run(nodes, records, steps);
    }

    #[test]
    fn no_dot_is_given_twice_whatever_disk_comes_back(
        nodes in 2..4_usize,
        steps in prop::collection::vec(forgetful_step(), 1..60),
    ) {
        run(nodes, 1, steps);
    }
}
