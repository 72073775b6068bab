//! Who gets through the peer listener, as whom, and how much of it: over real sockets.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod frames;
mod handshakes;
mod limits;
mod pki;
mod site;
