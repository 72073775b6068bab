//! What every combination of disk and index must do. The simulated disk shows what cannot be shown on a real one;
//! the real one and sled show that they are no different where both can be asked.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what a test does not expect ends it, in its own functions too"
)]

mod closing;
mod compaction;
mod crash;
mod failed_sync;
mod faults;
mod histories;
mod letters;
mod model;
mod race;
mod reads;
mod real;
mod scope;
mod script;
mod verified;
mod world;
