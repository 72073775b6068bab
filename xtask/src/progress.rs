//! What a person sees while a step runs, and what a log gets instead.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A running step: a spinner for a person, nothing for a log.
pub(crate) struct Step {
    name: &'static str,
    began: Instant,
    spinner: Option<ProgressBar>,
}

impl Step {
    /// Begins the `index`-th of `count` steps.
    pub(crate) fn begin(name: &'static str, index: usize, count: usize) -> Self {
        let spinner = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner().with_prefix(format!("[{index}/{count}]")).with_message(name);
            if let Ok(style) = ProgressStyle::with_template("{prefix} {spinner} {msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { name, began: Instant::now(), spinner }
    }

    /// Ends it; `verdict` is one word.
    pub(crate) fn end(self, verdict: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
        eprintln!("{:<8} {:<6} {:>6.1} s", self.name, verdict, self.began.elapsed().as_secs_f64());
    }
}
