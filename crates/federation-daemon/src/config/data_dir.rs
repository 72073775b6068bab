//! Whether a data directory can be used, as far as can be told without opening the store.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use federation_store::check_format;
use federation_store::disk::{LockError, RealDisk};

use crate::config::DataDirProblem;

/// Room that a store needs before it begins: its first segment and its index.
const ROOM_BYTES_MIN: u64 = 96 * 1024 * 1024;
/// Written and synced to see whether the directory takes it.
const PROBE: [u8; 4096] = [0; 4096];

pub(super) fn check(path: &Path, new_mesh: bool) -> Result<(), DataDirProblem> {
    if path.exists() && !path.is_dir() {
        return Err(DataDirProblem::NotADirectory);
    }
    if path.is_dir() {
        // Held by nobody else, and let go again: whoever opens the store takes it for good.
        match RealDisk::open_existing(path) {
            Ok(lock) => check_format(&lock)?,
            Err(LockError::InUse { .. }) => return Err(DataDirProblem::InUse),
            Err(LockError::Unusable { source, .. }) => return Err(unwritable(source)),
        }
    }
    let is_empty = is_empty(path);
    if new_mesh && !is_empty {
        return Err(DataDirProblem::NotEmpty);
    }
    let Some(existing) = path.ancestors().find(|at| at.as_os_str().is_empty() || at.exists()) else {
        return Ok(());
    };
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    tempfile::Builder::new()
        .prefix(".federation-probe")
        .tempfile_in(existing)
        .and_then(|mut probe| {
            probe.write_all(&PROBE)?;
            probe.as_file().sync_data()
        })
        .map_err(unwritable)?;
    let room = rustix::fs::statvfs(existing).map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
    if is_empty && room < ROOM_BYTES_MIN {
        return Err(DataDirProblem::Full { needed_bytes: ROOM_BYTES_MIN });
    }
    Ok(())
}

/// Whether nothing but a lock stands in the directory, or it is not there.
fn is_empty(path: &Path) -> bool {
    let Ok(mut entries) = fs::read_dir(path) else { return true };
    entries.all(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().contains("lock")))
}

fn unwritable(error: io::Error) -> DataDirProblem {
    if error.kind() == io::ErrorKind::StorageFull {
        DataDirProblem::Full { needed_bytes: ROOM_BYTES_MIN }
    } else {
        DataDirProblem::Unwritable(error)
    }
}
