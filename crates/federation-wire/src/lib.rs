//! Bytes to types and back.

pub mod codec;
pub mod embedding;
pub mod keys;
mod merkle;
pub mod seal;
pub mod v1;
