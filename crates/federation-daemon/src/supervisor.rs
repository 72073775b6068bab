//! Runs real `federationd` processes: for `dev`, `demo`, the tests and the chaos harness alike.
//!
//! A child never outlives its parent: it is told to end when its standard input closes (which happens however the
//! parent ends), and it is killed when its [`Process`] is dropped. Each child leads a process group of its own, so that
//! Ctrl-C in a terminal reaches only the parent, which then stops its children in order.

pub mod client;
pub mod error;
pub mod log;
pub mod mesh;

pub mod port;
pub mod process;

pub use client::{Answer, Client};
pub use error::SupervisorError;
pub use log::LogSink;
pub use mesh::{Mesh, MeshLinks, MeshLogs, MeshNode, MeshSpec};

pub use process::{Process, ProcessSpec};
