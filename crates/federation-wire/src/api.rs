//! The client API: what is sent and what comes back, for the daemon and for clients alike.

pub mod authorization;
pub mod conflict;
pub mod dlq;
pub mod dot;
pub mod error;
pub mod memory;
pub mod receipt;
pub mod reload;
pub mod status;
pub mod token;
pub mod view;

pub use dot::DotText;
pub use error::{ErrorBody, Fault, QuorumNotMetBody};
pub use memory::{CreateMemory, CurrentMemory, Expiry, MemoryWrite, UpdateMemory};
pub use receipt::QuorumReceipt;
pub use view::{MemoryView, QuorumView};
