//! The file `FORMAT`: which version the directory has, and its salt.

use crate::disk::{Disk, DiskError};
use crate::error::OpenError;

/// The newest format version that is known here. Version 1 is the first.
pub const FORMAT_VERSION: u32 = 1;

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// The version of all that is in the directory.
    pub(crate) version: u32,
    /// What tells its marks from other bytes.
    pub(crate) salt: u64,
}

impl Format {
    /// Reads the file; none if there is none.
    ///
    /// # Errors
    /// [`OpenError::NewerFormat`], [`OpenError::FormatUnreadable`], or what the disk says.
    pub(crate) fn read<D: Disk>(disk: &D) -> Result<Option<Self>, OpenError> {
        let Some(content) = disk.read_small(FORMAT_FILE)? else { return Ok(None) };
        let format = parse(&content).ok_or(OpenError::FormatUnreadable)?;
        if format.version > FORMAT_VERSION {
            return Err(OpenError::NewerFormat { found: format.version, supported: FORMAT_VERSION });
        }
        Ok(Some(format))
    }

    /// Writes the file, durably.
    pub(crate) fn write<D: Disk>(self, disk: &D) -> Result<(), DiskError> {
        let text = format!("{FORMAT_NAME} {} {:016x}\n", self.version, self.salt);
        disk.write_small(FORMAT_FILE, text.as_bytes())
    }
}

/// Whether this version can read the directory on `disk`, as far as its file `FORMAT` tells. Nothing is changed.
///
/// # Errors
/// [`OpenError::NewerFormat`], [`OpenError::FormatUnreadable`], or what the disk says.
pub fn check_format<D: Disk>(disk: &D) -> Result<(), OpenError> {
    Format::read(disk).map(drop)
}

/// A newer version may say more behind the first two words, so its number is read before the rest is asked for.
fn parse(content: &[u8]) -> Option<Format> {
    let mut words = std::str::from_utf8(content).ok()?.split_whitespace();
    if words.next()? != FORMAT_NAME {
        return None;
    }
    let version = words.next()?.parse().ok()?;
    let salt = words.next().and_then(|word| u64::from_str_radix(word, 16).ok());
    match salt {
        Some(salt) => Some(Format { version, salt }),
        None if version > FORMAT_VERSION => Some(Format { version, salt: 0 }),
        None => None,
    }
}

pub(crate) const FORMAT_FILE: &str = "FORMAT";
const FORMAT_NAME: &str = "federation-store";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let check = |content: &str, expected: Option<(u32, u64)>| {
            assert_eq!(parse(content.as_bytes()).map(|f| (f.version, f.salt)), expected, "{content:?}");
        };
        check("federation-store 1 00000000000000ff\n", Some((1, 255)));
        check("federation-store 2 whatever else\n", Some((2, 0)));
        check("federation-store 1\n", None);
        check("federation-store one 0\n", None);
        check("something 1 0\n", None);
        check("", None);
    }
}
