//! A schedule from a seed.
//!
//! Each seed leaves some classes of faults out: what one class hides, another seed shows (swarm testing, Groce et al.
//! 2012).

use std::collections::{BTreeSet, VecDeque};

use rand::distr::uniform::{SampleRange, SampleUniform};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::scopes::one_of;
use super::{Fault, FaultClass, KeyEnd, NAMESPACES, Schedule, Scopes, Step, Wanted, Write};

/// What a schedule is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawing {
    /// Decides everything that is left open here.
    pub seed: u64,
    /// Calls of clients.
    pub calls: usize,
    /// The faults it may have; each seed leaves some out.
    pub classes: BTreeSet<FaultClass>,
}

/// Records that clients write to: few, so that writes meet.
const RECORDS: u64 = 24;
/// How many of the runs have nodes that compact, with segments that a dozen ops fill.
const WITH_COMPACTION: f64 = 0.25;
const SEGMENT_BYTES: u64 = 4_096;
const COMPACTION_SALT: u64 = 0xc0_4bac7;
/// Tokens that clients hold at most.
const TOKENS: usize = 32;
/// Of all seeds so many have nodes that keep and grant different things.
const WITH_SCOPES: f64 = 0.3;
/// Furthest that a wall clock is set wrong, either way.
const OFFSET_MAX_MS: i64 = 600_000;
/// And usually.
const OFFSET_USUAL_MS: i64 = 100_000;

impl Drawing {
    /// All faults, and as many calls as make a seed count.
    pub fn new(seed: u64) -> Self {
        Self { seed, calls: 220, classes: FaultClass::ALL.into_iter().collect() }
    }
}

/// Draws a schedule. Equal drawings give equal schedules.
pub fn draw(drawing: &Drawing) -> Schedule {
    let mut random = StdRng::seed_from_u64(drawing.seed);
    let nodes = match random.random_range(0..10) {
        0..7 => 3,
        7 => 4,
        _ => 5,
    };
    let catchup_interval_ms = random.random_bool(0.5).then_some(5_000);
    let leaves_out = if random.random_bool(0.2) { 0.6 } else { 0.2 };
    let mut classes: Vec<_> = drawing.classes.iter().copied().collect();
    classes.retain(|_| !random.random_bool(leaves_out));
    if classes.is_empty() {
        classes.extend(drawing.classes.first());
    }
    let scopes = random.random_bool(WITH_SCOPES).then(|| Scopes::draw(&mut random, nodes));
    // The smallest quorum is of two nodes.
    let disks_to_lose = scopes.is_some().then_some(1);
    let mut hand = Hand {
        random,
        nodes,
        classes,
        scopes: scopes.clone(),
        tokens: Vec::new(),
        next_token: 0,
        images: Vec::new(),
        rotation: VecDeque::new(),
        steps: Vec::new(),
    };
    for _ in 0..drawing.calls {
        hand.turn();
    }
    let (seed, steps) = (drawing.seed, hand.steps);
    // Drawn apart, so that the steps of a seed are those that it had before nodes compacted.
    let compacts = StdRng::seed_from_u64(seed ^ COMPACTION_SALT).random_bool(WITH_COMPACTION);
    let segment_bytes = compacts.then_some(SEGMENT_BYTES);
    Schedule { seed, nodes, catchup_interval_ms, disks_to_lose, segment_bytes, scopes, steps }
}

struct Hand {
    random: StdRng,
    nodes: usize,
    classes: Vec<FaultClass>,
    /// What the nodes keep, if every change so far has taken effect.
    scopes: Option<Scopes>,
    tokens: Vec<(u32, String)>,
    next_token: u32,
    /// Nodes of whose disks an image was kept.
    images: Vec<usize>,
    /// What is left of the rotation of a key.
    rotation: VecDeque<Fault>,
    steps: Vec<Step>,
}

impl Hand {
    /// One call, and what happens before it.
    fn turn(&mut self) {
        if self.draw(0..100) < 8 {
            self.event();
        }
        if !self.rotation.is_empty()
            && self.draw(0..4) == 0
            && let Some(next) = self.rotation.pop_front()
        {
            self.fault(next);
        }
        if self.draw(0..150) == 0 {
            self.steps.push(Step::Heal);
        }
        if self.draw(0..100) < 15 {
            self.read();
        } else {
            self.write();
        }
        if self.draw(0..10) < 4 {
            let ms = self.draw(0..80);
            self.steps.push(Step::Pass { ms });
        }
    }

    fn read(&mut self) {
        let node = self.node();
        let key = self.key(node);
        let keep = (self.draw(0..3) == 0).then(|| self.new_token(&key));
        self.steps.push(Step::Read { node, key, keep });
    }

    /// A token that a later write may use.
    fn new_token(&mut self, key: &str) -> u32 {
        self.next_token += 1;
        self.tokens.push((self.next_token, key.to_owned()));
        if self.tokens.len() > TOKENS {
            self.tokens.remove(0);
        }
        self.next_token
    }

    fn write(&mut self) {
        let node = self.node();
        let write = self.write_at(node);
        self.steps.push(Step::Write(write));
    }

    fn write_at(&mut self, node: usize) -> Write {
        let mut write = Write {
            node,
            key: self.key(node),
            what: if self.draw(0..5) == 0 { Wanted::Delete } else { Wanted::Put },
            token: None,
            keep: None,
            level: (self.draw(0..15) == 0).then_some(self.nodes),
            patience_ms: (self.draw(0..20) == 0).then(|| self.random.random_range(0..6)),
        };
        match self.draw(0..10) {
            0 => {
                let number: u64 = self.draw(0..500);
                (write.key, write.what) = (self.name_at(node, &format!("new{number}")), Wanted::Create);
            }
            1..4 if !self.tokens.is_empty() => {
                let at = self.draw(0..self.tokens.len());
                let (token, key) = self.tokens.swap_remove(at);
                (write.key, write.token) = (key, Some(token));
            }
            _ => {}
        }
        if self.draw(0..8) == 0 {
            write.keep = Some(self.new_token(&write.key));
        }
        write
    }

    /// A fault, or the end of some.
    fn event(&mut self) {
        if self.draw(0..100) < 32 {
            let mended = match self.draw(0..6) {
                0..2 => Fault::MendLinks,
                2 => Fault::MendDisks,
                _ => Fault::StartAll,
            };
            return self.fault(mended);
        }
        let at = self.draw(0..self.classes.len());
        let Some(class) = self.classes.get(at).copied() else { return };
        let node = self.node();
        match class {
            FaultClass::Partition => {
                let b = self.other(node);
                self.fault(Fault::Partition { a: node, b });
            }
            FaultClass::PartitionOneWay => {
                let to = self.other(node);
                self.fault(Fault::PartitionOneWay { from: node, to });
            }
            FaultClass::PartitionMinority => self.fault(Fault::PartitionMinority { node }),
            FaultClass::PartitionChain => self.fault(Fault::PartitionChain),
            FaultClass::FlappingLink => {
                let (b, times) = (self.other(node), self.draw(1..8));
                let period_ms = self.draw(20..1_500);
                self.fault(Fault::FlappingLink { a: node, b, times, period_ms });
            }
            FaultClass::PacketLoss => {
                let percent = self.draw(1..40);
                self.fault(Fault::PacketLoss { percent });
            }
            FaultClass::DropRandomAcks => {
                let percent = self.draw(1..40);
                self.fault(Fault::DropRandomAcks { percent });
            }
            FaultClass::ForgedAnswers => {
                let percent = self.draw(1..30);
                self.fault(Fault::ForgedAnswers { percent });
            }
            FaultClass::Delay => {
                let max_ms = self.draw(5..800);
                self.fault(Fault::Delay { max_ms });
            }
            FaultClass::SlowLink => {
                let (to, more_ms) = (self.other(node), self.draw(5..1_500));
                self.fault(Fault::SlowLink { from: node, to, more_ms });
            }
            FaultClass::Reorder => {
                let percent = self.draw(1..50);
                self.fault(Fault::Reorder { percent });
            }
            FaultClass::Duplicate => {
                let percent = self.draw(1..30);
                self.fault(Fault::Duplicate { percent });
            }
            FaultClass::SlowDisk => {
                let commit_ms = self.draw(2..400);
                self.fault(Fault::SlowDisk { node, commit_ms });
            }
            FaultClass::Pause => {
                let ms = self.draw(1..4_000);
                self.fault(Fault::Pause { node, ms });
            }
            FaultClass::ClockSkew => {
                let offset_ms = self.offset_ms();
                self.fault(Fault::ClockSkew { node, offset_ms });
            }
            FaultClass::ScopeChanged => self.scope_change(node),
            FaultClass::ForgedPeer => {
                let draw = self.random.random();
                self.fault(Fault::ForgedPeer { node, draw });
            }
            FaultClass::KeyRotated => self.rotate_key(node),
            FaultClass::PowerCut
            | FaultClass::KillPrimaryMidWrite
            | FaultClass::RestartRolling
            | FaultClass::ReplaceDisk
            | FaultClass::RollBackDisk
            | FaultClass::DiskFull
            | FaultClass::DiskFails => self.machine_fault(class, node),
        }
    }

    /// A node takes one namespace more, or one less.
    fn scope_change(&mut self, node: usize) {
        let namespace = one_of(&mut self.random);
        let Some(keeps) = self.scopes.as_mut().and_then(|scopes| scopes.keeps.get_mut(node)) else { return };
        if !keeps.remove(&namespace) {
            keeps.insert(namespace);
        }
        let keeps = keeps.clone();
        self.fault(Fault::ScopeChanged { node, keeps });
    }

    /// A node gets another key: all others take it in, in some order, it signs with it, and the one before ends. Of one
    /// node at a time, as an operator does it.
    fn rotate_key(&mut self, node: usize) {
        if !self.rotation.is_empty() {
            return;
        }
        let how = if self.draw(0..2) == 0 { KeyEnd::Retired } else { KeyEnd::Revoked };
        let (first, last) = (self.draw(1..self.nodes), self.draw(1..self.nodes));
        let n = self.nodes;
        let others = |from: usize| (0..n - 1).map(move |more| (node + 1 + (from + more) % (n - 1)) % n);
        self.rotation.extend(others(first).map(|at| Fault::KeyEnrolled { node, at }));
        self.rotation.push_back(Fault::KeyActivated { node });
        self.rotation.extend(others(last).map(|at| Fault::KeyEnded { node, at, how }));
    }

    fn machine_fault(&mut self, class: FaultClass, node: usize) {
        match class {
            FaultClass::PowerCut => {
                let draw = self.random.random();
                let is_everywhere = self.draw(0..6) == 0;
                self.fault(if is_everywhere {
                    Fault::PowerCutAll { draw }
                } else {
                    Fault::PowerCut { node, draw }
                });
            }
            FaultClass::KillPrimaryMidWrite => {
                for _ in 0..3 {
                    let write = self.write_at(node);
                    self.steps.push(Step::Write(write));
                }
                let ms = self.draw(0..5);
                self.steps.push(Step::Pass { ms });
                let draw = self.random.random();
                self.fault(Fault::PowerCut { node, draw });
            }
            FaultClass::RestartRolling => {
                if self.draw(0..3) == 0 {
                    let pause_ms = self.draw(0..1_000);
                    self.fault(Fault::RestartRolling { pause_ms });
                } else {
                    self.fault(Fault::Stop { node });
                }
            }
            FaultClass::ReplaceDisk => {
                self.fault(Fault::ReplaceDisk { node });
                self.comes_back(node);
            }
            FaultClass::RollBackDisk => {
                let kept = (0..self.images.len()).find(|_| self.random.random_bool(0.5));
                if let Some(node) = kept.map(|at| self.images.swap_remove(at)) {
                    self.fault(Fault::RollBackDisk { node });
                    self.comes_back(node);
                } else {
                    self.images.push(node);
                    // Of a node that runs, or of one that has ended in order.
                    let is_cold = self.draw(0..3) == 0;
                    if is_cold {
                        self.fault(Fault::Stop { node });
                    }
                    self.fault(Fault::KeepImage { node });
                    if is_cold {
                        self.fault(Fault::Start { node });
                    }
                }
            }
            FaultClass::DiskFull => {
                let room_bytes = self.draw(0..30_000);
                self.fault(Fault::DiskFull { node, room_bytes });
            }
            FaultClass::DiskFails => {
                let after = self.draw(0..6);
                self.fault(Fault::DiskFails { node, after });
            }
            _ => {}
        }
    }

    /// A node without its disk may be started, with or without anyone to tell it what it has lost, and is written to.
    fn comes_back(&mut self, node: usize) {
        if self.draw(0..2) == 0 {
            self.fault(Fault::PartitionMinority { node });
        }
        if self.draw(0..3) > 0 {
            self.fault(Fault::Start { node });
            for _ in 0..self.draw(0..4) {
                let write = self.write_at(node);
                self.steps.push(Step::Write(write));
            }
        }
    }

    fn offset_ms(&mut self) -> i64 {
        let most = if self.draw(0..3) == 0 { OFFSET_MAX_MS } else { OFFSET_USUAL_MS };
        if self.draw(0..3) == 0 { 0 } else { self.draw(-most..most) }
    }

    fn fault(&mut self, fault: Fault) {
        self.steps.push(Step::Fault(fault));
    }

    fn draw<T: SampleUniform>(&mut self, from: impl SampleRange<T>) -> T {
        self.random.random_range(from)
    }

    fn node(&mut self) -> usize {
        self.draw(0..self.nodes)
    }

    fn other(&mut self, node: usize) -> usize {
        (node + self.draw(1..self.nodes)) % self.nodes
    }

    fn key(&mut self, node: usize) -> String {
        let number: u64 = self.draw(0..RECORDS);
        self.name_at(node, &format!("r{number}"))
    }

    /// A record of this name in a namespace that the node keeps, mostly.
    fn name_at(&mut self, node: usize, name: &str) -> String {
        let Some(keeps) = self.scopes.as_ref().and_then(|scopes| scopes.keeps.get(node)) else {
            return name.to_owned();
        };
        let mut among: Vec<String> = keeps.iter().cloned().collect();
        if among.is_empty() || self.draw(0..10) == 0 {
            among = NAMESPACES.map(str::to_owned).to_vec();
        }
        let at = self.draw(0..among.len());
        let namespace = among.swap_remove(at);
        format!("{namespace}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_counts_and_has_faults_of_its_own() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let schedule = draw(&Drawing::new(seed));
            let is_call = |step: &&Step| matches!(step, Step::Write(_) | Step::Read { .. });
            assert!(schedule.steps.iter().filter(is_call).count() >= 200);
            let faults = schedule.steps.iter().filter_map(|step| match step {
                Step::Fault(fault) => fault.class(),
                _ => None,
            });
            seen.extend(faults);
        }
        // Made of others.
        seen.insert(FaultClass::KillPrimaryMidWrite);
        assert_eq!(seen, FaultClass::ALL.into_iter().collect());
    }

    #[test]
    fn a_schedule_has_no_faults_but_those_it_may_have() {
        let classes = BTreeSet::from([FaultClass::Pause]);
        let schedule = draw(&Drawing { classes: classes.clone(), ..Drawing::new(7) });
        let named: BTreeSet<_> = schedule
            .steps
            .iter()
            .filter_map(|step| if let Step::Fault(fault) = step { fault.class() } else { None })
            .collect();
        assert_eq!(named, classes);
    }
}
