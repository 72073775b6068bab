//! Bytes and names, each in up to three states: durable, dirty, and clean although not durable.

use std::collections::BTreeMap;

/// A file without its name.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    /// What a power cut leaves for sure.
    durable: Vec<u8>,
    /// What is read.
    current: Vec<u8>,
    /// Written since the last sync.
    dirty: Vec<Write>,
    /// What failed syncs were to make durable: no later sync asks for it again.
    failed: Vec<Write>,
}

#[derive(Clone, Debug)]
struct Write {
    offset: usize,
    bytes: Vec<u8>,
}

/// What a power cut makes of a piece of a write that is not durable.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Stays,
    Gone,
    Flips,
}

impl Inode {
    /// So many zeros, durably.
    pub(super) fn zeros(bytes: usize) -> Self {
        Self { durable: vec![0; bytes], current: vec![0; bytes], ..Self::default() }
    }

    /// What is read.
    pub(super) fn current(&self) -> &[u8] {
        &self.current
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        put(&mut self.current, offset, bytes);
        self.dirty.push(Write { offset, bytes: bytes.to_vec() });
    }

    pub(super) fn sync(&mut self) {
        for write in self.dirty.drain(..) {
            put(&mut self.durable, write.offset, &write.bytes);
            self.failed = self.failed.drain(..).flat_map(|failed| failed.outside(&write)).collect();
        }
    }

    pub(super) fn fail_sync(&mut self) {
        self.failed.append(&mut self.dirty);
    }

    /// The power goes: `fate` is asked about each piece that is not durable.
    pub(super) fn lose(&mut self, fate: &mut impl FnMut() -> Fate) {
        for write in self.failed.drain(..).chain(self.dirty.drain(..)) {
            for (i, piece) in write.bytes.chunks(TEAR_BYTES).enumerate() {
                let at = write.offset + i * TEAR_BYTES;
                match fate() {
                    Fate::Gone => {}
                    Fate::Stays => put(&mut self.durable, at, piece),
                    Fate::Flips => {
                        put(&mut self.durable, at, piece);
                        if let Some(byte) = self.durable.get_mut(at + piece.len() / 2) {
                            *byte ^= 0x10;
                        }
                    }
                }
            }
        }
        self.current.clone_from(&self.durable);
    }

    /// Flips a bit of what is read and of what is durable. False if there is no such byte.
    pub(super) fn flip_bit(&mut self, offset: usize, bit: u8) -> bool {
        let mask = 1_u8 << (bit % 8);
        let mut hit = false;
        for bytes in [&mut self.durable, &mut self.current] {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= mask;
                hit = true;
            }
        }
        hit
    }
}

impl Write {
    /// The parts of it before and behind `other`.
    fn outside(self, other: &Self) -> Vec<Self> {
        let before = other.offset.saturating_sub(self.offset).min(self.bytes.len());
        let behind = (other.offset + other.bytes.len()).saturating_sub(self.offset).min(self.bytes.len());
        let part = |from: usize, to: usize| Self {
            offset: self.offset + from,
            bytes: self.bytes.get(from..to).unwrap_or_default().to_vec(),
        };
        let parts = [part(0, before), part(behind.max(before), self.bytes.len())];
        parts.into_iter().filter(|part| !part.bytes.is_empty()).collect()
    }
}

/// Names and the inodes behind them.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    durable: BTreeMap<String, u64>,
    current: BTreeMap<String, u64>,
    /// Since the last sync, in order: a crash keeps the first few.
    dirty: Vec<Change>,
    /// What failed syncs were to make durable.
    failed: Vec<Change>,
}

/// What one operation does to the names: all of it or nothing.
type Change = Vec<(String, Option<u64>)>;

impl Directory {
    pub(super) fn inode(&self, name: &str) -> Option<u64> {
        self.current.get(name).copied()
    }

    /// In order.
    pub(super) fn names(&self) -> Vec<String> {
        self.current.keys().cloned().collect()
    }

    pub(super) fn inodes(&self) -> impl Iterator<Item = u64> {
        self.current.values().copied()
    }

    pub(super) fn change(&mut self, change: Change) {
        apply(&mut self.current, &change);
        self.dirty.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.dirty.drain(..) {
            apply(&mut self.durable, &change);
            for failed in &mut self.failed {
                failed.retain(|(name, _)| change.iter().all(|(changed, _)| changed != name));
            }
        }
        self.failed.retain(|change| !change.is_empty());
    }

    pub(super) fn fail_sync(&mut self) {
        self.failed.append(&mut self.dirty);
    }

    /// Changes that are not durable.
    pub(super) fn unsynced(&self) -> usize {
        self.failed.len() + self.dirty.len()
    }

    /// The power goes: the first `kept` of the changes that are not durable stay.
    pub(super) fn lose(&mut self, kept: usize) {
        for change in self.failed.drain(..).chain(self.dirty.drain(..)).take(kept) {
            apply(&mut self.durable, &change);
        }
        self.current.clone_from(&self.durable);
    }
}

fn apply(names: &mut BTreeMap<String, u64>, change: &Change) {
    for (name, inode) in change {
        match inode {
            Some(inode) => names.insert(name.clone(), *inode),
            None => names.remove(name),
        };
    }
}

fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    if let Some(target) = file.get_mut(offset..end) {
        target.copy_from_slice(bytes);
    }
}

/// The piece that survives or goes as one. Smaller than a sector: a disk that is worse than real ones.
pub(super) const TEAR_BYTES: usize = 64;
