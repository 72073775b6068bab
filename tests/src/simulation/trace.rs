//! What happened in a run, in order: the same for the same schedule, byte for byte.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// The trace of a run. Clones share it.
#[derive(Clone, Debug)]
pub struct Trace {
    started: Instant,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    digest: u64,
    lines: Option<Vec<String>>,
}

/// How much of a trace is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracing {
    /// A number that is equal for equal traces.
    #[default]
    Digest,
    /// Every line, too.
    Lines,
}

impl Trace {
    /// A trace that begins now.
    pub fn new(tracing: Tracing) -> Self {
        let lines = (tracing == Tracing::Lines).then(Vec::new);
        Self { started: Instant::now(), inner: Arc::new(Mutex::new(Inner { digest: OFFSET_BASIS, lines })) }
    }

    /// Adds a line.
    pub fn say(&self, what: impl FnOnce() -> String) {
        let at = self.started.elapsed();
        let line = format!("{}.{:06} {}", at.as_secs(), at.subsec_micros(), what());
        let mut inner = self.lock();
        for byte in line.bytes().chain([0]) {
            inner.digest = (inner.digest ^ u64::from(byte)).wrapping_mul(PRIME);
        }
        if let Some(lines) = &mut inner.lines {
            lines.push(line);
        }
    }

    /// Equal for equal traces: FNV-1a.
    pub fn digest(&self) -> u64 {
        self.lock().digest
    }

    /// The lines so far; none if they are not kept.
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;
