//! How many tokens may be fetched while the store is away, so that an outage cannot burn the quota.
//!
//! Each fetch of a classic token ends that of all other replicas, and the day's quota is everybody's:
//! so the more replicas there are, the fewer each may make.

use std::collections::VecDeque;

use tokio::time::{Duration, Instant};

/// How many replicas there are, as long as the store has never said so.
const UNKNOWN: u32 = 100;

/// The most that one may make in a day, and in three hours.
const EACH: usize = 24;
const BURST: usize = 3;

const BURST_TIME: Duration = Duration::from_secs(3 * 3600);
const DAY: Duration = Duration::from_secs(86_400);

/// When the last fetches without the store were made.
#[derive(Debug, Default)]
pub(super) struct Budget(VecDeque<Instant>);

impl Budget {
    /// Spends one, if there is one left. `daily`: what all replicas together may make in a day.
    pub(super) fn spend(&mut self, daily: u32, replicas: Option<u32>) -> bool {
        let share = daily / replicas.unwrap_or(UNKNOWN).max(1);
        let share = (share as usize).clamp(1, EACH);
        self.0.retain(|at| at.elapsed() < DAY);
        let lately = self.0.iter().filter(|at| at.elapsed() < BURST_TIME);
        let allowed = self.0.len() < share && lately.count() < BURST;
        if allowed {
            self.0.push_back(Instant::now());
        }
        allowed
    }

    /// The last one brought nothing.
    pub(super) fn refund(&mut self) {
        self.0.pop_back();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    async fn spent_in_a_day(daily: u32, replicas: Option<u32>) -> u32 {
        let mut budget = Budget::default();
        let mut spent = 0;
        for _ in 0..24 * 60 {
            spent += u32::from(budget.spend(daily, replicas));
            advance(Duration::from_secs(60)).await;
        }
        spent
    }

    #[tokio::test(start_paused = true)]
    async fn all_replicas_together_stay_far_below_the_quota_of_2000_a_day() {
        for replicas in [1, 2, 3, 10, 50, 100, 200, 500, 1000] {
            let each = spent_in_a_day(200, Some(replicas)).await;
            assert!(each >= 1, "{replicas}");
            let all = each * replicas;
            assert!(all <= replicas.max(200), "{replicas} replicas made {all}");
        }
        assert_eq!(spent_in_a_day(200, None).await, 2);
        assert_eq!(spent_in_a_day(200, Some(1)).await, 24);
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_may_follow_closely_and_what_brought_nothing_is_given_back() {
        let mut budget = Budget::default();
        for allowed in [true, true, true, false] {
            assert_eq!(budget.spend(200, Some(2)), allowed);
        }
        budget.refund();
        assert!(budget.spend(200, Some(2)));
        assert!(!budget.spend(200, Some(2)));
    }
}
