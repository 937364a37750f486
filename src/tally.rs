//! A count that goes down by itself.

use std::sync::atomic::{AtomicUsize, Ordering};

/// One more on a count, until dropped.
#[derive(Debug)]
pub struct OneMore<'a>(&'a AtomicUsize);

impl<'a> OneMore<'a> {
    /// Counts itself on `count`.
    pub fn on(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for OneMore<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
