//! Tests of the real binary: each starts `federationd` processes through the supervisor.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

#[path = "../shared/poll.rs"]
mod poll;

mod bad_input;
mod bulk;
mod certificates;
mod clients;
mod cluster;
mod commands;
mod conflicts;
mod credentials;
mod dlq;
mod enrolment;
mod levels;
mod receipt;
mod reload;
mod sample;
mod scopes;
mod secrets;
mod secured;
mod shutdown;
mod space;
mod start_faults;
mod support;
mod tls;
