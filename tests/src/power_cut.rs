//! Takes the power away from a file system: the one place of this project with unsafe code.

use std::fs::File;
use std::io;
use std::path::Path;

/// Stops the ext4 that is mounted at `mount_point`, without writing its journal out: what no `fsync` has made durable
/// is gone after the next mount. Needs the right to administer the system.
///
/// # Errors
/// What the system says, as for a file system of another kind.
#[expect(unsafe_code, reason = "this ioctl has no safe wrapper anywhere")]
pub fn cut_power(mount_point: &Path) -> io::Result<()> {
    let root = File::open(mount_point)?;
    // SAFETY: the kernel reads one u32 of flags, and `Setter` keeps it alive over the call.
    let shutdown = unsafe { rustix::ioctl::Setter::<EXT4_IOC_SHUTDOWN, u32>::new(WITHOUT_LOG_FLUSH) };
    // SAFETY: the file is open, and this code means nothing else than a shutdown to any file system that knows it.
    unsafe { rustix::ioctl::ioctl(&root, shutdown) }?;
    Ok(())
}

/// `_IOR('X', 125, __u32)`: the same for ext4, XFS and f2fs.
const EXT4_IOC_SHUTDOWN: rustix::ioctl::Opcode = rustix::ioctl::opcode::read::<u32>(b'X', 125);
/// Stop at once: neither data nor journal is written.
const WITHOUT_LOG_FLUSH: u32 = 2;
