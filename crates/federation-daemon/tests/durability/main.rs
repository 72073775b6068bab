//! What an acknowledgement is worth, on real processes: order of sync and answer, power cuts, `kill -9`, catch-up, load.
//!
//! The tests of this binary run one at a time: each wants the machine, and some look at how long something takes.
//! With `--features planted-bugs` more of them show that the checks of the order and of the power cut can go red.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

#[path = "../shared/poll.rs"]
mod poll;

mod catch_up;
mod kill;
mod load;
mod loop_mount;
#[cfg(feature = "planted-bugs")]
mod planted;
#[path = "../../../../tests/src/power_cut.rs"]
pub mod power;
mod power_cut;
mod strace;
mod support;
mod trace;
mod traffic;
