//! Delivery to a peer, as the pure state machines decide it: the link, the coordinator, both ends of a session.

mod coordinator;
mod fixture;
mod link;
mod session;
