//! The faults of a run, each drawn from its seed.

use std::time::Duration;

use super::scenario::Run;

/// Furthest that a wall clock is set wrong, either way.
const OFFSET_MAX_MS: i64 = 600_000;
/// Longest that a node stands still.
const PAUSE_MAX_MS: u64 = 4_000;
/// Longest that a coordinator lives after a write that its power cut is meant for.
const KILL_AFTER_MAX_MS: u64 = 5;

impl Run {
    pub(super) async fn fault(&mut self) {
        let draw = self.draw(0..if self.scenario.hostile { 22 } else { 5 });
        self.mesh.ledger.trace(&format!("fault {draw}"));
        match draw {
            0 => self.cut_power().await,
            1 | 5 => self.partition(),
            2 => {
                let percent = self.draw(0..40);
                self.mesh.network.drop_answers(percent);
            }
            3 | 6 => self.mesh.network.heal(),
            4 | 7 | 8 => self.start_all(),
            9 | 10 => self.lose_disk(Lost::Wiped).await,
            11 | 12 => self.lose_disk(Lost::RolledBack).await,
            13 | 14 => {
                let node = self.any_node();
                self.mesh.keep_image(node);
            }
            15 => self.set_clock(),
            16 => self.pause(),
            17 => self.kill_coordinator().await,
            18 => {
                for node in self.mesh.running() {
                    self.mesh.crash(node).await;
                    self.coverage.crashes += 1;
                }
            }
            19 => self.fill_disk(),
            20 => {
                let (node, after) = (self.any_node(), self.draw(0..6));
                self.mesh.disk(node).fail_after(after);
                self.coverage.failed_disks += 1;
            }
            _ => {
                let running = self.mesh.running();
                if running.len() > 1 {
                    let node = self.pick(&running);
                    self.mesh.stop(node).await;
                }
            }
        }
    }

    async fn cut_power(&mut self) {
        let running = self.mesh.running();
        if running.len() > 1 {
            let victim = self.pick(&running);
            self.mesh.crash(victim).await;
            self.coverage.crashes += 1;
        }
    }

    fn partition(&mut self) {
        let (a, b) = (self.any_node(), self.any_node());
        let is_both_ways = self.draw(0..10) < 7;
        self.mesh.network.cut(&self.mesh.id(a), &self.mesh.id(b));
        if is_both_ways {
            self.mesh.network.cut(&self.mesh.id(b), &self.mesh.id(a));
        }
        self.coverage.partitions += u64::from(a != b);
    }

    pub(super) fn start_all(&mut self) {
        for i in 0..self.mesh.len() {
            self.mesh.start(i);
        }
    }

    /// Takes a disk away, of which at most W-1 may be lost before all is well again.
    async fn lose_disk(&mut self, lost: Lost) {
        let node = self.any_node();
        let budget = self.mesh.len() / 2;
        if !self.lost_disks.contains(&node) && self.lost_disks.len() >= budget {
            return;
        }
        if lost == Lost::RolledBack && !self.mesh.has_image(node) {
            return;
        }
        self.mesh.crash(node).await;
        match lost {
            Lost::Wiped => self.mesh.wipe(node),
            Lost::RolledBack => self.mesh.roll_back(node),
        }
        self.lost_disks.insert(node);
        self.coverage.lost_disks += 1;
        if self.draw(0..2) == 0 {
            self.isolate(node);
        }
        if self.draw(0..3) > 0 {
            self.mesh.start(node);
            for _ in 0..self.draw(0..4) {
                self.write_at(node).await;
            }
        }
    }

    /// Nobody reaches a node, and it reaches nobody: it comes back without knowing what it has lost.
    fn isolate(&mut self, node: usize) {
        for other in (0..self.mesh.len()).filter(|other| *other != node) {
            let (a, b) = (self.mesh.id(node), self.mesh.id(other));
            self.mesh.network.cut(&a, &b);
            self.mesh.network.cut(&b, &a);
        }
        self.coverage.partitions += 1;
    }

    fn set_clock(&mut self) {
        let node = self.any_node();
        let most = if self.draw(0..3) == 0 { OFFSET_MAX_MS } else { 100_000 };
        let offset = match self.draw(0..3) {
            0 => 0,
            _ => i64::try_from(self.draw(0..2 * most.unsigned_abs())).unwrap_or(0) - most,
        };
        self.mesh.wall(node).set_offset_ms(offset);
        self.furthest_ahead_ms = self.furthest_ahead_ms.max(offset);
        self.coverage.clock_jumps += 1;
    }

    fn pause(&mut self) {
        let (node, length) = (self.any_node(), self.draw(1..PAUSE_MAX_MS));
        let (network, id) = (self.mesh.network.clone(), self.mesh.id(node));
        network.pause(&id);
        self.coverage.pauses += 1;
        self.pauses.spawn(async move {
            tokio::time::sleep(Duration::from_millis(length)).await;
            network.resume(&id);
        });
    }

    /// A node takes writes and loses its power at once: between its own commit and the acks, with luck.
    async fn kill_coordinator(&mut self) {
        let running = self.mesh.running();
        if running.len() < 2 {
            return;
        }
        let victim = self.pick(&running);
        for _ in 0..3 {
            self.write_at(victim).await;
        }
        tokio::time::sleep(Duration::from_millis(self.draw(0..KILL_AFTER_MAX_MS))).await;
        self.mesh.crash(victim).await;
        self.coverage.crashes += 1;
    }

    fn fill_disk(&mut self) {
        let node = self.any_node();
        let more = self.draw(0..200_000);
        let disk = self.mesh.disk(node);
        disk.set_capacity_bytes(Some(disk.used_bytes() + more));
        self.coverage.full_disks += 1;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lost {
    Wiped,
    RolledBack,
}
