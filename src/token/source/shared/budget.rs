//! How many tokens may be fetched while the store is away, so that an outage cannot burn the quota.
//!
//! Each fetch of a classic token ends that of all other replicas, and the day's quota is everybody's:
//! so the more replicas there are, the fewer may fetch. Nothing is lost by that: however many do, no
//! more than the last two of their tokens work.

use std::collections::VecDeque;

use tokio::time::{Duration, Instant};

/// How many replicas there are, as long as the store has never said so.
const UNKNOWN: u32 = 100;

/// How many of all replicas may fetch, on average.
const FEW: u32 = 3;

/// The most that one may make in a day, and in three hours.
const EACH: usize = 24;
const BURST: usize = 3;

const BURST_TIME: Duration = Duration::from_secs(3 * 3600);
const DAY: Duration = Duration::from_secs(86_400);

/// When the last fetches without the store were made.
#[derive(Debug)]
pub(super) struct Budget {
    spent: VecDeque<Instant>,
    /// What decides whether this replica is one of the few, and when it was drawn.
    lot: f64,
    drawn_at: Instant,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            spent: VecDeque::new(),
            lot: fastrand::f64(),
            drawn_at: Instant::now(),
        }
    }
}

impl Budget {
    /// Spends one, if there is one left. `daily`: what all replicas together may make in a day.
    /// `refused`: a living token was.
    pub(super) fn spend(&mut self, daily: u32, replicas: Option<u32>, refused: bool) -> bool {
        if self.drawn_at.elapsed() >= DAY {
            (self.lot, self.drawn_at) = (fastrand::f64(), Instant::now());
        }
        let share = match replicas {
            Some(replicas) if self.lot * f64::from(replicas) >= f64::from(FEW) => return false,
            Some(replicas) => daily / replicas.clamp(1, FEW),
            // What was fetched here was ended by others who do the same: there are many of them.
            None if refused && !self.spent.is_empty() => return false,
            None => daily / UNKNOWN,
        };
        let share = (share as usize).clamp(1, EACH);
        self.spent.retain(|at| at.elapsed() < DAY);
        let lately = self.spent.iter().filter(|at| at.elapsed() < BURST_TIME);
        let allowed = self.spent.len() < share && lately.count() < BURST;
        if allowed {
            self.spent.push_back(Instant::now());
        }
        allowed
    }

    /// The last one brought nothing.
    pub(super) fn refund(&mut self) {
        self.spent.pop_back();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// What `replicas` make in a day, each of which asks every minute.
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
