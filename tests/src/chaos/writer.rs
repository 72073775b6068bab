//! A client that writes: mostly records of its own, a share of records that others write too.

use std::time::Duration;

use federation_wire::api::DotText;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chaos::caller::{Caller, Target};
use crate::history::{Answer, Request, Seen, Sharing};

/// A client. Its calls never overlap.
#[derive(Debug)]
pub struct Writer {
    number: u32,
    base: usize,
    random: StdRng,
    caller: Caller,
    cycle: usize,
    records: Vec<OwnRecord>,
    next: u64,
}

/// A record that only this client writes, and only at a node that has its last write: so each write covers all before.
#[derive(Debug)]
struct OwnRecord {
    key: String,
    home: usize,
    /// The last write, if it was acknowledged: another node that shows it has all before it.
    settled: Option<DotText>,
    is_deleted: bool,
}

/// What a writer does over a stretch of time.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// The cycle, from 0.
    pub cycle: usize,
    /// What it draws from.
    pub seed: u64,
    /// When the stretch begins.
    pub begin: Instant,
    /// How long it is: no call begins after it.
    pub span: Duration,
    /// Calls, evenly spread; those that come too late are left out.
    pub calls: u32,
}

/// Records that a writer goes on with; older ones stay as they are and are checked.
const RECORDS_KEPT: usize = 64;
/// Contended records of each cycle.
const CONTENDED_RECORDS: u32 = 4;
/// Pause of a burst after a call that was not answered as hoped: a dead node is not called in a tight loop.
const BURST_PAUSE: Duration = Duration::from_millis(5);

impl Writer {
    /// The client `number`, whose new records are written at node `base` first.
    pub fn new(number: u32, base: usize, caller: Caller) -> Self {
        let random = StdRng::seed_from_u64(0);
        Self { number, base, random, caller, cycle: 0, records: Vec::new(), next: 0 }
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Writes for a stretch of time.
    pub async fn run(mut self, share: Share) -> Self {
        self.begin(share.cycle, share.seed);
        let end = share.begin + share.span;
        // Each writer has its own offset, so that the calls of all are spread.
        let gap = share.span / share.calls.max(1);
        let offset = gap.mul_f64(self.random.random_range(0.0..1.0));
        for number in 0..share.calls {
            tokio::time::sleep_until(share.begin + offset + gap * number).await;
            if Instant::now() >= end {
                break;
            }
            self.step().await;
        }
        self
    }

    /// Creates records at one node without a pause until told to stop.
    pub async fn burst(mut self, cycle: usize, seed: u64, stop: CancellationToken) -> Self {
        self.begin(cycle, seed);
        while !stop.is_cancelled() {
            if !matches!(self.create().await, Answer::Acknowledged { .. }) {
                tokio::time::sleep(BURST_PAUSE).await;
            }
        }
        self
    }

    fn begin(&mut self, cycle: usize, seed: u64) {
        self.cycle = cycle;
        self.random = StdRng::seed_from_u64(seed.wrapping_add(u64::from(self.number)));
        let spare = self.records.len().saturating_sub(RECORDS_KEPT);
        self.records.drain(..spare);
    }

    async fn step(&mut self) {
        let roll = self.random.random_range(0..100);
        let wants_deleted = (60..66).contains(&roll);
        let Some(at) = self.pick(wants_deleted) else {
            self.create().await;
            return;
        };
        match roll {
            0..30 => self.write(at, RequestKind::Update).await,
            30..45 => self.write(at, RequestKind::Delete).await,
            45..60 => self.move_and_update(at).await,
            60..66 => self.write(at, RequestKind::Create).await,
            66..78 => self.write_contended().await,
            _ => {
                self.create().await;
            }
        }
    }

    /// One of its records, deleted or not.
    fn pick(&mut self, wants_deleted: bool) -> Option<usize> {
        let fits: Vec<usize> = self
            .records
            .iter()
            .enumerate()
            .filter(|(_, record)| record.is_deleted == wants_deleted)
            .map(|(at, _)| at)
            .collect();
        if fits.is_empty() {
            return None;
        }
        fits.get(self.random.random_range(0..fits.len())).copied()
    }

    async fn create(&mut self) -> Answer {
        self.next += 1;
        let key = format!("own-{}-{}", self.number, self.next);
        let record = OwnRecord { key, home: self.base, settled: None, is_deleted: false };
        self.records.push(record);
        self.write_answered(self.records.len() - 1, RequestKind::Create).await
    }

    async fn write(&mut self, at: usize, kind: RequestKind) {
        self.write_answered(at, kind).await;
    }

    async fn write_answered(&mut self, at: usize, kind: RequestKind) -> Answer {
        let request = self.request(kind);
        let Some(record) = self.records.get_mut(at) else { return Answer::Unreached };
        let (client, node, sharing) = (self.number, record.home, Sharing::Owned);
        let target = Target { client, node, key: &record.key, sharing };
        let answer = self.caller.call(target, request).await;
        if record.learn(kind, &answer) == Fate::Left {
            self.records.swap_remove(at);
        }
        answer
    }

    /// Goes on with a record at another node, if that node has its last write.
    async fn move_and_update(&mut self, at: usize) {
        let nodes = self.caller.nodes();
        let step = self.random.random_range(1..nodes.max(2));
        let Some(record) = self.records.get_mut(at) else { return };
        let (client, node) = (self.number, (record.home + step) % nodes);
        let target = Target { client, node, key: &record.key, sharing: Sharing::Owned };
        let answer = self.caller.call(target, Request::Read).await;
        let Answer::Read { seen: Seen::Value { dot, .. }, .. } = answer else { return };
        if record.settled.as_ref() == Some(&dot) {
            record.home = node;
            self.write(at, RequestKind::Update).await;
        }
    }

    async fn write_contended(&mut self) {
        let nodes = self.caller.nodes();
        let node = self.random.random_range(0..nodes);
        let key = format!("shared-{}-{}", self.cycle, self.random.random_range(0..CONTENDED_RECORDS));
        let kind = match self.random.random_range(0..10) {
            0..4 => RequestKind::Create,
            4..9 => RequestKind::Update,
            _ => RequestKind::Delete,
        };
        let request = self.request(kind);
        let target = Target { client: self.number, node, key: &key, sharing: Sharing::Contended };
        self.caller.call(target, request).await;
    }

    fn request(&mut self, kind: RequestKind) -> Request {
        self.next += 1;
        let content = format!("writer {} write {}", self.number, self.next);
        match kind {
            RequestKind::Create => Request::Create { content },
            RequestKind::Update => Request::Update { content },
            RequestKind::Delete => Request::Delete,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestKind {
    Create,
    Update,
    Delete,
}

/// Whether a writer goes on with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    /// Its next write might overtake one that is still under way, or there is nothing to go on with.
    Left,
}

impl OwnRecord {
    fn learn(&mut self, kind: RequestKind, answer: &Answer) -> Fate {
        match answer {
            Answer::Acknowledged { dot } => {
                self.settled = Some(dot.clone());
                self.is_deleted = kind == RequestKind::Delete;
                Fate::Kept
            }
            Answer::NotPromised { .. } => {
                self.settled = None;
                self.is_deleted = kind == RequestKind::Delete;
                Fate::Kept
            }
            // Nothing is there, and nothing under way: a create that never reached its node.
            Answer::Unreached if self.settled.is_none() && kind == RequestKind::Create => Fate::Left,
            Answer::Unreached | Answer::Refused { status: 409 | 410 | 503, .. } => Fate::Kept,
            Answer::Refused { .. }
            | Answer::Cut
            | Answer::TimedOut
            | Answer::Read { .. }
            | Answer::Undocumented { .. } => Fate::Left,
        }
    }
}
