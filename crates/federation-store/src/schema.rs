//! What stands in the index and in the records of the log, byte for byte.
//!
//! Keys of the index sort as the values they are made of; their values, and the records of the log, are in the
//! canonical codec of `federation-wire`.

pub(crate) mod base;
pub(crate) mod facts;
pub(crate) mod keys;
mod letters;
pub(crate) mod values;

use federation_wire::codec::CodecError;

/// Why bytes of the index or the log could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A value does not decode.
    #[error("{what} does not decode")]
    Value {
        /// What it should have been.
        what: &'static str,
        /// Why.
        source: CodecError,
    },
    /// A key is not one.
    #[error("{what} is malformed")]
    Key {
        /// What it should have been.
        what: &'static str,
    },
}
