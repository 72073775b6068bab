//! The disks of a mesh as they are now.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use federation_store::SimulatedDisk;
use federation_store::disk::Loss;

/// The disks of a mesh, for whoever looks at them at the moment of an answer. Clones share them.
#[derive(Clone, Default)]
pub struct Disks {
    inner: Arc<Mutex<DisksNow>>,
}

#[derive(Clone, Default)]
struct DisksNow {
    disks: BTreeMap<usize, SimulatedDisk>,
    losses: u64,
}

impl Disks {
    /// What a power cut would leave of each disk now, and how many were lost so far.
    pub fn after_power_cut(&self) -> (BTreeMap<usize, SimulatedDisk>, u64) {
        let now = self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let left = now.disks.into_iter().map(|(node, disk)| (node, disk.fork().reopened(Loss::All)));
        (left.collect(), now.losses)
    }

    /// How many disks were lost so far.
    pub fn losses(&self) -> u64 {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).losses
    }

    pub(super) fn set(&self, node: usize, disk: &SimulatedDisk) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).disks.insert(node, disk.clone());
    }

    pub(super) fn lose(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).losses += 1;
    }
}
