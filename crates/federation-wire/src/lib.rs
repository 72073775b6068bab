//! Bytes to types and back.

pub mod codec;
pub mod embedding;
pub mod v1;
