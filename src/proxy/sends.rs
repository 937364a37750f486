//! How often a call was sent, and how long WeChat took.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::time::Duration;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Sends {
    count: AtomicU32,
    micros: AtomicU64,
}

impl Sends {
    /// Counts a send.
    pub(super) fn begin(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes back a send of which nothing went out.
    pub(super) fn take_back(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// WeChat took so long until its reply, or until it was given up.
    pub(super) fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// How often the call was sent.
    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// How long WeChat took in all.
    pub(super) fn time(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}
