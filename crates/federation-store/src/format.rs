//! The file `FORMAT`: which version the directory has, its salt, and where its log begins.

use crate::disk::{Disk, DiskError};
use crate::error::OpenError;

/// The newest format version that is known here. Version 1 is the first: its log begins at segment 1, and has no
/// base record. A start makes it this one.
pub const FORMAT_VERSION: u32 = 2;

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// The version of all that is in the directory.
    pub(crate) version: u32,
    /// What tells its marks from other bytes.
    pub(crate) salt: u64,
    /// Number of the segment that the log begins with: those before it were compacted.
    pub(crate) first_segment: u64,
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

    /// Writes the file, durably, in the newest version.
    pub(crate) fn write<D: Disk>(self, disk: &D) -> Result<(), DiskError> {
        let text = format!("{FORMAT_NAME} {FORMAT_VERSION} {:016x} {}\n", self.salt, self.first_segment);
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
    if version > FORMAT_VERSION {
        return Some(Format { version, salt: 0, first_segment: 1 });
    }
    let salt = u64::from_str_radix(words.next()?, 16).ok()?;
    let first_segment =
        if version == 1 { 1 } else { words.next()?.parse().ok().filter(|first| *first > 0)? };
    Some(Format { version, salt, first_segment })
}

pub(crate) const FORMAT_FILE: &str = "FORMAT";
const FORMAT_NAME: &str = "federation-store";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let check = |content: &str, expected: Option<(u32, u64, u64)>| {
            let found = parse(content.as_bytes()).map(|f| (f.version, f.salt, f.first_segment));
            assert_eq!(found, expected, "{content:?}");
        };
        check("federation-store 1 00000000000000ff\n", Some((1, 255, 1)));
        check("federation-store 2 00000000000000ff 17\n", Some((2, 255, 17)));
        check("federation-store 3 whatever else\n", Some((3, 0, 1)));
        check("federation-store 2 00000000000000ff\n", None);
        check("federation-store 2 00000000000000ff 0\n", None);
        check("federation-store 1\n", None);
        check("federation-store one 0\n", None);
        check("something 1 0\n", None);
        check("", None);
    }
}
