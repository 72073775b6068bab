//! One real process.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::supervisor::log::{LastLines, pump};
use crate::supervisor::{Client, LogSink, SupervisorError};

/// Time between two looks at something that is awaited.
const POLL: Duration = Duration::from_millis(20);

/// How long the threads of a process may take to stand still.
const PAUSE_WITHIN: Duration = Duration::from_secs(5);

/// What to start, and how it is known.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    /// How the process is named in logs and errors.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments, without `--exit-with-parent`.
    pub args: Vec<OsString>,
    /// Environment variables beyond the parent's.
    pub env: Vec<(OsString, OsString)>,
    /// Where its log goes.
    pub sink: LogSink,
}

/// A running process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: Pid,
    last_lines: LastLines,
    /// Held open: the child ends when it closes.
    _stdin: Option<ChildStdin>,
    tasks: JoinSet<()>,
}

impl Process {
    /// Starts the process. It is not ready yet.
    pub fn start(spec: ProcessSpec) -> Result<Self, SupervisorError> {
        let spawn_error = |source| SupervisorError::Spawn { program: spec.program.clone(), source };
        let mut child = Command::new(&spec.program)
            .args(&spec.args)
            .arg("--exit-with-parent")
            .envs(spec.env.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(spawn_error)?;
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
            .ok_or_else(|| spawn_error(io::ErrorKind::NotFound.into()))?;
        let last_lines = LastLines::default();
        let mut tasks = JoinSet::new();
        if let Some(stderr) = child.stderr.take() {
            tasks.spawn(pump(spec.name.clone(), stderr, spec.sink, last_lines.clone()));
        }
        let stdin = child.stdin.take();
        Ok(Self { name: spec.name, child, pid, last_lines, _stdin: stdin, tasks })
    }

    /// Its process id.
    pub fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// The end of its log.
    pub fn last_lines(&self) -> String {
        self.last_lines.text()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until `base_url` answers `/readyz` with 200.
    ///
    /// # Errors
    /// If the process ends, or is not ready after `within`.
    pub async fn ready(
        &mut self,
        client: &Client,
        base_url: &str,
        within: Duration,
    ) -> Result<(), SupervisorError> {
        let deadline = Instant::now() + within;
        let mut last;
        loop {
            if let Some(status) = self.ended() {
                // The pipe may still hold the reason: it ends when the process has.
                while self.tasks.join_next().await.is_some() {}
                let (name, last_lines) = (self.name.clone(), self.last_lines());
                return Err(SupervisorError::EndedEarly { name, status, last_lines });
            }
            match client.get(&format!("{base_url}/readyz")).await {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(answer) => last = format!(": {}", answer.text()),
                Err(error) => last = format!(": {error}"),
            }
            if Instant::now() >= deadline {
                let name = self.name.clone();
                return Err(SupervisorError::Deadline { name, what: "was not ready", within, last });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Sends SIGKILL and waits until the process is gone.
    pub async fn kill(mut self) -> Result<ExitStatus, SupervisorError> {
        self.signal(Signal::KILL)?;
        self.wait().await
    }

    /// Sends SIGTERM and waits until the process has ended; kills it after `within`.
    pub async fn terminate(mut self, within: Duration) -> Result<ExitStatus, SupervisorError> {
        self.signal(Signal::TERM)?;
        if let Ok(status) = tokio::time::timeout(within, self.wait()).await {
            return status;
        }
        let (name, last) = (self.name.clone(), self.last_lines());
        self.kill().await?;
        Err(SupervisorError::Deadline { name, what: "did not end", within, last })
    }

    /// Stops the process in its tracks (SIGSTOP), and returns when each of its threads stands still: blocks for
    /// about a millisecond.
    pub fn pause(&self) -> Result<(), SupervisorError> {
        self.signal(Signal::STOP)?;
        let deadline = Instant::now() + PAUSE_WITHIN;
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        loop {
            let stopped = waitid(WaitId::Pid(self.pid), options)
                .map_err(|errno| SupervisorError::Signal { name: self.name.clone(), source: errno.into() })?;
            if stopped.is_some() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let (name, last) = (self.name.clone(), String::new());
                return Err(SupervisorError::Deadline {
                    name,
                    what: "did not stop",
                    within: PAUSE_WITHIN,
                    last,
                });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets a paused process go on (SIGCONT).
    pub fn resume(&self) -> Result<(), SupervisorError> {
        self.signal(Signal::CONT)
    }

    /// Sends any signal.
    pub fn signal(&self, signal: Signal) -> Result<(), SupervisorError> {
        // A child that was not waited for keeps its id, so this never reaches another process.
        rustix::process::kill_process(self.pid, signal)
            .map_err(|errno| SupervisorError::Signal { name: self.name.clone(), source: errno.into() })
    }

    /// Waits until the process has ended.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost when the future is dropped.
    pub async fn wait(&mut self) -> Result<ExitStatus, SupervisorError> {
        self.child.wait().await.map_err(|source| SupervisorError::Signal { name: self.name.clone(), source })
    }
}
