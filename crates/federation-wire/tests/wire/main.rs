//! The wire as its readers and its forgers see it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the functions that tests share are tests too"
)]

mod canonical;
mod causal_tokens;
mod frames;
mod golden;
mod limits;
mod proofs;
mod properties;
mod receipts;
mod samples;
mod writes;
