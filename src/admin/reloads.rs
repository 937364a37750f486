//! What the status page says of the configuration's readings.

use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::time::Instant;

/// How the configuration was read the last time.
#[derive(Debug, Default)]
pub struct Reloads(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    /// When, if it ever was since the start.
    at: Option<Instant>,
    problem: Option<String>,
    needs_restart: Vec<&'static str>,
}

impl Reloads {
    /// It is in force, but for the keys that need a restart; or it is not, for a reason.
    pub fn note(&self, outcome: Result<Vec<&'static str>, String>) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.at = Some(Instant::now());
        last.problem = None;
        match outcome {
            Ok(keys) => last.needs_restart = keys,
            Err(problem) => last.problem = Some(problem),
        }
    }

    pub(super) fn describe(&self) -> Value {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "read_again_seconds_ago": last.at.map(|at| at.elapsed().as_secs()),
            "last_error": last.problem,
            "keys_that_need_a_restart": last.needs_restart,
        })
    }
}
