//! Files that must be whole or not there at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Bits by which a file is open to others than its owner.
const OPEN_TO_OTHERS: u32 = 0o077;

/// Whether a file that is there is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the write fails with [`io::ErrorKind::AlreadyExists`].
    Keep,
    /// It is replaced, in one step.
    Replace,
}

/// Writes `bytes` as the whole content of `path`, durably: after a crash there is the old file or the new one.
///
/// `mode` is the mode of the new file, as in 0o600; the file never has another, not even for a moment.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32, existing: Existing) -> io::Result<()> {
    let dir = directory_of(path);
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = tempfile::Builder::new();
    let mut file = temporary
        .prefix(name)
        .suffix(".new")
        .make_in(dir, |at| OpenOptions::new().write(true).create_new(true).mode(mode).open(at))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    match existing {
        Existing::Keep => file.persist_noclobber(path)?,
        Existing::Replace => file.persist(path)?,
    };
    File::open(dir)?.sync_all()
}

/// Why a file that only its owner may read is not read.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// It is not there.
    #[error("is missing")]
    Missing,
    /// It could not be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// The path names something else.
    #[error("is not a regular file")]
    NotAFile,
    /// Others than the owner may use it.
    #[error("its mode is {mode:04o}, open to others: run `chmod 600` on it")]
    TooOpen {
        /// Its mode.
        mode: u32,
    },
}

/// Who else than its owner may use a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenTo {
    /// Nobody, or it is refused.
    Owner,
    /// Anybody.
    Others,
}

/// Reads a file of at most `bytes_max` bytes; more are not read. What is read is wiped from memory when dropped.
///
/// # Errors
/// [`PrivateFileError`].
pub fn read_whole(
    path: &Path,
    open_to: OpenTo,
    bytes_max: u64,
) -> Result<Zeroizing<Vec<u8>>, PrivateFileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(PrivateFileError::Missing),
        Err(error) => return Err(PrivateFileError::Unreadable(error)),
    };
    // Asked of the open file, so that it is the one that is read.
    let metadata = file.metadata().map_err(PrivateFileError::Unreadable)?;
    let mode = metadata.mode() & 0o7777;
    if !metadata.is_file() {
        return Err(PrivateFileError::NotAFile);
    }
    if open_to == OpenTo::Owner && mode & OPEN_TO_OTHERS != 0 {
        return Err(PrivateFileError::TooOpen { mode });
    }
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let room = usize::try_from(metadata.len().min(bytes_max)).unwrap_or_default() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(bytes_max).read_to_end(&mut bytes).map_err(PrivateFileError::Unreadable)?;
    Ok(bytes)
}

/// The directory that `path` stands in.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether `path` lies in `dir`, both resolved as far as they exist.
pub fn is_within(path: &Path, dir: &Path) -> bool {
    resolved(path).starts_with(resolved(dir))
}

/// The path with all links and dots resolved, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for ancestor in absolute.ancestors() {
        if let (Ok(real), Ok(rest)) = (fs::canonicalize(ancestor), absolute.strip_prefix(ancestor)) {
            return real.join(rest);
        }
    }
    absolute
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_written_with_its_mode_and_kept_or_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write_whole(&path, b"one", 0o600, Existing::Keep).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = write_whole(&path, b"two", 0o600, Existing::Keep).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_whole(&path, b"two", 0o600, Existing::Replace).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays behind");
    }

    #[test]
    fn within_sees_through_dots_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir(&data).unwrap();
        std::os::unix::fs::symlink(&data, dir.path().join("link")).unwrap();
        let check = |path: &str, inside: bool| {
            assert_eq!(is_within(&dir.path().join(path), &data), inside, "{path}");
        };
        check("data/key", true);
        check("data/sub/key", true);
        check("link/key", true);
        check("data/../key", false);
        check("key", false);
        check("database", false);
    }
}
