//! The commands of `federationd`, one module each.

pub mod demo;
pub mod dev;
pub mod keys;
pub mod peer;
pub mod receipt;
pub mod serve;
pub mod settings;
pub mod token;
pub mod verify;
