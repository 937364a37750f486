//! The histogram of the time until WeChat's reply.

use tokio::time::Duration;

use super::block::Block;

/// The upper bounds of the buckets, in seconds.
pub const BUCKETS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// The count of each bucket. The last one has no upper bound.
pub type BucketCounts = [u64; BUCKETS.len() + 1];

/// The cell of the sum, in microseconds.
const SUM: usize = BUCKETS.len() + 1;

/// How many cells a histogram takes.
pub(super) const CELLS: usize = SUM + 1;

/// Counts a time in the histogram that begins at `at`.
pub(super) fn observe(cells: &Block, at: usize, after: Duration) {
    let seconds = after.as_secs_f64();
    let bucket = BUCKETS.iter().position(|bound| seconds <= *bound);
    cells.add(at + bucket.unwrap_or(BUCKETS.len()));
    let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
    cells.add_many(at + SUM, micros);
}

/// The count of each bucket of the histogram that begins at `at`.
pub(super) fn counts(cells: &Block, at: usize) -> BucketCounts {
    std::array::from_fn(|bucket| cells.sum(at + bucket))
}

/// The sum of all times in the histogram that begins at `at`, in seconds.
pub(super) fn sum(cells: &Block, at: usize) -> f64 {
    cells.sum(at + SUM) as f64 / 1e6
}
