//! The mesh under test: real processes, a proxy on each link, and what can be done to them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use federation_daemon::supervisor::{Mesh, MeshLinks, MeshLogs, MeshNode, MeshSpec, SupervisorError};

use crate::chaos::proxy::{LinkCounts, LinkMode, Proxy};
use crate::chaos::schedule::{Cut, Schedule, links};

/// A running mesh. Everything it started ends when it is dropped; [`Rig::stop`] also waits for the end.
#[derive(Debug)]
pub struct Rig {
    mesh: Mesh,
    links: Vec<Link>,
}

#[derive(Debug)]
struct Link {
    from: usize,
    to: usize,
    proxy: Proxy,
}

/// How long a node may take to serve clients after its start.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How long a node may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Starts of a node whose port something else holds for a moment.
const START_TRIES: usize = 3;

impl Rig {
    /// Starts the nodes of a schedule in `dir`, each behind its proxies, and waits until they serve clients.
    pub async fn start(program: &Path, dir: PathBuf, schedule: &Schedule) -> Result<Self> {
        let args = vec!["--quorum-timeout-ms".into(), schedule.quorum_timeout_ms.to_string().into()];
        let (program, nodes, logs) = (program.to_owned(), schedule.nodes, MeshLogs::Files);
        let mesh = Mesh::prepare(MeshSpec { program, dir, nodes, args, logs, links: MeshLinks::Tls })?;
        let mut rig = Self { mesh, links: Vec::new() };
        for (from, to) in links(nodes) {
            let target = rig.mesh.node(to)?.peer_address();
            let proxy = Proxy::start(target).await.context("a proxy found no port")?;
            rig.mesh.route(from, to, proxy.address())?;
            rig.links.push(Link { from, to, proxy });
        }
        rig.mesh.start_all(READY_WITHIN).await?;
        Ok(rig)
    }

    /// The base of each node's client URLs.
    pub fn urls(&self) -> Vec<String> {
        self.mesh.nodes().iter().map(MeshNode::url).collect()
    }

    /// Kills a node (SIGKILL) and waits until it is gone.
    pub async fn kill(&mut self, node: usize) -> Result<()> {
        self.mesh.kill(node).await?;
        Ok(())
    }

    /// Starts a killed node on the same directory and waits until it serves clients.
    pub async fn restart(&mut self, node: usize) -> Result<()> {
        let mut tries = 1;
        loop {
            self.mesh.start(node)?;
            match self.mesh.ready(node, READY_WITHIN).await {
                Ok(()) => return Ok(()),
                Err(SupervisorError::EndedEarly { last_lines, .. })
                    if tries < START_TRIES && last_lines.contains("in use") =>
                {
                    tries += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Does to the links what `cuts` says.
    pub fn cut(&self, cuts: &[Cut]) {
        for cut in cuts {
            for link in self.links.iter().filter(|link| link.from == cut.from && link.to == cut.to) {
                link.proxy.set(cut.mode);
            }
        }
    }

    /// Opens all links.
    pub fn heal_links(&self) {
        for link in &self.links {
            link.proxy.set(LinkMode::Open);
        }
    }

    /// What all links did so far.
    pub fn link_counts(&self) -> LinkCounts {
        self.links.iter().map(|link| link.proxy.counts()).fold(LinkCounts::default(), |sum, link| {
            LinkCounts {
                connections: sum.connections + link.connections,
                held: sum.held + link.held,
                resets: sum.resets + link.resets,
            }
        })
    }

    /// A node that has ended although nobody ended it.
    pub async fn ended_by_itself(&mut self) -> Option<String> {
        let (node, status) = tokio::time::timeout(Duration::ZERO, self.mesh.any_ended()).await.ok()?;
        Some(format!("{node} ended with {status}"))
    }

    /// Stops all nodes in order, and waits until they are gone.
    ///
    /// # Errors
    /// If a node had to be killed.
    pub async fn stop(mut self) -> Result<()> {
        self.heal_links();
        Ok(self.mesh.stop_all(STOP_WITHIN).await?)
    }

    /// Kills all nodes and waits until they are gone.
    pub async fn kill_all(mut self) {
        for node in 0..self.mesh.nodes().len() {
            // One that does not run cannot be killed, and need not.
            let _ = self.mesh.kill(node).await;
        }
    }
}
