//! The commands of `federationd`, one module each.

pub mod demo;
pub mod dev;
pub mod dlq;
pub mod keys;
pub mod node_client;
pub mod peer;
pub mod receipt;
pub mod serve;
pub mod settings;
pub mod token;
pub mod verify;
