//! Version 1 of the wire, frozen: a new field means a `v2` beside it.

pub mod nack;
pub mod op;
pub mod types;
