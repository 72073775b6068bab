//! Requests to stop, SIGTERM and SIGINT, and to take in changed settings, SIGHUP.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens for requests to reload. From then on they no longer end the process.
#[derive(Debug)]
pub struct Hangup(Signal);

impl Hangup {
    /// Starts listening. Must be called within a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// Resolves at the next request to reload.
    ///
    /// # Cancel safety
    /// Safe: a request that comes while nobody waits is seen by the next wait.
    pub async fn requested(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Listens for requests to stop. From then on they no longer end the process by themselves.
#[derive(Debug)]
pub struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Starts listening. Must be called within a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Resolves at the next request to stop.
    ///
    /// # Cancel safety
    /// Safe: a request that comes while nobody waits is seen by the next wait.
    pub async fn requested(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
