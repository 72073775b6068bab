//! A real node with a real store, and scripted peers over HTTP/2 on loopback: what a write is answered, why, and when;
//! what becomes of it afterwards; and what the peer listener does with frames that are not what they should be.

mod afterwards;
mod bench;
mod frames;
mod outcomes;
mod timing;
