//! Which accounts have series of their own. All others are summed as `other`, in counters that never fall.
//!
//! An account is placed once, when it is first served, and stays where it is as long as it exists. So no reload moves
//! what was counted from one series to another. What accounts in `other` counted is kept when they are gone.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use tokio::task::yield_now;

use super::{AccountMetrics, at};

/// How many accounts have series of their own, where nobody says how many.
const MOST: usize = 200;

/// How many accounts are added up at once, before others have their turn on the runtime.
pub const AT_ONCE: usize = 128;

/// The place of an account.
#[derive(Debug, Default)]
pub(super) struct SeriesPlace(OnceLock<bool>);

impl SeriesPlace {
    /// Whether it has series of its own; `None` before it is placed.
    fn is_own(&self) -> Option<bool> {
        self.0.get().copied()
    }
}

/// Which accounts have series of their own, and what all others have counted.
#[derive(Debug)]
pub struct AccountSeries {
    /// The most accounts with series of their own.
    most: usize,
    others: Mutex<Others>,
}

/// What is summed as `other`.
#[derive(Debug, Default)]
struct Others {
    /// The accounts in it, also removed ones as long as a call may still count there.
    counting: Vec<Arc<AccountMetrics>>,
    /// What those counted that are gone.
    gone: Sums,
}

/// The counters of several accounts, added up.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    /// Empty while nothing was added.
    cells: Vec<u64>,
    errcodes: BTreeMap<(usize, Option<i64>), u64>,
}

impl Default for AccountSeries {
    fn default() -> Self {
        Self::of_first(MOST)
    }
}

impl AccountSeries {
    /// At most `most` accounts have series of their own.
    pub(super) fn of_first(most: usize) -> Self {
        Self {
            most,
            others: Mutex::default(),
        }
    }

    /// Places those of `accounts` that are new. To be called with all accounts in the order of the configuration,
    /// before they are served. The first ones get series of their own, as long as there are not too many of these.
    pub fn place<'a>(&self, accounts: impl Iterator<Item = &'a Arc<AccountMetrics>> + Clone) {
        let is_own = |account: &&Arc<AccountMetrics>| account.has_own_series();
        let mut own = accounts.clone().filter(is_own).count();
        let mut others = self.lock();
        for (at, account) in accounts.enumerate() {
            let gets_own = at < self.most && own < self.most;
            // Placed before, or this very moment by somebody else.
            if account.place.0.set(gets_own).is_err() {
                continue;
            }
            match gets_own {
                true => own += 1,
                false => {
                    account.cells.share();
                    others.counting.push(account.clone());
                }
            }
        }
        others.sweep();
    }

    /// What all accounts in `other` have counted since the start, with those that are gone. `None` if there never was
    /// one. Other tasks have their turn in between.
    pub async fn other(&self) -> Option<Sums> {
        let (mut sums, counting) = {
            let mut others = self.lock();
            others.sweep();
            // Whoever sweeps in the meantime finds these in use.
            (others.gone.clone(), others.counting.clone())
        };
        for some in counting.chunks(AT_ONCE) {
            some.iter().for_each(|account| sums.add(account));
            yield_now().await;
        }
        (!sums.cells.is_empty()).then_some(sums)
    }

    fn lock(&self) -> MutexGuard<'_, Others> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccountMetrics {
    /// Whether its series are its own.
    pub fn has_own_series(&self) -> bool {
        self.place.is_own() == Some(true)
    }

    /// Whether it is summed as `other`.
    pub fn is_in_other(&self) -> bool {
        self.place.is_own() == Some(false)
    }
}

impl Others {
    /// Keeps the counts of accounts that nobody can count for any more, and drops the rest of them.
    fn sweep(&mut self) {
        let gone = &mut self.gone;
        self.counting.retain_mut(|account| {
            let last = Arc::get_mut(account);
            if let Some(account) = &last {
                gone.add(account);
            }
            last.is_none()
        });
    }
}

impl Sums {
    fn add(&mut self, account: &AccountMetrics) {
        self.cells.resize(at::END, 0);
        account.cells.add_to(&mut self.cells);
        account.errcodes.add_to(&mut self.errcodes);
    }

    pub(super) fn cell(&self, at: usize) -> u64 {
        self.cells.get(at).copied().unwrap_or_default()
    }

    pub(super) fn errcodes(&self) -> BTreeMap<(usize, Option<i64>), u64> {
        self.errcodes.clone()
    }
}

#[cfg(test)]
mod tests;
