//! The key file: one line, the node's secret, mode 0600.

use std::io;
use std::path::Path;
use std::sync::Arc;

use federation_wire::keys::{KeyError, NodeKey, OwnKeys};

use crate::enrolment::EnrolError;
use crate::files::{Existing, OpenTo, PrivateFileError, read_whole, write_whole};
use crate::random::system_rng;

/// Bytes beyond which a file is no key file: 32 keys, with all the series that may be named of each, stay below.
const KEY_FILE_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// The mode of a key file.
const KEY_FILE_MODE: u32 = 0o600;

/// Draws a new key and writes it to `path`.
///
/// # Errors
/// [`EnrolError::KeyExists`] if there is a file and it is to be kept; the file system's errors.
pub fn create(path: &Path, existing: Existing) -> Result<OwnKeys, EnrolError> {
    let keys = OwnKeys::new(Arc::new(NodeKey::generate(&mut system_rng())));
    write(path, &keys, existing)?;
    Ok(keys)
}

/// Writes keys to `path`.
///
/// # Errors
/// As [`create`].
pub fn write(path: &Path, keys: &OwnKeys, existing: Existing) -> Result<(), EnrolError> {
    match write_whole(path, keys.to_file_text().as_bytes(), KEY_FILE_MODE, existing) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(EnrolError::KeyExists { path: path.to_owned() })
        }
        Err(source) => Err(EnrolError::Write { path: path.to_owned(), source }),
    }
}

/// Reads the keys of `path`.
///
/// # Errors
/// If it is missing, open to others than its owner, or no key file.
pub fn read(path: &Path) -> Result<OwnKeys, EnrolError> {
    let bytes = read_whole(path, OpenTo::Owner, KEY_FILE_BYTES_MAX).map_err(|error| {
        let path = path.to_owned();
        match error {
            PrivateFileError::Missing => EnrolError::KeyMissing { path },
            PrivateFileError::NotAFile => EnrolError::KeyNotAFile { path },
            PrivateFileError::TooOpen { mode } => EnrolError::KeyTooOpen { path, mode },
            PrivateFileError::Unreadable(source) => EnrolError::Read { path, source },
        }
    })?;
    let malformed = |fault| EnrolError::KeyMalformed { path: path.to_owned(), fault };
    let text = std::str::from_utf8(&bytes).map_err(|_| malformed(KeyError::File))?;
    OwnKeys::from_file_text(text).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_comes_back_and_is_never_overwritten_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert!(matches!(read(&path), Err(EnrolError::KeyMissing { .. })));
        let key = create(&path, Existing::Keep).unwrap();
        assert_eq!(read(&path).unwrap().active().id(), key.active().id());
        assert!(matches!(create(&path, Existing::Keep), Err(EnrolError::KeyExists { .. })));
        assert_eq!(read(&path).unwrap().active().id(), key.active().id());
        let other = create(&path, Existing::Replace).unwrap();
        assert_ne!(other.active().id(), key.active().id());
        assert_eq!(read(&path).unwrap().active().id(), other.active().id());
    }

    #[test]
    fn an_open_or_broken_key_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path, Existing::Keep).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(read(&path), Err(EnrolError::KeyTooOpen { .. })), "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(read(&path).is_ok());
        fs::write(&path, "not a key\n").unwrap();
        assert!(matches!(read(&path), Err(EnrolError::KeyMalformed { .. })));
        assert!(read(dir.path()).is_err());
    }
}
