//! Every history within small bounds, over the decisions themselves: the model checker for completion.
//!
//! Nodes write, deliver, lose messages, run sessions step by step, restart and lose their disks, in every order
//! that the bounds allow. What the nodes decide is [`federation_core`]'s own; only the network, the disks and the binding of
//! messages to boots are played here. After each step [`check`] holds the state against the truth about what each writer
//! had seen.
//!
//! README.md beside this directory says what each search covers and which rule each defect takes out.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod assumptions;
mod bounds;
mod check;
#[cfg(feature = "planted-bugs")]
mod defects;
mod mesh;
#[expect(dead_code, reason = "shared with the random histories, which need more of it")]
#[path = "../model/replica.rs"]
mod replica;
mod search;
mod session;
mod within_bounds;
