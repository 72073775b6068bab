//! Bytes to types and back.

pub mod codec;
pub mod embedding;
pub mod frame;
pub mod identity;
pub mod keys;
mod merkle;
pub mod seal;
pub mod slug;
pub mod v1;
