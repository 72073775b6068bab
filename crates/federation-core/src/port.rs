//! The ports: what the decisions need from the world, handed in by the daemon or by a simulation.

pub mod clock;
pub mod rules;
pub mod sealer;
pub mod store;
