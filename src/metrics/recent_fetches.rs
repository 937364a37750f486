//! The last fetches of an account's token.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use tokio::time::Instant;

use super::{Cause, Fetched};

/// How many are kept.
const MOST: usize = 10;

/// A fetch that ended.
#[derive(Clone, Copy, Debug)]
pub struct RecentFetch {
    /// When it ended.
    pub at: Instant,
    /// Why it was made.
    pub cause: Cause,
    /// Its result.
    pub outcome: Fetched,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct RecentFetches(Mutex<VecDeque<RecentFetch>>);

impl RecentFetches {
    pub(super) fn add(&self, cause: Cause, outcome: Fetched) {
        let mut fetches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        fetches.truncate(MOST - 1);
        let at = Instant::now();
        fetches.push_front(RecentFetch { at, cause, outcome });
    }

    /// The newest first.
    pub(super) fn all(&self) -> Vec<RecentFetch> {
        let fetches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        fetches.iter().copied().collect()
    }
}
