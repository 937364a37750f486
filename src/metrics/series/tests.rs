//! Random reloads while calls are counted: what the page says of each series.

use std::collections::HashMap;

use proptest::{collection::vec, prelude::*, sample::subsequence};
use tokio::runtime::{Builder, Runtime};

use super::{super::Outcome, *};

/// What may happen between two scrapes.
#[derive(Clone, Debug)]
enum ReloadStep {
    /// The configuration now has these accounts, in this order.
    Reload(Vec<usize>),
    /// Calls of the account end, also if it was removed while they ran.
    Count(usize, u64),
    /// A call of the account begins, and holds it.
    Begin(usize),
    /// The call that began first ends, and counts.
    End,
    Scrape,
}

/// How many accounts there may be.
const IDS: usize = 8;

fn steps() -> impl Strategy<Value = Vec<ReloadStep>> {
    let ids: Vec<usize> = (0..IDS).collect();
    let step = prop_oneof![
        2 => subsequence(ids, 0..=IDS).prop_shuffle().prop_map(ReloadStep::Reload),
        4 => (0..IDS, 1..9_u64).prop_map(|(id, times)| ReloadStep::Count(id, times)),
        1 => (0..IDS).prop_map(ReloadStep::Begin),
        1 => Just(ReloadStep::End),
        3 => Just(ReloadStep::Scrape),
    ];
    vec(step, 1..60)
}

/// A sidecar, and what it should have counted.
struct CountedSidecar {
    most: usize,
    series: AccountSeries,
    /// The served accounts in order. Each has the number of its life, since one may be removed and come back.
    served: Vec<(usize, usize, Arc<AccountMetrics>)>,
    lives: usize,
    calls: Vec<Arc<AccountMetrics>>,
    /// What was counted in `other`.
    other: u64,
    /// Each account that was seen with series of its own, by its life, with the count of the last scrape.
    own: HashMap<usize, u64>,
    runtime: Runtime,
}

impl CountedSidecar {
    fn new(most: usize) -> Self {
        Self {
            most,
            series: AccountSeries::of_first(most),
            served: Vec::new(),
            lives: 0,
            calls: Vec::new(),
            other: 0,
            own: HashMap::new(),
            runtime: Builder::new_current_thread().build().unwrap(),
        }
    }

    fn reload(&mut self, ids: &[usize]) {
        let mut before = std::mem::take(&mut self.served);
        for id in ids {
            let at = before.iter().position(|(old, ..)| old == id);
            let kept = at.map(|at| before.swap_remove(at));
            self.served.push(kept.unwrap_or_else(|| {
                self.lives += 1;
                (*id, self.lives, Arc::default())
            }));
        }
        self.series
            .place(self.served.iter().map(|(.., account)| account));
        let own = self.served.iter().filter(|(.., one)| one.has_own_series());
        assert!(own.count() <= self.most);
        let placed = |(.., one): &(usize, usize, Arc<AccountMetrics>)| {
            one.has_own_series() != one.is_in_other()
        };
        assert!(self.served.iter().all(placed));
    }

    fn count(&mut self, account: &AccountMetrics, times: u64) {
        for _ in 0..times {
            account.call(3, Outcome::Accepted);
            account.errcode_of_call(3, 45009);
        }
        if account.is_in_other() {
            self.other += times;
        }
    }

    fn scrape(&mut self) {
        let cell = at::CALLS + 3 * Outcome::ALL.len() + Outcome::Accepted as usize;
        let sums = self.runtime.block_on(self.series.other());
        let errcodes = |sums: &Sums| sums.errcodes().get(&(3, Some(45009))).copied();
        assert_eq!(sums.as_ref().map_or(0, |sums| sums.cell(cell)), self.other);
        assert_eq!(sums.as_ref().and_then(errcodes).unwrap_or(0), self.other);
        for (_, life, account) in &self.served {
            if account.has_own_series() {
                let before = self.own.insert(*life, account.cells.sum(cell));
                assert!(before.is_none_or(|before| before <= account.cells.sum(cell)));
            } else {
                assert!(!self.own.contains_key(life), "its series ended");
            }
        }
    }

    fn take(&mut self, step: ReloadStep) {
        let served = |world: &Self, id| {
            let mut served = world.served.iter();
            let found = served.find(|(one, ..)| *one == id);
            found.map(|(.., account)| account.clone())
        };
        match step {
            ReloadStep::Reload(ids) => self.reload(&ids),
            ReloadStep::Count(id, times) => {
                if let Some(account) = served(self, id) {
                    self.count(&account, times);
                }
            }
            ReloadStep::Begin(id) => self.calls.extend(served(self, id)),
            ReloadStep::End if self.calls.is_empty() => {}
            ReloadStep::End => {
                let account = self.calls.remove(0);
                self.count(&account, 1);
            }
            ReloadStep::Scrape => self.scrape(),
        }
    }
}

proptest! {
    #[test]
    fn no_series_falls_whatever_the_reloads_do(most in 0..5_usize, steps in steps()) {
        let mut world = CountedSidecar::new(most);
        for step in steps {
            world.take(step);
        }
        world.scrape();
        // What is gone takes no memory but its counts.
        world.reload(&[]);
        world.calls.clear();
        world.scrape();
        prop_assert!(world.series.lock().counting.is_empty());
    }
}

#[test]
fn the_first_of_the_file_have_series_of_their_own_and_keep_them() {
    let accounts: Vec<Arc<AccountMetrics>> = (0..6).map(|_| Arc::default()).collect();
    let series = AccountSeries::of_first(2);
    let own = |at: &[usize]| -> Vec<bool> {
        series.place(at.iter().map(|at| &accounts[*at]));
        at.iter().map(|at| accounts[*at].has_own_series()).collect()
    };
    assert_eq!(own(&[0, 1, 2]), [true, true, false]);
    // One more at the top is one too many, until another is gone.
    assert_eq!(own(&[3, 2, 1, 0]), [false, false, true, true]);
    assert_eq!(own(&[4, 3, 2, 1]), [true, false, false, true]);
    assert_eq!(own(&[3, 2, 1, 5]), [false, false, true, false]);
}
