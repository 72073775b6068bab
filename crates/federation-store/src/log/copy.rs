//! The copy of the log's last group that is kept while that group is written again.
//!
//! To write a group again over itself puts at risk what may have been acknowledged long ago: if the power goes
//! meanwhile, neither the old bytes nor the new ones need be whole. So they go to a file of their own first.

use crate::disk::{Disk, DiskError, DiskFile};
use crate::log::frame::{Group, MARK_BYTES, Mark};

/// Keeps `group`, the bytes of a whole group, durably.
pub(crate) fn keep<D: Disk>(disk: &D, group: &[u8]) -> Result<(), DiskError> {
    disk.write_small(COPY_FILE, group)
}

/// The group that is kept, if there is one and it ends before `limit`, where the log's last segment does.
pub(crate) fn kept<D: Disk>(disk: &D, salt: u64, limit: u64) -> Result<Option<Group>, DiskError> {
    if !disk.list()?.iter().any(|name| name == COPY_FILE) {
        return Ok(None);
    }
    let file = disk.open(COPY_FILE)?;
    let length = file.len_bytes()?;
    if length < MARK_BYTES as u64 {
        return Ok(None);
    }
    let mut bytes = [0; MARK_BYTES];
    file.read_at(0, &mut bytes)?;
    let is_whole = |mark: &Mark| mark.end() - mark.start == length && mark.end() <= limit;
    let Some(mark) = Mark::parse(&bytes, salt).filter(is_whole) else { return Ok(None) };
    let mut body = vec![0; mark.body_bytes as usize];
    file.read_at(MARK_BYTES as u64, &mut body)?;
    Ok(Group::new(mark, body))
}

/// Lets go of it. Not durable by itself, and need not be: what it holds is what the log holds.
pub(crate) fn forget<D: Disk>(disk: &D) -> Result<(), DiskError> {
    if disk.list()?.iter().any(|name| name == COPY_FILE) {
        disk.remove(COPY_FILE)?;
    }
    Ok(())
}

const COPY_FILE: &str = "last-group.copy";
