//! The two files by which nodes know each other: the secret key of this node, and the enrolled peers.

pub mod error;
pub mod key_file;
pub mod peers_file;

pub use error::EnrolError;
