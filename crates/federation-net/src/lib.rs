//! The moving part of a federation: fan-out, delivery, catch-up, and the routes that peers call.
//!
//! A [`node::Node`] embeds in any service: it is given a store behind core's port, a key, the enrolled peers, and a
//! [`transport::Transport`], and replicates records of any kind. It never opens a file, reads a flag or names a
//! database; every frame that leaves is signed and every frame that enters is verified, in one place each.
//!
//! Module map: [`node`] (the handle), `write` (a client's write), `peer` (hello, delivery and catch-up, per peer),
//! `server` (what peers ask), `admit` (how ops enter), `gate` (how frames enter and leave), [`http`] and
//! [`transport`] (how they travel).

mod admit;
pub mod config;
pub mod error;
mod exchange;
mod gate;
pub mod http;
mod inner;
pub mod metrics;
pub mod node;
mod peer;
mod server;
pub mod status;
mod store_call;
mod tasks;
pub mod transport;
mod write;

pub use write::WriteReceipt;
