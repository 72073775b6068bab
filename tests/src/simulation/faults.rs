//! The faults of a schedule, done to a mesh.

use std::sync::Arc;
use std::time::Duration;

use federation_core::id::NodeId;
use federation_net::status::Readiness;
use tokio::time::Instant;

use super::SimulatedWall;
use super::attacker::{Attacker, Strike};
use super::books::Held;
use super::mesh::Mesh;
use super::world::{ComingBack, World};
use crate::history::IntrusionAnswer;
use crate::network::Network;
use crate::schedule::{Fault, KeyEnd};

/// Who sends what it may not.
pub(super) struct Attacks {
    attacker: Attacker,
}

impl Attacks {
    pub(super) fn new(mesh: &Mesh, seed: u64) -> Self {
        let nodes = (0..mesh.len()).map(|i| (mesh.id(i), mesh.key(i))).collect();
        let wall = Arc::new(SimulatedWall::new(Instant::now()));
        Self { attacker: Attacker::new(mesh.network.clone(), seed, wall, nodes) }
    }
}

impl World {
    pub(super) async fn fault(&mut self, fault: &Fault) {
        self.mesh.trace.say(|| format!("fault {fault:?}"));
        let took_effect = match fault {
            Fault::PowerCut { .. }
            | Fault::PowerCutAll { .. }
            | Fault::Stop { .. }
            | Fault::Start { .. }
            | Fault::StartAll
            | Fault::RestartRolling { .. }
            | Fault::ReplaceDisk { .. }
            | Fault::KeepImage { .. }
            | Fault::ScopeChanged { .. }
            | Fault::RollBackDisk { .. } => self.machine_fault(fault).await,
            Fault::ClockSkew { .. }
            | Fault::Pause { .. }
            | Fault::DiskFull { .. }
            | Fault::DiskFails { .. }
            | Fault::SlowDisk { .. }
            | Fault::MendDisks => self.node_fault(fault),
            Fault::ForgedPeer { node, draw } => self.attack(*node, *draw).await,
            Fault::KeyEnrolled { .. } | Fault::KeyActivated { .. } | Fault::KeyEnded { .. } => {
                self.key_fault(fault).await
            }
            _ => self.network_fault(fault),
        };
        if let Some(class) = fault.class().filter(|_| took_effect) {
            *self.faults.entry(class).or_default() += 1;
        }
    }

    fn network_fault(&mut self, fault: &Fault) -> bool {
        let network = self.mesh.network.clone();
        match fault {
            Fault::Partition { a, b } => match self.pair(*a, *b) {
                Some((a, b)) => network.cut_both(&a, &b),
                None => return false,
            },
            Fault::PartitionOneWay { from, to } => match self.pair(*from, *to) {
                Some((from, to)) => network.cut(&from, &to),
                None => return false,
            },
            Fault::PartitionMinority { node } => {
                for other in 0..self.mesh.len() {
                    if let Some((a, b)) = self.pair(*node, other) {
                        network.cut_both(&a, &b);
                    }
                }
            }
            Fault::PartitionChain => {
                let far = |a: usize, b: usize| a.abs_diff(b) > 1;
                for a in 0..self.mesh.len() {
                    for b in (0..a).filter(|b| far(a, *b)) {
                        network.cut_both(&self.mesh.id(a), &self.mesh.id(b));
                    }
                }
            }
            Fault::FlappingLink { a, b, times, period_ms } => match self.pair(*a, *b) {
                Some(ends) => drop(self.beside.spawn(flap(network, ends, *times, *period_ms))),
                None => return false,
            },
            Fault::PacketLoss { percent } => network.drop_requests(*percent),
            Fault::DropRandomAcks { percent } => network.drop_answers(*percent),
            Fault::ForgedAnswers { percent } => network.forge_answers(*percent),
            Fault::Delay { max_ms } => network.set_delay_max(Duration::from_millis(*max_ms)),
            Fault::SlowLink { from, to, more_ms } => match self.pair(*from, *to) {
                Some((from, to)) => network.slow_link(&from, &to, Duration::from_millis(*more_ms)),
                None => return false,
            },
            Fault::Reorder { percent } => network.reorder(*percent),
            Fault::Duplicate { percent } => network.duplicate(*percent),
            _ => network.heal(),
        }
        true
    }

    /// Faults that take a process or its disk away, or bring it back.
    async fn machine_fault(&mut self, fault: &Fault) -> bool {
        match fault {
            Fault::PowerCut { node, draw } => self.is_node(*node) && self.mesh.cut_power(*node, *draw).await,
            Fault::PowerCutAll { draw } => {
                for node in self.mesh.running() {
                    self.mesh.cut_power(node, draw.wrapping_add(node as u64)).await;
                }
                true
            }
            Fault::Stop { node } => self.is_node(*node) && self.mesh.stop(*node).await,
            Fault::Start { node } => {
                if self.is_node(*node) {
                    self.mesh.start(*node);
                }
                true
            }
            Fault::StartAll => {
                self.start_all();
                true
            }
            Fault::RestartRolling { pause_ms } => {
                for node in 0..self.mesh.len() {
                    self.mesh.stop(node).await;
                    self.mesh.start(node);
                    tokio::time::sleep(Duration::from_millis(*pause_ms)).await;
                }
                true
            }
            Fault::KeepImage { node } => {
                if self.is_node(*node) {
                    self.mesh.keep_image(*node);
                }
                true
            }
            Fault::ScopeChanged { node, keeps } => {
                // What it keeps no more is on one disk less.
                let may = self.is_node(*node) && self.may_lose_disk(*node);
                let changes = may && self.mesh.scopes.change(*node, keeps);
                if changes {
                    self.mesh.stop(*node).await;
                    self.mesh.start(*node);
                    self.lost_disks.insert(*node);
                }
                changes
            }
            Fault::ReplaceDisk { node } => {
                let may = self.is_node(*node) && self.may_lose_disk(*node);
                if may {
                    self.mesh.crash(*node).await;
                    let had = self.mesh.books.held(*node);
                    self.mesh.wipe(*node);
                    self.loses_disk(*node, &had);
                }
                may
            }
            Fault::RollBackDisk { node } => {
                let may = self.is_node(*node) && self.mesh.has_image(*node) && self.may_lose_disk(*node);
                if may {
                    self.mesh.crash(*node).await;
                    let had = self.mesh.books.held(*node);
                    self.mesh.roll_back(*node);
                    self.loses_disk(*node, &had);
                    self.rolled_back.insert(*node);
                }
                may
            }
            _ => false,
        }
    }

    /// Faults of a machine that goes on.
    fn node_fault(&mut self, fault: &Fault) -> bool {
        match fault {
            Fault::ClockSkew { node, offset_ms } if self.is_node(*node) => {
                self.mesh.wall(*node).set_offset_ms(*offset_ms);
                self.furthest_ahead_ms = self.furthest_ahead_ms.max(*offset_ms);
                *offset_ms != 0
            }
            Fault::Pause { node, ms } if self.is_node(*node) => {
                let (network, id) = (self.mesh.network.clone(), self.mesh.id(*node));
                let length = Duration::from_millis(*ms);
                network.pause(&id);
                self.beside.spawn(async move {
                    tokio::time::sleep(length).await;
                    network.resume(&id);
                });
                true
            }
            Fault::DiskFull { node, room_bytes } if self.is_node(*node) => {
                let disk = self.mesh.disk(*node);
                disk.set_capacity_bytes(Some(disk.used_bytes() + room_bytes));
                true
            }
            Fault::DiskFails { node, after } if self.is_node(*node) => {
                self.mesh.disk(*node).fail_after(*after);
                true
            }
            Fault::SlowDisk { node, commit_ms } if self.is_node(*node) => {
                self.mesh.set_commit_ms(*node, *commit_ms);
                true
            }
            Fault::MendDisks => {
                self.mend_disks();
                true
            }
            _ => false,
        }
    }

    /// A step of the rotation of a key. Whoever has a copy of the old one tries it wherever it has ended.
    async fn key_fault(&mut self, fault: &Fault) -> bool {
        // Calls that were made before begin with what held then.
        tokio::task::yield_now().await;
        match fault {
            Fault::KeyEnrolled { node, at } => {
                let is_new = self.mesh.keys.enrol_next(*node, *at);
                if is_new {
                    self.mesh.reload(*at);
                }
                is_new
            }
            Fault::KeyActivated { node } => {
                // While it writes, its operator knows what it has sealed.
                let is_well = self.is_node(*node)
                    && self.mesh.node(*node).is_some_and(|node| node.readiness() == Readiness::Ready);
                let next = is_well.then(|| self.mesh.keys.activate(*node)).flatten();
                let Some(next) = next else { return false };
                self.attacks.attacker.learn(*node, next);
                self.mesh.coverage.reach("keys rotated");
                true
            }
            Fault::KeyEnded { node, at, how } if self.is_node(*node) => {
                let sealed = self.mesh.books.last_seqs(&self.mesh.id(*node));
                let has_ended = self.mesh.keys.end(*node, *at, *how, sealed);
                if has_ended {
                    self.mesh.reload(*at);
                    let what = if *how == KeyEnd::Revoked { "keys revoked" } else { "keys retired" };
                    self.mesh.coverage.reach(what);
                    self.try_old_keys().await;
                }
                has_ended
            }
            _ => false,
        }
    }

    /// Whoever has a copy of a key that has ended somewhere tries it there, and at its owner once it is revoked.
    pub(super) async fn try_old_keys(&mut self) {
        for old in self.mesh.keys.old() {
            let attacker = &mut self.attacks.attacker;
            let mut tried = Vec::new();
            for at in old.ended.keys() {
                tried.push(attacker.call_with(&old, *at).await);
            }
            let revoked = old.ended.iter().filter(|(_, how)| **how == KeyEnd::Revoked).map(|(at, _)| *at);
            let owner = revoked.clone().next().map(|_| old.node);
            for at in revoked.chain(owner) {
                tried.push(attacker.write_with(&old, at).await);
            }
            for intrusion in tried {
                if matches!(intrusion.answer, IntrusionAnswer::Refused { .. }) {
                    self.mesh.coverage.reach("intrusions by an old key refused");
                    if intrusion.node == old.node {
                        self.mesh.coverage.reach("intrusions by an own old key refused");
                    }
                }
                self.mesh.trace.say(|| format!("{intrusion:?}"));
                self.history.intrusions.push(intrusion);
            }
        }
    }

    async fn attack(&mut self, node: usize, draw: u64) -> bool {
        let at = usize::try_from(draw % Strike::ALL.len() as u64).unwrap_or(0);
        let Some(strike) = Strike::ALL.get(at).filter(|_| self.is_node(node)) else { return false };
        // A node that keeps a part cannot hold a claim against what it would make true (`net::vouch`): it trusts its relays.
        if *strike == Strike::CompletionBeyond && self.mesh.scopes.are_there() {
            return false;
        }
        let intrusion = self.attacks.attacker.strike(*strike, node).await;
        let was_tried = intrusion.answer != IntrusionAnswer::None;
        if matches!(intrusion.answer, IntrusionAnswer::Refused { .. }) {
            self.mesh.coverage.reach("intrusions refused");
        }
        self.mesh.trace.say(|| format!("{intrusion:?}"));
        self.history.intrusions.push(intrusion);
        was_tried
    }

    pub(super) fn start_all(&mut self) {
        for i in 0..self.mesh.len() {
            self.mesh.start(i);
        }
    }

    pub(super) fn mend_disks(&mut self) {
        for i in 0..self.mesh.len() {
            self.mesh.disk(i).set_capacity_bytes(None);
        }
        self.mesh.quicken_disks();
    }

    /// `had` is what was on its disk.
    fn loses_disk(&mut self, node: usize, had: &Held) {
        self.lost_disks.insert(node);
        // What is promised while another is coming back is not yet where this one will look.
        let mut promised = if self.lost_disks.len() > 1 { Vec::new() } else { self.mesh.books.promises() };
        if self.mesh.scopes.are_there() {
            // Of what it had not acknowledged it may not know where it is.
            promised.retain(|(dot, _)| had.has(dot));
        }
        self.coming_back.insert(node, ComingBack { promised, is_catching_up: false });
    }

    /// Whether a disk may be lost: the guarantees hold while fewer than W are.
    fn may_lose_disk(&self, node: usize) -> bool {
        self.lost_disks.contains(&node) || self.lost_disks.len() < self.disks_to_lose
    }

    fn is_node(&self, node: usize) -> bool {
        node < self.mesh.len()
    }

    fn pair(&self, a: usize, b: usize) -> Option<(NodeId, NodeId)> {
        (self.is_node(a) && self.is_node(b) && a != b).then(|| (self.mesh.id(a), self.mesh.id(b)))
    }
}

async fn flap(network: Network, (a, b): (NodeId, NodeId), times: u32, period_ms: u64) {
    for _ in 0..times {
        network.cut_both(&a, &b);
        tokio::time::sleep(Duration::from_millis(period_ms)).await;
        network.mend(&a, &b);
        tokio::time::sleep(Duration::from_millis(period_ms)).await;
    }
}
