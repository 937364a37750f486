//! What happened in the last hour, minute by minute, for the status page.

use std::collections::{BTreeMap, VecDeque};

use bytes::Buf;
use prost::encoding::{decode_varint, encode_varint};

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

/// The minutes of one account in which something happened. All but the latest are packed: an account that is called all
/// the time takes a kilobyte, and one that is never called nothing.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Each minute is its number, a length and as many bytes, the oldest first.
    past: VecDeque<u8>,
    latest: Option<Box<Latest>>,
}

/// The latest minute in which something happened.
#[derive(Debug, Default)]
struct Latest {
    minute: u64,
    tally: Tally,
    /// What had been counted at the last recording.
    recorded: Tally,
}

impl History {
    /// Puts what was counted since the last recording into `minute`. `now` is what was counted since the start.
    pub(super) fn record(&mut self, minute: u64, now: Tally) {
        self.forget_before((minute + 1).saturating_sub(MINUTES as u64));
        let more = match &self.latest {
            Some(latest) => now.since(&latest.recorded),
            None => now.clone(),
        };
        if more == Tally::default() {
            return;
        }
        let latest = self.latest.get_or_insert_default();
        if latest.tally != Tally::default() && latest.minute < minute {
            push(&mut self.past, latest.minute, &latest.tally);
            latest.tally = Tally::default();
        }
        latest.minute = latest.minute.max(minute);
        latest.tally.add(&more);
        latest.recorded = now;
    }

    /// Adds the last hour, up to and with `minute`, to `hour`.
    pub(super) fn add_to(&mut self, minute: u64, hour: &mut LastHour) {
        let mut add = |at: u64, tally: &Tally| {
            let age = usize::try_from(minute.saturating_sub(at)).unwrap_or(MINUTES);
            if age < MINUTES {
                hour[MINUTES - 1 - age].add(tally);
            }
        };
        let mut past: &[u8] = self.past.make_contiguous();
        while let Some((at, tally)) = next(&mut past) {
            add(at, &Tally::unpacked(tally).unwrap_or_default());
        }
        if let Some(latest) = &self.latest {
            add(latest.minute, &latest.tally);
        }
    }

    fn forget_before(&mut self, oldest: u64) {
        let mut past: &[u8] = self.past.make_contiguous();
        let mut kept = past.len();
        while let Some((at, _)) = next(&mut past)
            && at < oldest
        {
            kept = past.len();
        }
        self.past.drain(..self.past.len() - kept);
    }
}

fn push(past: &mut VecDeque<u8>, minute: u64, tally: &Tally) {
    let packed = tally.packed();
    let mut head = Vec::new();
    encode_varint(minute, &mut head);
    encode_varint(packed.len() as u64, &mut head);
    past.extend(head);
    past.extend(packed);
}

/// Takes the next minute, packed, from `past`.
fn next<'a>(past: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    let minute = decode_varint(past).ok()?;
    let len = usize::try_from(decode_varint(past).ok()?).ok()?;
    let (packed, rest) = past.split_at_checked(len)?;
    *past = rest;
    Some((minute, packed))
}

/// An hour in which nothing happened.
pub(super) fn empty_hour() -> LastHour {
    vec![Tally::default(); MINUTES]
}

impl Tally {
    /// As varints: the sums, a length and the buckets in which something is, and the error codes.
    fn packed(&self) -> Vec<u8> {
        let mut packed = Vec::new();
        let mut put = |number: u64| encode_varint(number, &mut packed);
        for sum in [self.calls, self.failed, self.with_errcode] {
            put(sum);
        }
        let used = || (0..self.latency.len()).filter(|at| self.latency[*at] > 0);
        put(used().count() as u64);
        for at in used() {
            put(at as u64);
            put(self.latency[at]);
        }
        for (code, count) in &self.errcodes {
            // The least is -1.
            put(code.map_or(0, |code| code.wrapping_add(2) as u64));
            put(*count);
        }
        packed
    }

    /// What was [`packed`](Self::packed).
    fn unpacked(mut packed: &[u8]) -> Option<Self> {
        let packed = &mut packed;
        let mut tally = Self::default();
        for sum in [&mut tally.calls, &mut tally.failed, &mut tally.with_errcode] {
            *sum = decode_varint(packed).ok()?;
        }
        for _ in 0..decode_varint(packed).ok()? {
            let at = usize::try_from(decode_varint(packed).ok()?).ok()?;
            *tally.latency.get_mut(at)? = decode_varint(packed).ok()?;
        }
        while packed.has_remaining() {
            let code = decode_varint(packed).ok()?;
            let code = (code != 0).then(|| (code as i64).wrapping_sub(2));
            tally.errcodes.insert(code, decode_varint(packed).ok()?);
        }
        Some(tally)
    }

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

    impl History {
        fn last_hour(&mut self, minute: u64) -> LastHour {
            let mut hour = empty_hour();
            self.add_to(minute, &mut hour);
            hour
        }
    }

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
        // Nothing was called for hours.
        history.record(1000, counted(23, 3));
        assert!(history.past.is_empty());
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
    fn what_was_packed_is_the_same_and_an_hour_takes_a_kilobyte() {
        let mut all = Tally {
            calls: 1_000_000,
            failed: 3,
            with_errcode: 70_000,
            latency: std::array::from_fn(|at| at as u64 * 1000),
            errcodes: [
                (None, 1),
                (Some(-1), 2),
                (Some(0), 3),
                (Some(301_042), u64::MAX),
            ]
            .into(),
        };
        assert_eq!(Tally::unpacked(&all.packed()), Some(all.clone()));
        assert_eq!(Tally::unpacked(&[1]), None);
        let mut history = History::default();
        (all.errcodes, all.latency, all.with_errcode) = Default::default();
        for minute in 0..1000 {
            all.calls += 200;
            all.latency[3] += 150;
            all.latency[4] += 50;
            history.record(minute, all.clone());
            assert!(history.past.capacity() <= 1024);
        }
        let hour = history.last_hour(999);
        assert!(
            hour.iter()
                .all(|tally| tally.calls == 200 && tally.latency[4] == 50)
        );
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
