//! Where the lines of a process's log go.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, BufReader};

/// Lines kept for error messages.
const LINES_KEPT: usize = 40;
/// Bytes of one line beyond which it is cut in two: a process that never ends a line must not fill the memory.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Where the lines of a process's log go.
#[derive(Clone, Debug)]
pub enum LogSink {
    /// To this process's standard error, each line with the node's name before it.
    Prefixed,
    /// Appended to a file.
    File(PathBuf),
    /// Nowhere; only the last lines are kept for error messages.
    Kept,
}

/// The end of a process's log.
#[derive(Clone, Debug, Default)]
pub struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    /// The last lines, oldest first, each indented and ended.
    pub fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().flat_map(|line| ["    ", line, "\n"]).collect()
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// Reads `output` line by line until it ends. What cannot be written is dropped: a log must not stop a node.
pub(super) async fn pump(name: String, output: impl AsyncRead + Unpin, sink: LogSink, last: LastLines) {
    let mut reader = BufReader::new(output);
    let mut file = match &sink {
        LogSink::File(path) => File::options().create(true).append(true).open(path).ok(),
        LogSink::Prefixed | LogSink::Kept => None,
    };
    let mut line = Vec::new();
    while let Ok(Some(())) = read_line(&mut reader, &mut line).await {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        if let Some(file) = &mut file {
            let _ = writeln!(file, "{text}");
        }
        if matches!(sink, LogSink::Prefixed) {
            let _ = writeln!(std::io::stderr(), "{name:>8} | {text}");
        }
        last.push(text);
    }
}

/// Appends up to and with the next line end, at most [`LINE_BYTES_MAX`] bytes; none at the end of the input.
async fn read_line(
    reader: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> std::io::Result<Option<()>> {
    while line.len() < LINE_BYTES_MAX {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok((!line.is_empty()).then_some(()));
        }
        let room = LINE_BYTES_MAX - line.len();
        let end = available.iter().take(room).position(|byte| *byte == b'\n').map(|at| at + 1);
        let taken = end.unwrap_or(available.len().min(room));
        line.extend(available.iter().take(taken));
        reader.consume(taken);
        if end.is_some() {
            break;
        }
    }
    Ok(Some(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_the_last_lines_and_cuts_endless_ones() {
        let last = LastLines::default();
        let mut input = (0..100).map(|i| format!("line {i}")).collect::<Vec<_>>().join("\n") + "\n";
        input.push_str(&"x".repeat(LINE_BYTES_MAX * 2));
        pump("n".to_owned(), input.as_bytes(), LogSink::Kept, last.clone()).await;
        let text = last.text();
        assert!(text.contains("line 99\n"), "{text}");
        assert!(!text.contains("line 1\n"), "only the last {LINES_KEPT} are kept");
        assert!(text.lines().all(|line| line.len() <= LINE_BYTES_MAX + 16));
    }
}
