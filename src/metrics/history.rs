//! What happened in the last hour, minute by minute, for the status page.

use std::collections::{BTreeMap, VecDeque};

use super::latency::{BUCKETS, BucketCounts};

/// How many minutes are kept, with the current one.
const MINUTES: usize = 60;

/// What is counted of calls: in a minute, or since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls that ended.
    pub calls: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Those of them that WeChat answered with an error code that is the app's to read.
    pub with_errcode: u64,
    /// The time until WeChat's reply.
    pub latency: BucketCounts,
    /// Error codes. `None` is the sum of those without a label of their own.
    pub errcodes: BTreeMap<Option<i64>, u64>,
}

/// The last minutes, the oldest first. The last one is the current minute.
pub type LastHour = Vec<Tally>;

/// The minutes of one account in which something happened.
#[derive(Debug, Default)]
pub(super) struct History {
    minutes: VecDeque<(u64, Tally)>,
    /// What had been counted at the last recording.
    recorded: Tally,
}

impl History {
    /// Puts what was counted since the last recording into `minute`. `now` is what was counted since the start.
    pub(super) fn record(&mut self, minute: u64, now: Tally) {
        let more = now.since(&self.recorded);
        self.recorded = now;
        let oldest = (minute + 1).saturating_sub(MINUTES as u64);
        while self.minutes.front().is_some_and(|(at, _)| *at < oldest) {
            self.minutes.pop_front();
        }
        if more == Tally::default() {
            return;
        }
        match self.minutes.back_mut() {
            Some((at, tally)) if *at >= minute => tally.add(&more),
            _ => self.minutes.push_back((minute, more)),
        }
    }

    /// The last hour, up to and with `minute`.
    pub(super) fn last_hour(&self, minute: u64) -> LastHour {
        let mut all = vec![Tally::default(); MINUTES];
        for (at, tally) in &self.minutes {
            let age = usize::try_from(minute.saturating_sub(*at)).unwrap_or(MINUTES);
            if age < MINUTES {
                all[MINUTES - 1 - age].add(tally);
            }
        }
        all
    }
}

impl Tally {
    /// Adds what `other` counted.
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.with_errcode += other.with_errcode;
        for (count, more) in self.latency.iter_mut().zip(other.latency) {
            *count += more;
        }
        for (code, more) in &other.errcodes {
            *self.errcodes.entry(*code).or_default() += more;
        }
    }

    /// What was counted after `before`. Cells that are summed while others count may seem to fall for a moment.
    fn since(&self, before: &Self) -> Self {
        let codes = self.errcodes.iter().map(|(code, count)| {
            let before = before.errcodes.get(code).copied().unwrap_or_default();
            (*code, count.saturating_sub(before))
        });
        Self {
            calls: self.calls.saturating_sub(before.calls),
            failed: self.failed.saturating_sub(before.failed),
            with_errcode: self.with_errcode.saturating_sub(before.with_errcode),
            latency: std::array::from_fn(|at| self.latency[at].saturating_sub(before.latency[at])),
            errcodes: codes.filter(|(_, count)| *count > 0).collect(),
        }
    }

    /// The time in seconds within which the part `of_all` of the replies came, such as 0.99, estimated as in
    /// Prometheus: by the bucket, and evenly within it. `None` if there was no reply.
    pub fn quantile(&self, of_all: f64) -> Option<f64> {
        let all: u64 = self.latency.iter().sum();
        let wanted = of_all * all as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (at, count) in self.latency.iter().enumerate() {
            let count = *count as f64;
            // The last bucket has no upper bound.
            let upper = BUCKETS.get(at).copied().unwrap_or(lower);
            if count > 0.0 && below + count >= wanted {
                return Some(lower + (upper - lower) * (wanted - below) / count);
            }
            (below, lower) = (below + count, upper);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(calls: u64, failed: u64) -> Tally {
        Tally {
            calls,
            failed,
            ..Tally::default()
        }
    }

    #[test]
    fn a_minute_has_what_was_counted_in_it_and_an_hour_is_kept() {
        let mut history = History::default();
        history.record(0, counted(10, 1));
        history.record(0, counted(15, 1));
        history.record(1, counted(15, 1));
        history.record(59, counted(22, 3));
        let hour = history.last_hour(59);
        assert_eq!((hour.len(), &hour[0]), (60, &counted(15, 1)));
        assert_eq!((&hour[1], &hour[59]), (&counted(0, 0), &counted(7, 2)));
        // The first minute is more than an hour ago.
        history.record(60, counted(23, 3));
        let hour = history.last_hour(60);
        assert_eq!((&hour[0], &hour[58]), (&counted(0, 0), &counted(7, 2)));
        assert_eq!(hour[59], counted(1, 0));
        assert_eq!(history.minutes.len(), 2);
        // Nothing was called for hours.
        history.record(1000, counted(23, 3));
        assert!(history.minutes.is_empty());
        assert_eq!(history.last_hour(1000), vec![Tally::default(); 60]);
    }

    #[test]
    fn error_codes_are_kept_by_minute_and_none_is_kept_as_zero() {
        let with = |codes: &[(Option<i64>, u64)]| Tally {
            errcodes: codes.iter().copied().collect(),
            ..Tally::default()
        };
        let mut history = History::default();
        history.record(3, with(&[(Some(45009), 2), (None, 1)]));
        history.record(4, with(&[(Some(45009), 5), (None, 1)]));
        let hour = history.last_hour(4);
        assert_eq!(hour[58], with(&[(Some(45009), 2), (None, 1)]));
        assert_eq!(hour[59], with(&[(Some(45009), 3)]));
    }

    #[test]
    fn a_quantile_lies_in_its_bucket() {
        let mut tally = Tally::default();
        assert_eq!(tally.quantile(0.5), None);
        // 100 replies within 50 to 100 ms, and one after a minute.
        tally.latency[4] = 100;
        let middle = tally.quantile(0.5).unwrap();
        assert!((middle - 0.075).abs() < 1e-9, "{middle}");
        tally.latency[13] = 2;
        assert_eq!(tally.quantile(0.99), Some(60.0));
        assert!(tally.quantile(0.5).unwrap() < 0.1);
    }
}
