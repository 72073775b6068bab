//! When a write counts as safe: how many replicas must hold it, and who has said so.

pub mod ack_tracker;
pub mod levels;
pub mod policy;
