//! Version 1 of the wire, frozen: a new field means a `v2` beside it.

pub mod ack;
pub mod clock_page;
pub mod delivery;
pub mod hello;
pub mod nack;
pub mod op;
pub mod pull;
pub mod push;
pub mod types;
