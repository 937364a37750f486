//! The histogram of the time until WeChat's reply.

use tokio::time::Duration;

use super::block::Block;

/// The upper bounds of the buckets, in seconds.
pub const BUCKETS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// The count of each bucket. The last one has no upper bound.
pub type BucketCounts = [u64; BUCKETS.len() + 1];

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Latency(Block);

/// The cell of the sum, in microseconds.
const SUM: usize = BUCKETS.len() + 1;

impl Default for Latency {
    fn default() -> Self {
        Self(Block::new(SUM + 1))
    }
}

impl Latency {
    /// Counts a time.
    pub(super) fn observe(&self, after: Duration) {
        let seconds = after.as_secs_f64();
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound);
        self.0.add(bucket.unwrap_or(BUCKETS.len()));
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.0.add_many(SUM, micros);
    }

    pub(super) fn counts(&self) -> BucketCounts {
        std::array::from_fn(|at| self.0.sum(at))
    }

    /// The sum of all times, in seconds.
    pub(super) fn sum(&self) -> f64 {
        self.0.sum(SUM) as f64 / 1e6
    }
}
