//! Limits the calls that wait for a fetch, so that a slow one does not take the places of other accounts' calls.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{Keeper, state::Flight};
use crate::token::{Token, source::TokenError};

/// The calls that wait for a fetch.
#[derive(Debug)]
pub(super) struct Waiters {
    limit: AtomicUsize,
    waiting: AtomicUsize,
}

impl Default for Waiters {
    fn default() -> Self {
        Self {
            limit: AtomicUsize::new(usize::MAX),
            waiting: AtomicUsize::new(0),
        }
    }
}

impl Waiters {
    /// Waits for `flight`. If too many calls are waiting already, it fails at once.
    pub(super) async fn wait(&self, flight: Flight) -> Result<Arc<Token>, TokenError> {
        let guard = WaiterGuard::enter(self);
        if guard.position >= self.limit.load(Ordering::Relaxed) {
            return Err(TokenError::TimedOut);
        }
        flight.await
    }
}

/// Counts a waiting call until it is dropped.
struct WaiterGuard<'a> {
    waiters: &'a Waiters,
    position: usize,
}

impl<'a> WaiterGuard<'a> {
    fn enter(waiters: &'a Waiters) -> Self {
        let position = waiters.waiting.fetch_add(1, Ordering::Relaxed);
        Self { waiters, position }
    }
}

impl Drop for WaiterGuard<'_> {
    fn drop(&mut self) {
        self.waiters.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S> Keeper<S> {
    /// Sets the most calls that may wait for a fetch. Further ones fail, and may retry.
    pub fn limit_waiters(&self, limit: usize) {
        self.waiters.limit.store(limit, Ordering::Relaxed);
    }
}
