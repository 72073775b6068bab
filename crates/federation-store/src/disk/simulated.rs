//! A disk in memory that keeps synced and un-synced bytes apart.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskAction, DiskError, DiskFile};

/// A simulated disk. Clones share it; everything random in it comes from the seeds it is given.
///
/// A crash makes every handle from before it useless; [`SimulatedDisk::reopened`] gives one for after.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
    generation: u64,
}

/// What a crash leaves of the bytes that were written and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of them: the process died, the machine did not. They stay un-synced.
    None,
    /// None of them.
    All,
    /// Any of them: each 64-byte piece of each write stays, goes, or (rarely) comes out with a bit flipped.
    Some {
        /// Decides which.
        seed: u64,
    },
}

#[derive(Clone, Debug, Default)]
struct State {
    generation: u64,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<String, u64>,
    synced_names: BTreeMap<String, u64>,
    /// Directory after each change that was not synced, in order: a crash goes back to any of them.
    unsynced_names: Vec<BTreeMap<String, u64>>,
    capacity_bytes: Option<u64>,
    operations: u64,
    fail_at: Option<u64>,
    crash_after: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    synced: Vec<u8>,
    current: Vec<u8>,
    unsynced: Vec<Write>,
}

#[derive(Clone, Debug)]
struct Write {
    offset: usize,
    bytes: Vec<u8>,
}

impl SimulatedDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self { state: Arc::default(), generation: 0 }
    }

    /// Ends every handle there is and leaves what `loss` says. Also undoes [`SimulatedDisk::crash_after`].
    #[must_use = "only this handle works from here on"]
    pub fn reopened(&self, loss: Loss) -> Self {
        let mut state = self.lock();
        state.generation += 1;
        state.crash_after = None;
        state.fail_at = None;
        match loss {
            Loss::None => {}
            Loss::All => state.lose(|_| Fate::Gone, |_| 0),
            Loss::Some { seed } => {
                let mut random = Random(seed);
                let kept = random.below(state.unsynced_names.len() as u64 + 1);
                let all_stay = random.below(4) == 0;
                state.lose(
                    |_| match random.below(32) {
                        _ if all_stay => Fate::Stays,
                        0 => Fate::Flips,
                        n if n % 2 == 1 => Fate::Stays,
                        _ => Fate::Gone,
                    },
                    |_| kept,
                );
            }
        }
        let generation = state.generation;
        drop(state);
        Self { state: Arc::clone(&self.state), generation }
    }

    /// A handle for after the death of the process, with the machine and all that was asked of it staying as they are.
    #[must_use = "only this handle works from here on"]
    pub fn restarted(&self) -> Self {
        let mut state = self.lock();
        state.generation += 1;
        Self { state: Arc::clone(&self.state), generation: state.generation }
    }

    /// A disk of its own with the same content, so that one crash can be looked at in many ways.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.lock().clone())), generation: self.generation }
    }

    /// Operations that changed something, so far: creations, writes, syncs, renames, removals.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// From the `count`-th changing operation from now on (that one included) nothing is done any more: the machine
    /// is off. Zero: at once.
    pub fn crash_after(&self, count: u64) {
        let mut state = self.lock();
        state.crash_after = Some(state.operations + count);
    }

    /// The changing operation after `count` more fails with an input/output error, once. A sync that fails has lost
    /// what it was to make durable, and the next one says nothing of it: so real kernels behave.
    pub fn fail_after(&self, count: u64) {
        let mut state = self.lock();
        state.fail_at = Some(state.operations + count);
    }

    /// Room for this many bytes in all files together; none for any.
    pub fn set_capacity_bytes(&self, capacity: Option<u64>) {
        self.lock().capacity_bytes = capacity;
    }

    /// Bytes in all files together.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// Flips one bit of a file, in what is synced and what is read. False if the file has no such byte.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) -> bool {
        let mut state = self.lock();
        let Some(inode) = state.names.get(name).copied().and_then(|i| state.inodes.get_mut(&i)) else {
            return false;
        };
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let mask = 1_u8 << (bit % 8);
        let mut hit = false;
        for bytes in [&mut inode.synced, &mut inode.current] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= mask;
                hit = true;
            }
        }
        hit
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> Result<MutexGuard<'_, State>, DiskError> {
        live(&self.state, self.generation)
    }
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::new()
    }
}

/// The state, unless the machine is off or the handle is from before a crash.
fn live(state: &Mutex<State>, generation: u64) -> Result<MutexGuard<'_, State>, DiskError> {
    let state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let is_off = state.crash_after.is_some_and(|at| state.operations >= at);
    if is_off || state.generation != generation {
        return Err(failed(DiskAction::Open, ".", "the machine is off"));
    }
    Ok(state)
}

fn failed(action: DiskAction, name: &str, why: &'static str) -> DiskError {
    DiskError::Io { action, name: name.to_owned(), source: io::Error::other(why) }
}

impl State {
    /// Counts a changing operation, and fails if it is the one to fail.
    fn count(&mut self, action: DiskAction, name: &str) -> Result<(), DiskError> {
        let fails = self.fail_at == Some(self.operations);
        self.operations += 1;
        if fails { Err(failed(action, name, "injected failure")) } else { Ok(()) }
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().filter_map(|i| self.inodes.get(i)).map(|i| i.current.len() as u64).sum()
    }

    fn inode(&self, name: &str, action: DiskAction) -> Result<u64, DiskError> {
        self.names.get(name).copied().ok_or_else(|| DiskError::Io {
            action,
            name: name.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })
    }

    fn directory_changed(&mut self) {
        self.unsynced_names.push(self.names.clone());
    }

    fn lose(&mut self, mut fate: impl FnMut(u64) -> Fate, kept: impl FnOnce(usize) -> u64) {
        let kept = usize::try_from(kept(self.unsynced_names.len())).unwrap_or(0);
        let names = kept.checked_sub(1).and_then(|i| self.unsynced_names.get(i)).cloned();
        self.names = names.unwrap_or_else(|| self.synced_names.clone());
        self.synced_names = self.names.clone();
        self.unsynced_names.clear();
        for (id, inode) in &mut self.inodes {
            let mut bytes = std::mem::take(&mut inode.synced);
            for write in inode.unsynced.drain(..) {
                for (i, piece) in write.bytes.chunks(TEAR_BYTES).enumerate() {
                    let at = write.offset + i * TEAR_BYTES;
                    match fate(*id) {
                        Fate::Gone => {}
                        Fate::Stays => put(&mut bytes, at, piece),
                        Fate::Flips => {
                            put(&mut bytes, at, piece);
                            if let Some(byte) = bytes.get_mut(at + piece.len() / 2) {
                                *byte ^= 0x10;
                            }
                        }
                    }
                }
            }
            inode.synced.clone_from(&bytes);
            inode.current = bytes;
        }
        let reachable: Vec<u64> = self.names.values().copied().collect();
        self.inodes.retain(|id, _| reachable.contains(id));
    }
}

#[derive(Clone, Copy)]
enum Fate {
    Stays,
    Gone,
    Flips,
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

impl Disk for SimulatedDisk {
    type File = SimulatedFile;

    fn list(&self) -> Result<Vec<String>, DiskError> {
        Ok(self.live()?.names.keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: u64) -> Result<SimulatedFile, DiskError> {
        let mut state = self.live()?;
        state.count(DiskAction::Create, name)?;
        let replaced = state.names.get(name).and_then(|i| state.inodes.get(i)).map_or(0, |i| i.current.len());
        let used = state.used_bytes() - replaced as u64;
        if state.capacity_bytes.is_some_and(|capacity| used + bytes > capacity) {
            if state.names.remove(name).is_some() {
                state.directory_changed();
            }
            return Err(DiskError::Full { name: name.to_owned() });
        }
        let id = state.next_inode;
        state.next_inode += 1;
        let zeros = vec![0; usize::try_from(bytes).unwrap_or_default()];
        let inode = Inode { synced: zeros.clone(), current: zeros, unsynced: Vec::new() };
        state.inodes.insert(id, inode);
        state.names.insert(name.to_owned(), id);
        state.directory_changed();
        drop(state);
        Ok(SimulatedFile { disk: self.clone(), inode: id, name: name.to_owned() })
    }

    fn open(&self, name: &str) -> Result<SimulatedFile, DiskError> {
        let inode = self.live()?.inode(name, DiskAction::Open)?;
        Ok(SimulatedFile { disk: self.clone(), inode, name: name.to_owned() })
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut state = self.live()?;
        state.count(DiskAction::Rename, from)?;
        let inode = state.inode(from, DiskAction::Rename)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), inode);
        state.directory_changed();
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        let mut state = self.live()?;
        state.count(DiskAction::Remove, name)?;
        state.inode(name, DiskAction::Remove)?;
        state.names.remove(name);
        state.directory_changed();
        Ok(())
    }

    fn sync_directory(&self) -> Result<(), DiskError> {
        let mut state = self.live()?;
        state.count(DiskAction::SyncDirectory, ".")?;
        state.synced_names = state.names.clone();
        state.unsynced_names.clear();
        Ok(())
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        let state = self.live()?;
        Ok(state.capacity_bytes.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used_bytes())))
    }
}

/// An open file of a [`SimulatedDisk`].
#[derive(Clone, Debug)]
pub struct SimulatedFile {
    disk: SimulatedDisk,
    inode: u64,
    name: String,
}

impl DiskFile for SimulatedFile {
    fn len_bytes(&self) -> Result<u64, DiskError> {
        Ok(self.disk.live()?.inodes.get(&self.inode).map_or(0, |i| i.current.len() as u64))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let state = self.disk.live()?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let source = state
            .inodes
            .get(&self.inode)
            .and_then(|i| i.current.get(from..from.checked_add(buffer.len())?))
            .ok_or_else(|| failed(DiskAction::Read, &self.name, "past the end"))?;
        buffer.copy_from_slice(source);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.disk.live()?;
        state.count(DiskAction::Write, &self.name)?;
        let (used, capacity) = (state.used_bytes(), state.capacity_bytes);
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let Some(inode) = state.inodes.get_mut(&self.inode) else {
            return Err(failed(DiskAction::Write, &self.name, "no such file"));
        };
        let growth = at.saturating_add(bytes.len()).saturating_sub(inode.current.len()) as u64;
        if growth > 0 && capacity.is_some_and(|capacity| used + growth > capacity) {
            return Err(DiskError::Full { name: self.name.clone() });
        }
        put(&mut inode.current, at, bytes);
        inode.unsynced.push(Write { offset: at, bytes: bytes.to_vec() });
        Ok(())
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        let mut state = self.disk.live()?;
        let counted = state.count(DiskAction::Sync, &self.name);
        let Some(inode) = state.inodes.get_mut(&self.inode) else {
            return Err(failed(DiskAction::Sync, &self.name, "no such file"));
        };
        let writes = std::mem::take(&mut inode.unsynced);
        counted?;
        for write in writes {
            put(&mut inode.synced, write.offset, &write.bytes);
        }
        Ok(())
    }
}

/// splitmix64: enough to draw fates from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

/// The piece that survives or goes as one. Smaller than a sector: a disk that is worse than real ones.
const TEAR_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn content(disk: &SimulatedDisk, name: &str) -> Vec<u8> {
        let file = disk.open(name).unwrap();
        let mut all = vec![0; usize::try_from(file.len_bytes().unwrap()).unwrap()];
        file.read_at(0, &mut all).unwrap();
        all
    }

    #[test]
    fn a_power_cut_keeps_what_was_synced_and_only_that() {
        let disk = SimulatedDisk::new();
        let file = disk.create("a", 200).unwrap();
        disk.sync_directory().unwrap();
        file.write_at(0, &[1; 100]).unwrap();
        file.sync_data().unwrap();
        file.write_at(100, &[2; 100]).unwrap();
        disk.create("b", 1).unwrap();
        let alive = disk.reopened(Loss::None);
        assert_eq!(content(&alive, "a"), [[1; 100], [2; 100]].concat());
        assert!(file.sync_data().is_err(), "a handle from before the crash");
        let cut = alive.reopened(Loss::All);
        assert_eq!(content(&cut, "a"), [[1; 100], [0; 100]].concat());
        assert_eq!(cut.list().unwrap(), vec!["a"]);
    }

    #[test]
    fn a_power_cut_tears_what_was_not_synced() {
        let (mut torn, mut whole, mut none, mut flipped) = (0, 0, 0, 0);
        for seed in 0..200 {
            let disk = SimulatedDisk::new();
            let file = disk.create("a", 256).unwrap();
            disk.sync_directory().unwrap();
            file.write_at(0, &[1; 256]).unwrap();
            let after = content(&disk.reopened(Loss::Some { seed }), "a");
            match after.iter().map(|b| usize::from(*b == 1)).sum() {
                0 => none += 1,
                256 => whole += 1,
                n if n % TEAR_BYTES != 0 => flipped += 1,
                _ => torn += 1,
            }
        }
        assert!(torn > 0 && whole > 0 && none > 0 && flipped > 0, "{torn} {whole} {none} {flipped}");
    }

    #[test]
    fn a_sync_that_failed_has_lost_its_writes_for_good() {
        let disk = SimulatedDisk::new();
        let file = disk.create("a", 4).unwrap();
        disk.sync_directory().unwrap();
        file.write_at(0, b"lost").unwrap();
        disk.fail_after(0);
        assert!(file.sync_data().is_err());
        assert!(file.sync_data().is_ok(), "as real kernels do");
        assert_eq!(content(&disk.reopened(Loss::All), "a"), b"\0\0\0\0");
    }

    #[test]
    fn it_is_off_after_the_given_operation_and_full_at_its_capacity() {
        let disk = SimulatedDisk::new();
        disk.crash_after(1);
        disk.create("a", 4).unwrap();
        assert!(disk.create("b", 4).is_err());
        let disk = disk.reopened(Loss::None);
        disk.set_capacity_bytes(Some(6));
        assert!(matches!(disk.create("b", 4), Err(DiskError::Full { .. })));
        assert_eq!(disk.list().unwrap(), vec!["a"]);
        assert_eq!(disk.free_bytes().unwrap(), 2);
    }
}
