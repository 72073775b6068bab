//! The merge held against a small model: several replicas in memory, every op through `decide`, and a record of
//! what each writer had truly seen, which no code under test keeps.
//!
//! README.md beside this directory says which rule each test guards.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod counterexamples;
mod epochs;
mod group;
mod histories;
mod laws;
mod mesh;
mod replica;
mod writes;
