//! All counters, declared once with their help texts. Each thread has its own cells, and the page sums them.

#[macro_use]
mod labels;
#[macro_use]
mod encoder;
mod errcodes;
mod kept;
mod page;
pub mod process;

use std::{
    cell::Cell,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::time::Duration;

use crate::{problems::Problems, wechat::endpoint};

pub use encoder::{CONTENT_TYPE, Encoder, Family};
use errcodes::{Errcodes, OWN_REQUEST};
pub use kept::{Handed, Kept, Ticket};
use kept::{fetches, tickets};
pub use labels::{Cause, Fetched, Outcome, Reload, Selection, Skipped, StoreEvent};
pub use page::{AccountPage, FAMILIES, Page, ProcessPage, TokenPage};

/// How many endpoints get a label of their own. All others share the label `other`.
pub const ENDPOINT_LABELS: usize = 64;

/// The upper bounds of the latency buckets, in seconds.
pub const BUCKETS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Counters of one account, and its problems.
#[derive(Debug)]
pub struct AccountMetrics {
    /// Each counter is an offset into it.
    cells: Block,
    errcodes: Errcodes,
    /// What is wrong.
    pub problems: Problems,
}

mod at {
    use crate::metrics::{
        Cause, ENDPOINT_LABELS, Fetched, Handed, Kept, Outcome, Selection, Skipped, StoreEvent,
        Ticket,
    };

    pub(super) const CALLS: usize = 0;
    pub(super) const REFUSALS: usize = CALLS + (ENDPOINT_LABELS + 1) * Outcome::ALL.len();
    pub(super) const REPLAYS: usize = REFUSALS + 1;
    pub(super) const SKIPPED: usize = REPLAYS + Outcome::ALL.len();
    pub(super) const FETCHES: usize = SKIPPED + Skipped::ALL.len();
    pub(super) const FORCED: usize =
        FETCHES + Kept::ALL.len() * Cause::ALL.len() * Fetched::ALL.len();
    pub(super) const NOT_HELD: usize = FORCED + 1;
    pub(super) const STORE: usize = NOT_HELD + 1;
    pub(super) const TICKETS: usize = STORE + StoreEvent::ALL.len();
    pub(super) const SELECTED: usize = TICKETS + Ticket::ALL.len() * Handed::ALL.len();
    pub(super) const END: usize = SELECTED + Selection::ALL.len();
}

impl Default for AccountMetrics {
    fn default() -> Self {
        Self {
            cells: Block::new(at::END),
            errcodes: Errcodes::default(),
            problems: Problems::default(),
        }
    }
}

impl AccountMetrics {
    /// Those of the account with this id.
    pub fn of(account: &str) -> Self {
        Self {
            problems: Problems::of(account),
            ..Self::default()
        }
    }

    /// A call to the endpoint with label `slot` ended.
    pub fn call(&self, slot: usize, outcome: Outcome) {
        self.cells
            .add(at::CALLS + slot * Outcome::ALL.len() + outcome as usize);
    }

    /// Counts a call whose account was selected.
    pub fn selected(&self, way: Selection) {
        self.cells.add(at::SELECTED + way as usize);
    }

    /// A request of our own, for a token or a ticket, was answered with `code`.
    pub fn errcode(&self, code: i64) {
        self.errcodes.add(OWN_REQUEST, code);
    }

    /// A call to the endpoint with label `slot` was answered with `code`.
    pub fn errcode_of_call(&self, slot: usize, code: i64) {
        self.errcodes.add(slot, code);
    }

    /// Counts a refusal of a token that the sidecar had put in.
    pub fn refusal(&self) {
        self.cells.add(at::REFUSALS);
    }

    /// Counts a replay that ended.
    pub fn replay(&self, outcome: Outcome) {
        self.cells.add(at::REPLAYS + outcome as usize);
    }

    /// Counts a refused call that was not replayed.
    pub fn skipped(&self, reason: Skipped) {
        self.cells.add(at::SKIPPED + reason as usize);
    }

    /// Counts a fetch of a token or a ticket that ended.
    pub fn fetch(&self, kept: Kept, cause: Cause, fetched: Fetched) {
        self.cells.add(fetches(kept, cause, fetched));
    }

    /// Counts a call for a ticket that was answered here.
    pub fn ticket(&self, ticket: Ticket, handed: Handed) {
        self.cells.add(tickets(ticket, handed));
    }

    /// Counts a request for a forced refresh, which is ignored.
    pub fn forced(&self) {
        self.cells.add(at::FORCED);
    }

    /// Counts an event at the store.
    pub fn store(&self, event: StoreEvent) {
        self.cells.add(at::STORE + event as usize);
    }

    /// Counts a call whose body was not buffered.
    pub fn not_held(&self) {
        self.cells.add(at::NOT_HELD);
    }
}

/// Counters of the process.
#[derive(Debug)]
pub struct Metrics {
    labels: Labels,
    latency: Block,
    connects: Block,
    reloads: Block,
    /// Open connections of apps.
    pub app_connections: AtomicI64,
    /// Open connections to WeChat.
    pub upstream_connections: AtomicI64,
    /// The counters of calls that were rejected before their account was known.
    pub nobody: AccountMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            labels: Labels::default(),
            latency: Block::new(BUCKETS.len() + 2),
            connects: Block::new(2),
            reloads: Block::new(Reload::ALL.len()),
            app_connections: AtomicI64::new(0),
            upstream_connections: AtomicI64::new(0),
            nobody: AccountMetrics::default(),
        }
    }
}

impl Metrics {
    /// The label slot of the endpoint at `row` of the table.
    pub fn slot(&self, row: Option<usize>) -> usize {
        row.map_or(ENDPOINT_LABELS, |row| self.labels.slot(row))
    }

    /// Counts the time until the head of a reply arrived, or until the call was given up.
    pub fn latency(&self, after: Duration) {
        let seconds = after.as_secs_f64();
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound);
        self.latency.add(bucket.unwrap_or(BUCKETS.len()));
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.latency.add_many(BUCKETS.len() + 1, micros);
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

/// Counters that every thread writes to in cells of its own.
#[derive(Debug)]
struct Block {
    cells: Box<[Box<[AtomicU64]>]>,
}

/// How many sets of cells there are.
const SHARDS: usize = 8;

/// The first threads have a set each. All others share the remaining sets, which is slower but correct.
const OWN: usize = 4;

impl Block {
    fn new(counters: usize) -> Self {
        let shard = || (0..counters).map(|_| AtomicU64::new(0)).collect();
        let cells = (0..SHARDS).map(|_| shard()).collect();
        Self { cells }
    }

    fn add(&self, at: usize) {
        self.add_many(at, 1);
    }

    fn add_many(&self, at: usize, count: u64) {
        let shard = shard();
        let cell = &self.cells[shard][at];
        if shard < OWN {
            cell.store(cell.load(Ordering::Relaxed) + count, Ordering::Relaxed);
        } else {
            cell.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn sum(&self, at: usize) -> u64 {
        let cells = self.cells.iter();
        cells.map(|shard| shard[at].load(Ordering::Relaxed)).sum()
    }
}

/// The shard of this thread.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static SHARD: Cell<usize> = const { Cell::new(usize::MAX) });
    SHARD.with(|shard| {
        if shard.get() == usize::MAX {
            let at = NEXT.fetch_add(1, Ordering::Relaxed);
            let shared = OWN + at % (SHARDS - OWN);
            shard.set(if at < OWN { at } else { shared });
        }
        shard.get()
    })
}

/// The endpoints that have a label of their own: those that were called first.
#[derive(Debug)]
struct Labels {
    /// The slot of each row of the table.
    slots: Box<[AtomicU8]>,
    /// The row of each slot.
    rows: Mutex<Vec<usize>>,
}

const UNASSIGNED: u8 = u8::MAX;

impl Default for Labels {
    fn default() -> Self {
        Self {
            slots: (0..endpoint::rows())
                .map(|_| AtomicU8::new(UNASSIGNED))
                .collect(),
            rows: Mutex::default(),
        }
    }
}

impl Labels {
    fn slot(&self, row: usize) -> usize {
        match self.slots[row].load(Ordering::Relaxed) {
            UNASSIGNED => self.assign(row),
            slot => slot.into(),
        }
    }

    #[cold]
    fn assign(&self, row: usize) -> usize {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = match rows.iter().position(|known| *known == row) {
            Some(slot) => slot,
            None if rows.len() < ENDPOINT_LABELS => {
                rows.push(row);
                rows.len() - 1
            }
            None => ENDPOINT_LABELS,
        };
        self.slots[row].store(
            u8::try_from(slot).unwrap_or(UNASSIGNED - 1),
            Ordering::Relaxed,
        );
        slot
    }

    fn name(&self, slot: usize) -> &'static str {
        if slot == OWN_REQUEST {
            return "own_request";
        }
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.get(slot).map_or("other", |row| endpoint::label(*row))
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

    #[test]
    fn threads_count_apart_and_are_summed() {
        let block = Block::new(1);
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| (0..20_000).for_each(|_| block.add(0)));
            }
        });
        assert_eq!(block.sum(0), 400_000);
    }
}
