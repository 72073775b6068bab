//! A disk in memory that keeps apart what is written, what is durable, and what a failed sync has left between both.

mod content;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::content::{Directory, Fate, Inode};
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
    directory: Directory,
    capacity_bytes: Option<u64>,
    operations: u64,
    fail_at: Option<u64>,
    crash_after: Option<u64>,
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
            Loss::All => state.lose(0, || Fate::Gone),
            Loss::Some { seed } => {
                let mut random = Random(seed);
                let kept = random.below(state.directory.unsynced() as u64 + 1);
                let all_stay = random.below(4) == 0;
                state.lose(kept, || match random.below(32) {
                    _ if all_stay => Fate::Stays,
                    0 => Fate::Flips,
                    n if n % 2 == 1 => Fate::Stays,
                    _ => Fate::Gone,
                });
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

    /// Whether the machine is off: the operations of [`SimulatedDisk::crash_after`] were used up.
    pub fn is_off(&self) -> bool {
        let state = self.lock();
        state.crash_after.is_some_and(|at| state.operations >= at)
    }

    /// The changing operation after `count` more fails with an input/output error, once, as real kernels do it:
    ///
    /// - What a failed sync was to make durable goes on being read, also after a restart, and no later sync makes it
    ///   durable or complains: it has to be written again. A power cut loses it, or ([`Loss::Some`]) any part of it.
    /// - The same goes for the names that a failed sync of the directory was to make durable.
    /// - A failed write has written its first half.
    /// - What else fails has not been done.
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
        let Some(inode) = state.directory.inode(name).and_then(|i| state.inodes.get_mut(&i)) else {
            return false;
        };
        inode.flip_bit(usize::try_from(offset).unwrap_or(usize::MAX), bit)
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
        self.directory.inodes().filter_map(|i| self.inodes.get(&i)).map(|i| i.current().len() as u64).sum()
    }

    fn inode(&self, name: &str, action: DiskAction) -> Result<u64, DiskError> {
        self.directory.inode(name).ok_or_else(|| DiskError::Io {
            action,
            name: name.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })
    }

    fn lose(&mut self, kept: u64, mut fate: impl FnMut() -> Fate) {
        self.directory.lose(usize::try_from(kept).unwrap_or(0));
        for inode in self.inodes.values_mut() {
            inode.lose(&mut fate);
        }
        let reachable: Vec<u64> = self.directory.inodes().collect();
        self.inodes.retain(|id, _| reachable.contains(id));
    }
}

impl Disk for SimulatedDisk {
    type File = SimulatedFile;

    fn list(&self) -> Result<Vec<String>, DiskError> {
        Ok(self.live()?.directory.names())
    }

    fn create(&self, name: &str, bytes: u64) -> Result<SimulatedFile, DiskError> {
        let mut state = self.live()?;
        state.count(DiskAction::Create, name)?;
        let replaced = state.directory.inode(name).and_then(|i| state.inodes.get(&i));
        let replaced = replaced.map_or(0, |inode| inode.current().len());
        let used = state.used_bytes() - replaced as u64;
        if state.capacity_bytes.is_some_and(|capacity| used + bytes > capacity) {
            if state.directory.inode(name).is_some() {
                state.directory.change(vec![(name.to_owned(), None)]);
            }
            return Err(DiskError::Full { name: name.to_owned() });
        }
        let id = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(id, Inode::zeros(usize::try_from(bytes).unwrap_or_default()));
        state.directory.change(vec![(name.to_owned(), Some(id))]);
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
        state.directory.change(vec![(from.to_owned(), None), (to.to_owned(), Some(inode))]);
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        let mut state = self.live()?;
        state.count(DiskAction::Remove, name)?;
        state.inode(name, DiskAction::Remove)?;
        state.directory.change(vec![(name.to_owned(), None)]);
        Ok(())
    }

    fn sync_directory(&self) -> Result<(), DiskError> {
        let mut state = self.live()?;
        let counted = state.count(DiskAction::SyncDirectory, ".");
        if counted.is_ok() {
            state.directory.sync();
        } else {
            state.directory.fail_sync();
        }
        counted
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
        Ok(self.disk.live()?.inodes.get(&self.inode).map_or(0, |i| i.current().len() as u64))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let state = self.disk.live()?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let source = state
            .inodes
            .get(&self.inode)
            .and_then(|i| i.current().get(from..from.checked_add(buffer.len())?))
            .ok_or_else(|| failed(DiskAction::Read, &self.name, "past the end"))?;
        buffer.copy_from_slice(source);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.disk.live()?;
        let counted = state.count(DiskAction::Write, &self.name);
        let (used, capacity) = (state.used_bytes(), state.capacity_bytes);
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let Some(inode) = state.inodes.get_mut(&self.inode) else {
            return Err(failed(DiskAction::Write, &self.name, "no such file"));
        };
        let growth = at.saturating_add(bytes.len()).saturating_sub(inode.current().len()) as u64;
        if growth > 0 && capacity.is_some_and(|capacity| used + growth > capacity) {
            return Err(DiskError::Full { name: self.name.clone() });
        }
        let written = if counted.is_ok() { bytes.len() } else { bytes.len() / 2 };
        inode.write(at, bytes.get(..written).unwrap_or_default());
        counted
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        let mut state = self.disk.live()?;
        let counted = state.count(DiskAction::Sync, &self.name);
        let Some(inode) = state.inodes.get_mut(&self.inode) else {
            return Err(failed(DiskAction::Sync, &self.name, "no such file"));
        };
        if counted.is_ok() {
            inode.sync();
        } else {
            inode.fail_sync();
        }
        counted
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
