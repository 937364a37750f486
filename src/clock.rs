//! How long something may be waited for. Wound up lazily: nothing is paid while nothing waits.

use std::{pin::Pin, task::Context};

use tokio::time::{Duration, Instant, Sleep, sleep_until};

/// Runs from the first question after a [`stop`](Self::stop).
#[derive(Debug, Default)]
pub struct Clock {
    since: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    /// Nothing is waited for any more.
    pub fn stop(&mut self) {
        self.since = None;
    }

    /// Whether the wait has lasted for `limit`. If not, the task is woken when it has.
    pub fn runs_out(&mut self, limit: Duration, cx: &mut Context<'_>) -> bool {
        let due = *self.since.get_or_insert_with(Instant::now) + limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if due < sleep.deadline() {
            sleep.as_mut().reset(due);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            // It may have been set for an earlier wait.
            if due <= Instant::now() {
                return true;
            }
            sleep.as_mut().reset(due);
        }
        false
    }
}
