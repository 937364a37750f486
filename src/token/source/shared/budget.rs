//! Limits fetches while the store is unavailable, so that an outage cannot use up the day's quota.
//!
//! Each fetch of a classic token revokes the tokens of all other replicas, and all share the day's quota. So
//! the more replicas there are, the fewer of them may fetch. That loses nothing, because at most the last two
//! fetched tokens work anyway.

use std::collections::VecDeque;

use tokio::time::{Duration, Instant};

/// The number of replicas that is assumed if the store was never available.
const ASSUMED_REPLICAS: u32 = 100;

/// How many of all replicas may fetch, on average.
const MAX_FETCHERS: u32 = 3;

/// The most fetches of one replica in a day, and in three hours.
const MAX_PER_DAY: usize = 24;
const MAX_BURST: usize = 3;

const BURST_TIME: Duration = Duration::from_secs(3 * 3600);
const DAY: Duration = Duration::from_secs(86_400);

/// The budget for fetches without the store.
#[derive(Debug)]
pub(super) struct Budget {
    /// The times of the last fetches.
    spent: VecDeque<Instant>,
    /// A random number that decides whether this replica may fetch, and when it was drawn.
    draw: f64,
    drawn_at: Instant,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            spent: VecDeque::new(),
            draw: fastrand::f64(),
            drawn_at: Instant::now(),
        }
    }
}

impl Budget {
    /// Takes one fetch from the budget, if it allows one. All replicas together may make `daily` fetches a day.
    /// `refused` says whether a token that has not expired was refused.
    pub(super) fn spend(&mut self, daily: u32, replicas: Option<u32>, refused: bool) -> bool {
        if self.drawn_at.elapsed() >= DAY {
            (self.draw, self.drawn_at) = (fastrand::f64(), Instant::now());
        }
        let share = match replicas {
            Some(replicas) if self.draw * f64::from(replicas) >= f64::from(MAX_FETCHERS) => {
                return false;
            }
            Some(replicas) => daily / replicas.clamp(1, MAX_FETCHERS),
            // A refused token means that another replica fetched, so there are several.
            None if refused && !self.spent.is_empty() => return false,
            None => daily / ASSUMED_REPLICAS,
        };
        let share = (share as usize).clamp(1, MAX_PER_DAY);
        self.spent.retain(|at| at.elapsed() < DAY);
        let lately = self.spent.iter().filter(|at| at.elapsed() < BURST_TIME);
        let allowed = self.spent.len() < share && lately.count() < MAX_BURST;
        if allowed {
            self.spent.push_back(Instant::now());
        }
        allowed
    }

    /// Returns the last fetch to the budget, because it failed.
    pub(super) fn refund(&mut self) {
        self.spent.pop_back();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// The fetches of `replicas` in a day, each of which tries every minute.
    async fn spent_in_a_day(daily: u32, replicas: u32, known: bool) -> u32 {
        let mut budgets: Vec<_> = (0..replicas).map(|_| Budget::default()).collect();
        let mut spent = 0;
        for _ in 0..24 * 60 {
            for budget in &mut budgets {
                let known = known.then_some(replicas);
                spent += u32::from(budget.spend(daily, known, spent > 0));
            }
            advance(Duration::from_secs(60)).await;
        }
        spent
    }

    #[tokio::test(start_paused = true)]
    async fn all_replicas_together_stay_far_below_the_quota_of_2000_a_day() {
        fastrand::seed(7);
        assert_eq!(spent_in_a_day(200, 1, true).await, 24);
        for replicas in [2, 3, 10, 50, 100, 200, 500, 1000] {
            let spent = spent_in_a_day(200, replicas, true).await;
            assert!(spent <= 300, "{replicas} replicas made {spent}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_that_have_never_heard_of_each_other_each_may_fetch_and_not_be_refused() {
        assert_eq!(spent_in_a_day(200, 1000, false).await, 1000);
        let mut budget = Budget::default();
        assert!(budget.spend(200, None, false) && budget.spend(200, None, false));
        assert!(!budget.spend(200, None, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_may_follow_closely_and_what_brought_nothing_is_given_back() {
        let mut budget = Budget::default();
        for allowed in [true, true, true, false] {
            assert_eq!(budget.spend(200, Some(2), true), allowed);
        }
        budget.refund();
        assert!(budget.spend(200, Some(2), true));
        assert!(!budget.spend(200, Some(2), true));
    }
}
