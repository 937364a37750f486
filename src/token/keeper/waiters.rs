//! Who waits for a fetch: not so many that a slow one takes the room of other accounts' calls.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{Keeper, state::Flight};
use crate::token::{Token, source::TokenError};

/// The calls that wait for a fetch.
#[derive(Debug)]
pub(super) struct Waiters {
    most: AtomicUsize,
    waiting: AtomicUsize,
}

impl Default for Waiters {
    fn default() -> Self {
        Self {
            most: AtomicUsize::new(usize::MAX),
            waiting: AtomicUsize::new(0),
        }
    }
}

impl Waiters {
    /// What `flight` brings. Where too many wait for it already, that is soon an error.
    pub(super) async fn wait(&self, flight: Flight) -> Result<Arc<Token>, TokenError> {
        let place = WaiterGuard::take(self);
        if place.number >= self.most.load(Ordering::Relaxed) {
            return Err(TokenError::Slow);
        }
        flight.await
    }
}

/// A call in the queue.
struct WaiterGuard<'a> {
    queue: &'a Waiters,
    number: usize,
}

impl<'a> WaiterGuard<'a> {
    fn take(queue: &'a Waiters) -> Self {
        let number = queue.waiting.fetch_add(1, Ordering::Relaxed);
        Self { queue, number }
    }
}

impl Drop for WaiterGuard<'_> {
    fn drop(&mut self) {
        self.queue.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<I> Keeper<I> {
    /// From now on at most so many calls wait for a fetch; the others are told to come again.
    pub fn limit_waiters(&self, most: usize) {
        self.waiters.most.store(most, Ordering::Relaxed);
    }
}
