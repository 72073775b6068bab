//! Who gets through the peer listener, as whom, and how much of it: over real sockets.

mod frames;
mod handshakes;
mod limits;
mod pki;
mod site;
