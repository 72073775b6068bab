//! A real node with a real store, and scripted peers over HTTP/2 on loopback: what a write is answered, why, and when;
//! what becomes of it afterwards; and what the peer listener does with frames that are not what they should be.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

mod afterwards;
mod bench;
mod bounds;
mod frames;
mod letters;
mod lies;
mod ops;
mod outcomes;
mod receipts;
mod scopes;
mod timing;
