//! The moving part of a federation: fan-out, delivery, catch-up, and the routes that peers call.
//!
//! A [`node::Node`] embeds in any service: it is given a store behind core's port, a key, the enrolled peers, and a
//! [`transport::Transport`], and replicates records of any kind. It never opens a file, reads a flag or names a
//! database; the sender of every frame is proven, by its signature or by its channel, in one place each.
//!
//! Module map: [`node`] (the handle), `write` (a client's write), `peer` (hello, delivery and catch-up, per peer),
//! `server` (what peers ask), `scope` (what the scopes come to), `admit` (how ops enter), `vouch` (what a claim is
//! worth), [`alarm`] (what must not happen), `gate` (how frames enter and leave), [`http`], [`tls`] and [`transport`] (how
//! they travel).

mod admit;
pub mod alarm;
mod causal;
pub mod config;
mod connections;
pub mod enrolled;
pub mod error;
mod exchange;
mod gate;
pub mod http;
mod inner;
mod members;
pub mod metrics;
pub mod node;
mod peer;
pub mod rate;
mod scope;
mod server;
pub mod signing_keys;
pub mod status;
mod store_call;
mod tasks;
pub mod tls;
pub mod transport;
mod vouch;
mod write;

pub use members::Changes;
pub use write::{Proof, WriteReceipt};
