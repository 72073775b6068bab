//! Many nodes in one process, and the checks that hold them against what the product promises.
//!
//! [`network`] carries frames between nodes, with faults; [`simulation`] runs a mesh of the real crates over it, on
//! simulated disks and simulated time, from one seed. [`chaos`] does faults to real processes; [`history`] is what its
//! clients record, and [`checker`] holds that against the guarantees.

#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "test support says what went wrong by panicking"
)]

pub mod chaos;
pub mod checker;
pub mod history;
pub mod mock_peer;
pub mod network;
pub mod schedule;
pub mod simulation;
