//! Delivery to a peer, as the pure state machines decide it: the link, the coordinator, both ends of a session.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod coordinator;
mod fixture;
mod link;
mod session;
