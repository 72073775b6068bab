//! The attack bench: what can be made of recorded bytes of real traffic, against real processes.
//!
//! [`recorder`] stands between honest nodes and keeps what they say; [`attacks`] is the list of what is made of it, each with the
//! answer that it must get. After each attack the victim's state hash, clock and log are held against those of before.
//! `stolen` is what a stolen key is good for, before and after its revocation; `flood` bounds memory; `campaign` runs
//! attacks at full speed beside honest clients:
//!
//! ```text
//! FEDERATION_ATTACK_SECS=20 cargo test --release -p federation-daemon --test attack campaign -- --nocapture
//! ```

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

#[path = "../shared/poll.rs"]
mod poll;

mod attacks;
mod bench;
mod campaign;
mod flood;
mod line;
mod loot;
mod recorder;
mod stolen;
mod tls;
