//! Files that must be whole or not there at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

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
