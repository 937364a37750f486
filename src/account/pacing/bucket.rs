//! A token bucket that keeps a rate exactly: in no period of its unit more calls than it says.

use tokio::time::{Duration, Instant};

/// So many calls in each period of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    calls: u32,
    per: Duration,
}

impl Rate {
    /// At least one call, in a period that is not empty.
    pub fn new(calls: u32, per: Duration) -> Self {
        Self {
            calls: calls.max(1),
            per: per.max(Duration::from_nanos(1)),
        }
    }

    /// How many calls may go at once.
    fn burst(self) -> u32 {
        (self.calls / 10).max(1)
    }
}

/// The calls that may go now. It fills up as time passes.
///
/// A call takes as many drops as its period has nanoseconds, so that a whole number of drops flows in each nanosecond,
/// and nothing is rounded. What flows in during a period is what the rate allows, less the burst that may come before
/// it.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    /// It is negative after a [`debit`](Self::debit).
    drops: i128,
    filled_at: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        let mut bucket = Self {
            rate,
            drops: 0,
            filled_at: now,
        };
        bucket.drops = bucket.capacity();
        bucket
    }

    /// Lets a call go now, or says how long it takes until one may.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        match self.time_to(1, now) {
            Duration::ZERO => {
                self.drops -= self.of_a_call();
                Ok(())
            }
            time => Err(time),
        }
    }

    /// A call goes in any case. Those behind it have to wait for its part, too.
    pub(super) fn debit(&mut self, now: Instant) {
        self.fill(now);
        self.drops -= self.of_a_call();
    }

    /// How long it takes until so many calls may have gone.
    pub(super) fn time_to(&mut self, calls: u32, now: Instant) -> Duration {
        self.fill(now);
        let missing = i128::from(calls) * self.of_a_call() - self.drops;
        let inflow = self.inflow();
        let nanos = (missing.max(0) + inflow - 1) / inflow;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled_at).as_nanos();
        let passed = i128::try_from(passed).unwrap_or(i128::MAX);
        let more = passed.saturating_mul(self.inflow());
        self.drops = self.drops.saturating_add(more).min(self.capacity());
        self.filled_at = self.filled_at.max(now);
    }

    fn of_a_call(&self) -> i128 {
        i128::try_from(self.rate.per.as_nanos()).unwrap_or(i128::MAX)
    }

    fn capacity(&self) -> i128 {
        i128::from(self.rate.burst()) * self.of_a_call()
    }

    /// Drops in a nanosecond.
    fn inflow(&self) -> i128 {
        i128::from(self.rate.calls - self.rate.burst() + 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// When calls go that each come so many microseconds after the one before, and wait for their turn.
    fn departures(rate: Rate, gaps: &[u64]) -> Vec<Duration> {
        let began = Instant::now();
        let mut bucket = Bucket::new(rate, began);
        let (mut arrival, mut now, mut gone) = (began, began, Vec::new());
        for gap in gaps {
            arrival += Duration::from_micros(*gap);
            now = now.max(arrival);
            if let Err(time) = bucket.take(now) {
                now += time;
                // The time is exact: nobody waits twice.
                assert_eq!(bucket.take(now), Ok(()));
            }
            gone.push(now - began);
        }
        gone
    }

    proptest! {
        #[test]
        fn no_period_has_more_calls_than_the_rate_says(
            calls in 1..200_u32,
            unit in prop::sample::select(vec![1_u64, 60, 3600]),
            gaps in prop::collection::vec(prop_oneof![4 => Just(0), 4 => 0..100_000_u64, 1 => 0..90_000_000_u64], 1..500),
        ) {
            let per = Duration::from_secs(unit);
            let gone = departures(Rate::new(calls, per), &gaps);
            for (at, first) in gone.iter().enumerate() {
                let within = gone[at..].iter().take_while(|time| **time - *first < per);
                prop_assert!(within.count() <= calls as usize);
            }
        }

        #[test]
        fn nobody_waits_longer_than_the_burst_allows(
            calls in 1..10_000_u32,
            count in 1..400_usize,
        ) {
            // All come at once; the last one has to wait for those before it, and no more.
            let rate = Rate::new(calls, Duration::from_secs(60));
            let gone = departures(rate, &vec![0; count]);
            let late = count.saturating_sub(rate.burst() as usize) as u64;
            let inflow = u64::from(calls - rate.burst() + 1);
            let most = Duration::from_nanos((60_000_000_000 * late).div_ceil(inflow) + late);
            prop_assert!(gone[count - 1] <= most, "{:?} {most:?}", gone[count - 1]);
        }
    }

    #[test]
    fn a_debit_is_paid_by_those_who_follow() {
        let now = Instant::now();
        let mut bucket = Bucket::new(Rate::new(1, Duration::from_secs(1)), now);
        bucket.debit(now);
        bucket.debit(now);
        assert_eq!(bucket.take(now), Err(Duration::from_secs(2)));
        assert_eq!(bucket.take(now + Duration::from_secs(2)), Ok(()));
    }

    #[test]
    fn a_long_pause_and_the_largest_rate_do_not_overflow() {
        let now = Instant::now();
        let mut bucket = Bucket::new(Rate::new(u32::MAX, Duration::from_secs(86_400)), now);
        let later = now + Duration::from_secs(86_400 * 365 * 100);
        assert_eq!(bucket.take(later), Ok(()));
        // A clock that goes back changes nothing.
        assert_eq!(bucket.take(now), Ok(()));
        assert!(bucket.time_to(u32::MAX, later) > Duration::ZERO);
    }
}
