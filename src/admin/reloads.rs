//! The reloads of the configuration, for the status page.

use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::time::Instant;

/// The last reload of the configuration.
#[derive(Debug, Default)]
pub struct Reloads(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    /// The time of the last reload since the start.
    at: Option<Instant>,
    problem: Option<String>,
    needs_restart: Vec<&'static str>,
}

impl Reloads {
    /// Records a reload. The configuration is in force, except for the keys that need a restart, or it was rejected
    /// for a reason.
    pub fn note(&self, outcome: Result<Vec<&'static str>, String>) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.at = Some(Instant::now());
        last.problem = None;
        match outcome {
            Ok(keys) => last.needs_restart = keys,
            Err(problem) => last.problem = Some(problem),
        }
    }

    /// For the status page. The configuration was first read at `started_at`.
    pub(super) fn status(&self, started_at: Instant) -> Value {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "read_at_seconds_ago": last.at.unwrap_or(started_at).elapsed().as_secs_f64(),
            "rejected": last.problem,
            "keys_that_need_a_restart": last.needs_restart,
        })
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
