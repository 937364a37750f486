//! The quotas of token requests.

use tokio::time::{Duration, Instant};

/// The limits of one account.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    pub classic_a_day: u32,
    pub stable_a_minute: u32,
    pub stable_a_day: u32,
    pub forced_a_day: u32,
    /// The least time between two forced refreshes. An earlier one returns the current token.
    pub forced_apart: Duration,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            classic_a_day: 2_000,
            stable_a_minute: 10_000,
            stable_a_day: 500_000,
            forced_a_day: 20,
            forced_apart: Duration::from_secs(30),
        }
    }
}

/// A fixed window that begins with its first use.
#[derive(Debug)]
pub(super) struct Quota {
    limit: u32,
    window: Duration,
    since: Option<Instant>,
    used: u32,
}

impl Quota {
    pub(super) fn new(limit: u32, window: Duration) -> Self {
        Self {
            limit,
            window,
            since: None,
            used: 0,
        }
    }

    /// Uses one. Returns false if none is left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now - since >= self.window) {
            (self.since, self.used) = (Some(now), 0);
        }
        let allowed = self.used < self.limit;
        self.used = self.used.saturating_add(1);
        allowed
    }
}

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
