//! What is done to the nodes, and when: data, drawn from a seed.

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::chaos::proxy::LinkMode;

/// A whole campaign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// What it was drawn from.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// `--quorum-timeout-ms` of each node.
    pub quorum_timeout_ms: u64,
    /// How many writers.
    pub writers: u32,
    /// One fault after the other; between two of them the nodes become equal.
    pub cycles: Vec<CyclePlan>,
}

/// One fault, and the load around it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CyclePlan {
    /// Its place, from 0.
    pub number: usize,
    /// What the writers draw from.
    pub seed: u64,
    /// What happens.
    pub fault: Fault,
    /// Writes that are begun in it, evenly over its time; those of a burst come on top.
    pub writes: u32,
    /// Milliseconds of load before the fault.
    pub before_ms: u64,
    /// Milliseconds from the fault to its healing.
    pub hold_ms: u64,
    /// When it is healed.
    pub heal: Heal,
}

/// When a fault is healed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "when", rename_all = "snake_case", deny_unknown_fields)]
pub enum Heal {
    /// After the last write was answered: nothing but the nodes' own timers starts their catching up.
    AfterLoad,
    /// While writes go on for so many milliseconds more.
    UnderLoad {
        /// Milliseconds.
        after_ms: u64,
    },
}

/// A kind of fault, as it is named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum FaultClass {
    /// SIGKILL of one node while all are written to.
    KillReplica,
    /// SIGKILL of a node that coordinates writes at that moment.
    KillPrimaryMidWrite,
    /// Links are cut, one way or both.
    Partition,
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "class", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// SIGKILL; healed by a restart.
    KillReplica {
        /// The node.
        node: usize,
    },
    /// SIGKILL of a node to which many write at once; healed by a restart.
    KillPrimaryMidWrite {
        /// The node.
        node: usize,
        /// Writers beyond the others, who write to that node without a pause.
        burst_writers: u32,
        /// Milliseconds from the begin of the burst to the first moment at which the node is killed.
        kill_after_ms: u64,
    },
    /// Links are cut; healed by opening them.
    Partition {
        /// What it is, for people.
        shape: PartitionShape,
        /// What is done to which link.
        cuts: Vec<Cut>,
    },
}

/// What a partition looks like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "shape", rename_all = "snake_case", deny_unknown_fields)]
pub enum PartitionShape {
    /// These nodes and the others do not reach each other.
    Minority {
        /// The smaller side.
        nodes: Vec<usize>,
    },
    /// What this node sends is lost, what is sent to it arrives.
    Mute {
        /// The node.
        node: usize,
    },
    /// What is sent to this node is lost, what it sends arrives.
    Deaf {
        /// The node.
        node: usize,
    },
}

/// What is done to one directed link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// The node that dials.
    pub from: usize,
    /// The node that is dialled.
    pub to: usize,
    /// What the link does.
    pub mode: LinkMode,
}

/// What a schedule is drawn for.
#[derive(Clone, Debug)]
pub struct ScheduleSpec {
    /// The seed.
    pub seed: u64,
    /// How many nodes, from 3.
    pub nodes: usize,
    /// Writes of each cycle.
    pub writes: u32,
    /// Cycles of each class.
    pub cycles: usize,
    /// The classes.
    pub classes: Vec<FaultClass>,
}

/// Milliseconds that a write waits for its quorum: short, so that a writer is refused several times in one partition.
const QUORUM_TIMEOUT_MS: u64 = 1_000;
/// Writers that are always there.
const WRITERS: u32 = 12;
/// Shapes of a partition, in turn, so that a short campaign has each.
const SHAPES: usize = 5;

impl Schedule {
    /// Draws a schedule: the classes take turns.
    pub fn draw(spec: &ScheduleSpec) -> Self {
        let mut random = StdRng::seed_from_u64(spec.seed);
        let mut cycles = Vec::new();
        for round in 0..spec.cycles {
            for class in &spec.classes {
                let number = cycles.len();
                cycles.push(CyclePlan {
                    number,
                    seed: random.next_u64(),
                    fault: draw_fault(*class, round, spec.nodes, &mut random),
                    writes: spec.writes,
                    before_ms: random.random_range(150..400),
                    hold_ms: random.random_range(800..1_400),
                    heal: if random.random_bool(0.5) {
                        Heal::AfterLoad
                    } else {
                        Heal::UnderLoad { after_ms: random.random_range(200..500) }
                    },
                });
            }
        }
        Self {
            seed: spec.seed,
            nodes: spec.nodes,
            quorum_timeout_ms: QUORUM_TIMEOUT_MS,
            writers: WRITERS,
            cycles,
        }
    }
}

impl Fault {
    /// Its class.
    pub fn class(&self) -> FaultClass {
        match self {
            Self::KillReplica { .. } => FaultClass::KillReplica,
            Self::KillPrimaryMidWrite { .. } => FaultClass::KillPrimaryMidWrite,
            Self::Partition { .. } => FaultClass::Partition,
        }
    }
}

impl FaultClass {
    /// All, in the order in which they take turns.
    pub const ALL: [Self; 3] = [Self::KillReplica, Self::KillPrimaryMidWrite, Self::Partition];

    /// Its name.
    pub fn slug(self) -> &'static str {
        match self {
            Self::KillReplica => "kill_replica",
            Self::KillPrimaryMidWrite => "kill_primary_mid_write",
            Self::Partition => "partition",
        }
    }

    /// By what means it is brought about.
    pub fn mechanism(self) -> &'static str {
        match self {
            Self::KillReplica => {
                "SIGKILL of the process, restart on the same directory (the page cache survives)"
            }
            Self::KillPrimaryMidWrite => {
                "SIGKILL of the process while client calls to it are open, restart on the same directory \
                 (the page cache survives)"
            }
            Self::Partition => {
                "a userspace TCP proxy for each directed link: held both ways, held one way, or reset \
                 (no packet is lost below TCP)"
            }
        }
    }
}

fn draw_fault(class: FaultClass, round: usize, nodes: usize, random: &mut StdRng) -> Fault {
    let node = random.random_range(0..nodes);
    match class {
        FaultClass::KillReplica => Fault::KillReplica { node },
        FaultClass::KillPrimaryMidWrite => Fault::KillPrimaryMidWrite {
            node,
            burst_writers: random.random_range(4..17),
            kill_after_ms: random.random_range(5..80),
        },
        FaultClass::Partition => {
            let (shape, cuts) = draw_partition(round, node, nodes, random);
            Fault::Partition { shape, cuts }
        }
    }
}

fn draw_partition(
    round: usize,
    node: usize,
    nodes: usize,
    random: &mut StdRng,
) -> (PartitionShape, Vec<Cut>) {
    // With an even number of nodes a half is no minority: it cannot write, and neither can the other.
    let size = random.random_range(1..=nodes.div_ceil(2) - 1);
    let minority: Vec<usize> = (0..size).map(|offset| (node + offset) % nodes).collect();
    match round % SHAPES {
        0 => (PartitionShape::Minority { nodes: minority.clone() }, around(&minority, nodes, LinkMode::Held)),
        1 => (
            PartitionShape::Mute { node },
            one_way(node, nodes, LinkMode::RequestsHeld, LinkMode::AnswersHeld),
        ),
        2 => {
            (PartitionShape::Minority { nodes: minority.clone() }, around(&minority, nodes, LinkMode::Reset))
        }
        3 => (
            PartitionShape::Deaf { node },
            one_way(node, nodes, LinkMode::AnswersHeld, LinkMode::RequestsHeld),
        ),
        _ => (PartitionShape::Minority { nodes: vec![node] }, around(&[node], nodes, LinkMode::Held)),
    }
}

/// Cuts each link between these nodes and the others.
fn around(side: &[usize], nodes: usize, mode: LinkMode) -> Vec<Cut> {
    links(nodes)
        .filter(|(from, to)| side.contains(from) != side.contains(to))
        .map(|(from, to)| Cut { from, to, mode })
        .collect()
}

/// Does one thing to the links that `node` dials and another to those by which it is dialled.
fn one_way(node: usize, nodes: usize, dialled: LinkMode, dialling: LinkMode) -> Vec<Cut> {
    let (outward, inward) = (dialled, dialling);
    links(nodes)
        .filter(|(from, to)| *from == node || *to == node)
        .map(|(from, to)| Cut { from, to, mode: if from == node { outward } else { inward } })
        .collect()
}

/// Every directed link of a mesh, as (who dials, who is dialled).
pub fn links(nodes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..nodes).flat_map(move |from| (0..nodes).filter(move |to| *to != from).map(move |to| (from, to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(seed: u64, nodes: usize) -> ScheduleSpec {
        ScheduleSpec { seed, nodes, writes: 100, cycles: 10, classes: FaultClass::ALL.to_vec() }
    }

    #[test]
    fn a_seed_gives_one_schedule_and_its_text_gives_it_back() {
        let schedule = Schedule::draw(&spec(7, 3));
        assert_eq!(schedule, Schedule::draw(&spec(7, 3)));
        assert_ne!(schedule, Schedule::draw(&spec(8, 3)));
        let text = serde_json::to_string_pretty(&schedule).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), schedule);
        assert_eq!(schedule.cycles.len(), 30);
    }

    #[test]
    fn a_partition_leaves_a_majority_whole() {
        for seed in 0..200 {
            for nodes in 3..=7 {
                for cycle in Schedule::draw(&spec(seed, nodes)).cycles {
                    let Fault::Partition { cuts, .. } = cycle.fault else { continue };
                    assert!(!cuts.is_empty());
                    assert!(cuts.iter().all(|cut| cut.from != cut.to && cut.from < nodes && cut.to < nodes));
                    let is_cut = |a, b| {
                        let joins = |cut: &Cut| [(a, b), (b, a)].contains(&(cut.from, cut.to));
                        cuts.iter().any(joins)
                    };
                    let reached = |node| (0..nodes).filter(|other| !is_cut(node, *other)).count();
                    let in_majority = (0..nodes).filter(|node| reached(*node) > nodes / 2).count();
                    assert!(in_majority > nodes / 2 && in_majority < nodes, "{cuts:?}");
                }
            }
        }
    }
}
