//! `federationd demo`: the main story, played on real processes, each step held against the nodes' own answers.

mod story;

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use crate::supervisor::mesh::MeshLogs;
use crate::supervisor::{Mesh, MeshLinks, MeshSpec, SupervisorError};

/// How long the nodes may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// Why the demo is not as told.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A node could not be started, stopped or asked.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    /// No temporary directory, or the path of this program is not known.
    #[error("{what}")]
    System {
        /// What could not be had.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A node's answer is not as told.
    #[error("{node} {what}: expected {expected}, found {found}")]
    NotAsTold {
        /// The node.
        node: String,
        /// What was looked at, as in "answers the delete of x".
        what: String,
        /// What the story says.
        expected: String,
        /// What the node says.
        found: String,
    },
    /// The sample that was built in is broken.
    #[error("line {line} of the sample is not JSON")]
    Sample {
        /// The line, from 1.
        line: usize,
    },
}

/// Plays the story in a temporary directory.
pub async fn run() -> Result<(), DemoError> {
    let system = |what| move |source| DemoError::System { what, source };
    let program = std::env::current_exe().map_err(system("the path of this program is not known"))?;
    let dir = tempfile::tempdir().map_err(system("no temporary directory could be made"))?;
    let begun = Instant::now();
    let mesh = Mesh::prepare(MeshSpec {
        program,
        dir: dir.path().to_owned(),
        nodes: 3,
        args: Vec::new(),
        logs: MeshLogs::Files,
        links: MeshLinks::Tls,
    })?;
    println!("Three nodes, one quorum: every write is on two of three disks before it is answered.\n");
    story::Story::new(mesh)?.play().await?;
    println!("\nAll as told, in {:.1} s.", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Prints the steps, numbered and timed.
#[derive(Debug, Default)]
struct Narrator {
    step: usize,
}

impl Narrator {
    fn done(&mut self, begun: Instant, said: impl fmt::Display) {
        self.step += 1;
        println!("  {:>2}. {said}  ({} ms)", self.step, begun.elapsed().as_millis());
    }
}

/// Prints what belongs to the step above.
fn detail(said: impl fmt::Display) {
    println!("      {said}");
}
