//! Who waits for a fetch: not so many that a slow one takes the room of other accounts' calls.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{Keeper, state::Flight};
use crate::{issuer::IssueError, token::Token};

/// The calls that wait for a fetch.
#[derive(Debug)]
pub(super) struct Queue {
    most: AtomicUsize,
    waiting: AtomicUsize,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            most: AtomicUsize::new(usize::MAX),
            waiting: AtomicUsize::new(0),
        }
    }
}

impl Queue {
    /// What `flight` brings. Where too many wait for it already, that is soon an error.
    pub(super) async fn wait(&self, flight: Flight) -> Result<Arc<Token>, IssueError> {
        let place = Place::take(self);
        if place.number >= self.most.load(Ordering::Relaxed) {
            return Err(IssueError::Slow);
        }
        flight.await
    }
}

/// A call in the queue.
struct Place<'a> {
    queue: &'a Queue,
    number: usize,
}

impl<'a> Place<'a> {
    fn take(queue: &'a Queue) -> Self {
        let number = queue.waiting.fetch_add(1, Ordering::Relaxed);
        Self { queue, number }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queue.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<I> Keeper<I> {
    /// From now on at most so many calls wait for a fetch; the others are told to come again.
    pub fn let_wait(&self, most: usize) {
        self.queue.most.store(most, Ordering::Relaxed);
    }
}
