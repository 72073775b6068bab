//! `federationd dev`: a mesh of real processes on loopback, for trying things out.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::signal;
use crate::supervisor::mesh::MeshLogs;
use crate::supervisor::{Mesh, MeshLinks, MeshSpec, SupervisorError};

/// How long the nodes may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long a node may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Options of `dev`.
#[derive(Clone, Debug, clap::Args)]
pub struct DevArgs {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub nodes: u8,
    /// Directory of keys, enrolments and data; kept, and continued next time. Without it: a temporary one.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Nodes that must hold a write before it is answered 201: one, majority, all, or a number.
    #[arg(long, default_value = "majority")]
    pub quorum_writes: String,
}

/// Why `dev` ended other than by Ctrl-C.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The mesh did not do what it was asked.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    /// No temporary directory, or no signals.
    #[error("{what}")]
    System {
        /// What could not be had.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A node ended by itself.
    #[error("{node} ended by itself with {status}: its last lines are above")]
    NodeEnded {
        /// The node.
        node: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
}

/// Runs until Ctrl-C, or until a node ends by itself.
pub async fn run(args: DevArgs) -> Result<(), DevError> {
    let system = |what| move |source| DevError::System { what, source };
    let program = std::env::current_exe().map_err(system("the path of this program is not known"))?;
    let temporary = match &args.dir {
        Some(_) => None,
        None => Some(tempfile::tempdir().map_err(system("no temporary directory could be made"))?),
    };
    let dir = match (&args.dir, &temporary) {
        (Some(dir), _) => dir.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => PathBuf::new(),
    };
    let mut stop = signal::Stop::listen().map_err(system("signals cannot be received"))?;
    let mut mesh = Mesh::prepare(MeshSpec {
        program,
        dir: dir.clone(),
        nodes: usize::from(args.nodes),
        args: vec!["--quorum-writes".into(), args.quorum_writes.into()],
        logs: MeshLogs::Prefixed,
        links: MeshLinks::Tls,
    })?;
    let ended = tokio::select! {
        biased;
        () = stop.requested() => None,
        ended = serve_all(&mut mesh, &dir, args.dir.is_some()) => Some(ended?),
    };
    println!("\nstopping ...");
    // A second Ctrl-C drops the mesh, which kills what still runs.
    tokio::select! {
        biased;
        stopped = mesh.stop_all(STOP_WITHIN) => stopped?,
        () = stop.requested() => {}
    }
    match ended {
        None => {
            println!("stopped");
            Ok(())
        }
        Some(ended) => Err(ended),
    }
}

/// Starts all nodes and returns when one of them has ended by itself.
async fn serve_all(mesh: &mut Mesh, dir: &Path, kept: bool) -> Result<DevError, DevError> {
    mesh.start_all(READY_WITHIN).await?;
    print_welcome(mesh, dir, kept);
    let (node, status) = mesh.any_ended().await;
    Ok(DevError::NodeEnded { node: node.to_string(), status })
}

fn print_welcome(mesh: &Mesh, dir: &Path, kept: bool) {
    let urls: Vec<_> = mesh.nodes().iter().map(|node| (node.id().to_string(), node.url())).collect();
    println!("\n{} nodes are ready:\n", urls.len());
    for (id, url) in &urls {
        println!("  {id:<8} {url}");
    }
    let (Some((_, first)), Some((last_id, last))) = (urls.first(), urls.last()) else { return };
    println!("\nTry:\n");
    println!(
        "  curl -s {first}/api/v1/memories -H 'content-type: application/json' \\\n    \
         -d '{{\"id\":\"hello\",\"namespace\":\"try\",\"title\":\"Hello\",\"content\":\"A first memory.\"}}'"
    );
    println!("  curl -s {last}/api/v1/memories/hello        # written above, read at {last_id}");
    println!("  curl -s '{first}/api/v1/status?hash=true'");
    println!(
        "\nWhoever is on this machine may do everything here; `federationd token create` begins to tell clients apart."
    );
    if kept {
        println!("\nEverything is in {}; the same command goes on there. Ctrl-C stops.\n", dir.display());
    } else {
        println!("\nEverything is in {} and goes with Ctrl-C; --dir D keeps it.\n", dir.display());
    }
}
