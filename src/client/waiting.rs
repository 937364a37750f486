//! The wait for the head of a reply, which is counted however it ends.

use tokio::time::{Duration, Instant};

use crate::metrics::Metrics;

/// How a wait ended, after this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The head of the reply arrived, or the sidecar gave the call up.
    Ended(Duration),
    /// The app went away.
    Abandoned(Duration),
}

/// A wait for a reply, which is counted at its end.
pub(super) struct Waiting<'a, F: FnOnce(Waited)> {
    began: Instant,
    metrics: &'a Metrics,
    /// `None` if it is not counted.
    observe: Option<F>,
    abandoned: bool,
}

impl<'a, F: FnOnce(Waited)> Waiting<'a, F> {
    /// A wait that begins now. `observe` is told how it ended.
    pub(super) fn new(metrics: &'a Metrics, observe: F) -> Self {
        Self {
            began: Instant::now(),
            metrics,
            observe: Some(observe),
            abandoned: true,
        }
    }

    /// Ends the wait. It does not count if it says nothing of how long WeChat takes, as where a connection broke.
    pub(super) fn end(mut self, counts: bool) {
        self.abandoned = false;
        if !counts {
            self.observe = None;
        }
    }
}

impl<F: FnOnce(Waited)> Drop for Waiting<'_, F> {
    fn drop(&mut self) {
        let Some(observe) = self.observe.take() else {
            return;
        };
        let after = self.began.elapsed();
        self.metrics.latency(after);
        observe(match self.abandoned {
            true => Waited::Abandoned(after),
            false => Waited::Ended(after),
        });
    }
}
