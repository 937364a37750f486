//! All counters, declared once with their help texts. Each thread has its own cells, and the page sums them.

#[macro_use]
mod labels;
#[macro_use]
mod encoder;
mod account;
mod account_page;
mod at;
mod block;
mod endpoint_labels;
mod errcodes;
mod history;
mod kept;
mod latency;
mod page;
pub mod process;
mod quotas;
mod recent_fetches;
mod series;

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use tokio::time::{Duration, Instant};

use crate::problems::Notices;
pub use account::AccountMetrics;
pub use account_page::{AccountGauges, AccountPage};
use block::Block;
pub use encoder::{CONTENT_TYPE, Encoder, Family};
use endpoint_labels::EndpointLabels;
pub use history::{LastHour, Tally};
pub use kept::{Handed, Kept, Ticket};
pub use labels::{Cause, Fetched, Outcome, Paced, Reload, Selection, Skipped, StoreEvent};
pub use latency::{BUCKETS, BucketCounts};
pub use page::{AccountTotals, FAMILIES, Page, ProcessPage};
pub use quotas::{CallRate, EndpointQuota, QuotaHit, QuotaReading, Quotas};
pub use recent_fetches::RecentFetch;
pub use series::{AT_ONCE, AccountSeries, Sums};

/// How many endpoints get a label of their own. All others share the label `other`.
pub const ENDPOINT_LABELS: usize = 64;

/// Counters of the process.
#[derive(Debug)]
pub struct Metrics {
    started_at: Instant,
    /// For how long the machine was suspended since, in milliseconds. tokio's clock stands still then.
    suspended: AtomicU64,
    labels: EndpointLabels,
    latency: Block,
    connects: Block,
    reloads: Block,
    /// Open connections of apps.
    pub app_connections: AtomicI64,
    /// Open connections to WeChat.
    pub upstream_connections: AtomicI64,
    /// The counters of calls that were rejected before their account was known.
    pub nobody: AccountMetrics,
    /// Tells the log of the accounts' problems.
    pub notices: Arc<Notices>,
    /// Which accounts have series of their own.
    pub series: AccountSeries,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            started_at: Instant::now(),
            suspended: AtomicU64::new(0),
            labels: EndpointLabels::default(),
            latency: Block::new(latency::CELLS),
            connects: Block::new(2),
            reloads: Block::new(Reload::ALL.len()),
            app_connections: AtomicI64::new(0),
            upstream_connections: AtomicI64::new(0),
            nobody: AccountMetrics::default(),
            notices: Arc::default(),
            series: AccountSeries::default(),
        }
    }
}

impl Metrics {
    /// The first `accounts` have series of their own.
    pub fn of_first(accounts: usize) -> Self {
        Self {
            series: AccountSeries::of_first(accounts),
            ..Self::default()
        }
    }

    /// The label slot of the endpoint at `row` of the table.
    pub fn slot(&self, row: Option<usize>) -> usize {
        row.map_or(ENDPOINT_LABELS, |row| self.labels.slot(row))
    }

    /// The labels of the endpoints that calls of `account` went to, as far as they have labels of their own.
    pub fn called(&self, account: &AccountMetrics) -> Vec<&'static str> {
        let slots = (0..ENDPOINT_LABELS).filter(|slot| account.has_called(*slot));
        slots.map(|slot| self.labels.name(slot)).collect()
    }

    /// Counts the time until the head of a reply arrived, or until the call was given up.
    pub fn latency(&self, after: Duration) {
        latency::observe(&self.latency, 0, after);
    }

    /// The time since the start, suspensions included.
    pub fn uptime(&self) -> Duration {
        let suspended = Duration::from_millis(self.suspended.load(Ordering::Relaxed));
        self.started_at.elapsed() + suspended
    }

    /// Counts that the machine was suspended for `time`.
    pub fn suspended(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.suspended.fetch_add(millis, Ordering::Relaxed);
    }

    /// The number of the current minute, for the history.
    pub fn minute(&self) -> u64 {
        self.uptime().as_secs() / 60
    }

    /// Counts a reload of the configuration.
    pub fn reload(&self, outcome: Reload) {
        self.reloads.add(outcome as usize);
    }

    /// Counts an attempt to open a connection to WeChat.
    pub fn connect(&self, made: bool) {
        self.connects.add(usize::from(made));
    }
}

/// A gauge that is counted down when this is dropped.
#[derive(Debug)]
pub struct GaugeGuard<T: AsRef<Metrics>> {
    metrics: T,
    gauge: fn(&Metrics) -> &AtomicI64,
}

impl<T: AsRef<Metrics>> GaugeGuard<T> {
    /// Adds one to `gauge` until this is dropped.
    pub fn new(metrics: T, gauge: fn(&Metrics) -> &AtomicI64) -> Self {
        gauge(metrics.as_ref()).fetch_add(1, Ordering::Relaxed);
        Self { metrics, gauge }
    }
}

impl<T: AsRef<Metrics>> Drop for GaugeGuard<T> {
    fn drop(&mut self) {
        (self.gauge)(self.metrics.as_ref()).fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_beyond_the_first_64_share_a_label() {
        let metrics = Metrics::default();
        let slots: Vec<_> = (0..100).map(|row| metrics.slot(Some(row))).collect();
        assert_eq!(slots[..64], (0..64).collect::<Vec<_>>()[..]);
        assert!(slots[64..].iter().all(|slot| *slot == ENDPOINT_LABELS));
        assert_eq!(metrics.slot(None), ENDPOINT_LABELS);
        assert_eq!(metrics.slot(Some(3)), 3);
        assert_eq!(metrics.labels.name(ENDPOINT_LABELS), "other");
    }
}
