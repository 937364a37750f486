//! How much of a large body has passed, and how fast, on a terminal.

use std::io::{self, IsTerminal, Write};

use bytesize::ByteSize;
use tokio::time::{Duration, Instant};

/// A body that is smaller passes too soon to be looked at.
const LARGE: u64 = 1 << 20;

/// How often the line is written.
const PACE: Duration = Duration::from_millis(200);

/// The progress of one body, as a line on stderr that is written over and over.
#[derive(Debug)]
pub(super) struct Progress {
    /// What happens to its bytes.
    word: &'static str,
    total: Option<u64>,
    done: u64,
    began: Instant,
    shown: Option<Instant>,
    is_wanted: bool,
}

impl Progress {
    /// The progress of a body of `total` bytes. Nothing is shown unless stderr is a terminal.
    pub(super) fn new(word: &'static str, total: Option<u64>) -> Self {
        Self {
            word,
            total,
            done: 0,
            began: Instant::now(),
            shown: None,
            is_wanted: total.is_none_or(|total| total > LARGE) && io::stderr().is_terminal(),
        }
    }

    /// Shows nothing.
    pub(super) fn hide(&mut self) {
        self.is_wanted = false;
    }

    /// `bytes` more have passed.
    pub(super) fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        let is_due = self.shown.is_none_or(|shown| shown.elapsed() >= PACE);
        if self.is_wanted && is_due && (self.total.is_some() || self.done > LARGE) {
            self.shown = Some(Instant::now());
            let _ = write!(io::stderr(), "\r{}\x1b[K", self.line());
        }
    }

    /// All bytes have passed, or no more will.
    pub(super) fn finish(&mut self) {
        if self.shown.take().is_some() {
            let _ = writeln!(io::stderr(), "\r{}\x1b[K", self.line());
        }
        self.is_wanted = false;
    }

    fn line(&self) -> String {
        let size = |bytes| ByteSize::b(bytes).display().iec().to_string();
        let seconds = self.began.elapsed().as_secs_f64();
        let rate = size((self.done as f64 / seconds.max(0.001)) as u64);
        let (word, done) = (self.word, size(self.done));
        match self.total.filter(|total| *total > self.done) {
            Some(total) => format!("{word} {done} of {}, {rate}/s", size(total)),
            None => format!("{word} {done} in {seconds:.1} s, {rate}/s"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}
