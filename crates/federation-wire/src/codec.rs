//! The binary codec: the one module that names bincode.
//!
//! Fixed-width little-endian integers, `u64` lengths, `u32` enum tags: the bytes of bincode's legacy configuration.
//! A value has one encoding. That holds by construction: integers have one width, `bool` and `Option` tags are
//! checked, text is UTF-8, maps are not used (sets of dots are checked to be sorted, see [`crate::v1::types`]),
//! and trailing bytes are refused.

use std::fmt;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use federation_core::limits::FRAME_BYTES_MAX;
use serde::de::{Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// Why bytes are not the encoding of a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// More bytes than the caller takes; nothing of them was looked at.
    #[error("{bytes} bytes are more than the limit of {limit_bytes}")]
    TooLarge {
        /// How many there are.
        bytes: usize,
        /// How many there may be.
        limit_bytes: usize,
    },
    /// The value ends before the bytes do.
    #[error("{bytes} bytes stand behind the value")]
    Trailing {
        /// How many are left over.
        bytes: usize,
    },
    /// More elements than the type takes.
    #[error("{count} elements are more than the limit of {limit}")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The bytes do not say a value of this type.
    #[error("malformed: {0}")]
    Malformed(Detail),
}

/// What the decoder stumbled over, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail(Box<str>);

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl CodecError {
    /// A value that decodes but breaks a rule of its type.
    pub fn malformed(why: &str) -> Self {
        Self::Malformed(Detail(why.into()))
    }
}

/// The bytes of `value`.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    encode_into(value, &mut out);
    out
}

/// Appends the bytes of `value` to `out`.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    #[expect(
        clippy::expect_used,
        reason = "only a failing Serialize or a sequence of unknown length can fail"
    )]
    bincode::serde::encode_into_writer(value, Append(out), CONFIG).expect("wire types serialise");
}

struct Append<'a>(&'a mut Vec<u8>);

impl Writer for Append<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// The value whose encoding is all of `bytes`.
///
/// Text and [`Blob`]s are borrowed from `bytes`, so that a length in them allocates nothing. A type of
/// another crate must keep to that: `&str`, [`Blob`] or [`crate::v1::types::Wire`], not `String` or `Vec<u8>`.
///
/// # Errors
/// [`CodecError::TooLarge`] without looking at the bytes if they are more than `limit_bytes`.
pub fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8], limit_bytes: usize) -> Result<T, CodecError> {
    let (value, rest) = decode_prefix(bytes, limit_bytes)?;
    if rest.is_empty() { Ok(value) } else { Err(CodecError::Trailing { bytes: rest.len() }) }
}

/// The value whose encoding `bytes` begin with, and what stands behind it.
///
/// # Errors
/// As [`decode`], except that bytes may be left over.
pub fn decode_prefix<'de, T: Deserialize<'de>>(
    bytes: &'de [u8],
    limit_bytes: usize,
) -> Result<(T, &'de [u8]), CodecError> {
    if bytes.len() > limit_bytes {
        return Err(CodecError::TooLarge { bytes: bytes.len(), limit_bytes });
    }
    let (value, used) = bincode::serde::borrow_decode_from_slice(bytes, CONFIG)
        .map_err(|fault| CodecError::malformed(&fault.to_string()))?;
    Ok((value, bytes.get(used..).unwrap_or_default()))
}

/// Bytes that are encoded as a length and a copy, not one by one. Borrowed from what was decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blob<'a>(pub &'a [u8]);

impl Serialize for Blob<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Blob<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowed;
        impl<'de> Visitor<'de> for Borrowed {
            type Value = &'de [u8];
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(bytes)
            }
        }
        deserializer.deserialize_bytes(Borrowed).map(Blob)
    }
}

/// What one decode may claim, so that a type that does allocate by a length stays bounded too.
const CLAIM_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<CLAIM_BYTES_MAX>> =
    bincode::config::legacy().with_limit::<CLAIM_BYTES_MAX>();
