//! A guard that counts down a counter.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts one more on a counter, until this is dropped.
#[derive(Debug)]
pub struct CountGuard<'a>(&'a AtomicUsize);

impl<'a> CountGuard<'a> {
    /// Adds one to `count`.
    pub fn on(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for CountGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
