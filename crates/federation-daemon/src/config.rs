//! Settings: what was given (raw), and what it means (valid), with every fault found on the way.

mod clients;
mod data_dir;
pub mod fault;
mod peers;
pub mod raw;
pub mod tls;
pub mod valid;

pub use clients::ClientAccess;
pub use fault::{DataDirProblem, Fault, Faults};
pub use raw::{RawConfig, SETTINGS, Setting};
pub use valid::{Config, Given, Sockets, Start};
