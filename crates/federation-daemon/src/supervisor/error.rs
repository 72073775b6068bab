//! What goes wrong between a supervisor and its processes.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why the supervisor could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The program did not start.
    #[error("{} did not start", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No port was free.
    #[error("no free port on loopback")]
    Port(#[source] io::Error),
    /// A file of the mesh could not be read or written.
    #[error("{} could not be read or written", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the mesh does not hold what it should.
    #[error("{}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A directory was made for another number of nodes.
    #[error("{} holds {found} nodes, not {asked}: take another directory, or --nodes {found}", path.display())]
    NodeCount {
        /// The directory.
        path: PathBuf,
        /// Nodes it was made for.
        found: usize,
        /// Nodes asked for.
        asked: usize,
    },
    /// A key or an enrolment could not be made.
    #[error(transparent)]
    Enrol(#[from] crate::enrolment::EnrolError),
    /// The process ended before it was ready.
    #[error("{name} ended with {status} before it was ready; it said:\n{last_lines}")]
    EndedEarly {
        /// The node.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        last_lines: String,
    },
    /// The process is not running.
    #[error("{name} is not running")]
    NotRunning {
        /// The node.
        name: String,
    },
    /// There is no node of that number.
    #[error("there is no node {index}, the mesh has {nodes}")]
    NoSuchNode {
        /// The number asked for, from 0.
        index: usize,
        /// How many there are.
        nodes: usize,
    },
    /// Something did not happen in time.
    #[error("{name} {what} within {} ms{last}", within.as_millis())]
    Deadline {
        /// The node.
        name: String,
        /// What did not happen, as in "was not ready".
        what: &'static str,
        /// The deadline.
        within: Duration,
        /// What was seen last.
        last: String,
    },
    /// A signal could not be sent.
    #[error("{name} could not be signalled")]
    Signal {
        /// The node.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A request got no answer.
    #[error("{method} {url} got no answer: {source}")]
    Request {
        /// Its method.
        method: String,
        /// Its URL.
        url: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A request was answered with something that is not JSON.
    #[error("{url} answered {status} with a body that is not JSON")]
    NotJson {
        /// Its URL.
        url: String,
        /// The status of the answer.
        status: u16,
    },
}
