//! What the metrics page shows of one account, or of all those together that have no series of their own.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{AccountMetrics, QuotaReading, Sums, encoder::Labels};
use crate::problems::Kind;

/// The metrics of one account, or of several together.
#[derive(Debug)]
pub struct AccountPage<'a> {
    pub(super) labels: Labels,
    pub(super) counts: Counts<'a>,
    pub(super) gauges: AccountGauges,
}

/// Where the counters of an [`AccountPage`] are.
#[derive(Debug)]
pub(super) enum Counts<'a> {
    Of(&'a AccountMetrics),
    Sums(&'a Sums),
}

/// What is no counter. Of several accounts together, each value is that of the one to look at first.
#[derive(Debug, Default)]
pub struct AccountGauges {
    /// The age of the token in hand, in seconds; `None` without one. Of several, the oldest.
    pub token_age: Option<f64>,
    /// The time until it expires, in seconds; 0 without one, and `None` if none was requested yet. Of several, the
    /// first to expire.
    pub token_expires: Option<f64>,
    /// Token requests in the current 24 hours, and the limit from which on refusals cause no more. Of several, those
    /// of the one nearest to its limit.
    pub fetches: Option<(u32, u32)>,
    /// Calls that wait for their turn; `None` without rates. Of several, all of them.
    pub paced_waiting: Option<u32>,
    /// The kinds of open problems, sorted.
    pub problems: Vec<Kind>,
    /// What WeChat answered to questions about quotas, by endpoint. Of several, the one with the least left.
    pub quotas: BTreeMap<&'static str, (QuotaReading, Instant)>,
}

impl<'a> AccountPage<'a> {
    /// The account with series of its own.
    pub fn of(
        appid: &str,
        name: Option<&str>,
        metrics: &'a AccountMetrics,
        gauges: AccountGauges,
    ) -> Self {
        let name = name.map(|name| ("name", name));
        let labels = [("account", appid)].into_iter().chain(name);
        Self {
            labels: labels.collect(),
            counts: Counts::Of(metrics),
            gauges,
        }
    }

    /// All accounts without series of their own.
    pub fn of_others(sums: &'a Sums, gauges: AccountGauges) -> Self {
        Self {
            labels: [("account", "other")].into_iter().collect(),
            counts: Counts::Sums(sums),
            gauges,
        }
    }

    /// A value made of the age of the token in hand; 0 without one, where it is that of one account.
    pub(super) fn token_age(&self, value: impl Fn(f64) -> f64) -> Option<f64> {
        let without = match self.counts {
            Counts::Of(_) => Some(0.0),
            Counts::Sums(_) => None,
        };
        self.gauges.token_age.map(value).or(without)
    }

    /// What the process counts of no account's.
    pub(super) fn of_nobody(metrics: &'a AccountMetrics) -> Self {
        Self::of("", None, metrics, AccountGauges::of(metrics))
    }
}

impl Counts<'_> {
    pub(super) fn cell(&self, at: usize) -> u64 {
        match self {
            Self::Of(metrics) => metrics.cells.sum(at),
            Self::Sums(sums) => sums.cell(at),
        }
    }

    pub(super) fn errcodes(&self) -> BTreeMap<(usize, Option<i64>), u64> {
        match self {
            Self::Of(metrics) => metrics.errcodes.all(),
            Self::Sums(sums) => sums.errcodes(),
        }
    }
}

impl AccountGauges {
    /// Those that its metrics know.
    pub fn of(metrics: &AccountMetrics) -> Self {
        let quotas = metrics.quotas.all();
        let quotas = quotas
            .into_iter()
            .filter_map(|quota| Some((quota.endpoint, quota.reading?)));
        Self {
            problems: metrics.problems.open_kinds(),
            quotas: quotas.collect(),
            ..Self::default()
        }
    }

    /// Adds those of another account.
    pub fn merge(&mut self, other: Self) {
        let one = |one: Option<f64>, other, choose: fn(f64, f64) -> f64| match (one, other) {
            (Some(one), Some(other)) => Some(choose(one, other)),
            (one, other) => one.or(other),
        };
        self.token_age = one(self.token_age, other.token_age, f64::max);
        self.token_expires = one(self.token_expires, other.token_expires, f64::min);
        let part = |(fetches, limit): (u32, u32)| f64::from(fetches) / f64::from(limit.max(1));
        self.fetches = match (self.fetches, other.fetches) {
            (Some(one), Some(other)) if part(other) > part(one) => Some(other),
            (one, other) => one.or(other),
        };
        self.paced_waiting = match (self.paced_waiting, other.paced_waiting) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        for kind in other.problems {
            if let Err(at) = self.problems.binary_search(&kind) {
                self.problems.insert(at, kind);
            }
        }
        for (endpoint, new) in other.quotas {
            let known = self.quotas.entry(endpoint).or_insert(new);
            if used_part(&new.0) > used_part(&known.0) {
                *known = new;
            }
        }
    }
}

/// Which part of a day's calls is used; `None` where WeChat did not say that.
fn used_part(reading: &QuotaReading) -> Option<f64> {
    let limit = reading.daily_limit?.max(1);
    Some(reading.used? as f64 / limit as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauges(expires: Option<f64>, fetches: (u32, u32)) -> AccountGauges {
        AccountGauges {
            token_age: expires.map(|seconds| 7200.0 - seconds),
            token_expires: expires,
            fetches: Some(fetches),
            paced_waiting: Some(2),
            ..AccountGauges::default()
        }
    }

    #[test]
    fn of_several_accounts_the_one_to_look_at_first_is_shown() {
        let mut all = gauges(None, (3, 500));
        all.merge(gauges(Some(100.0), (10, 20)));
        all.merge(gauges(Some(7000.0), (90, 500)));
        assert_eq!(
            (all.token_age, all.token_expires),
            (Some(7100.0), Some(100.0))
        );
        assert_eq!((all.fetches, all.paced_waiting), (Some((10, 20)), Some(6)));
        // One that has no token.
        all.merge(AccountGauges {
            token_expires: Some(0.0),
            ..AccountGauges::default()
        });
        assert_eq!(
            (all.token_age, all.token_expires),
            (Some(7100.0), Some(0.0))
        );
    }

    #[test]
    fn kinds_are_told_once_and_the_fullest_quota_counts() {
        let with = |kinds: &[Kind], used| AccountGauges {
            problems: kinds.to_vec(),
            quotas: BTreeMap::from([(
                "/a",
                (
                    QuotaReading {
                        daily_limit: Some(100),
                        used,
                        ..QuotaReading::default()
                    },
                    Instant::now(),
                ),
            )]),
            ..AccountGauges::default()
        };
        let mut all = with(&[Kind::Busy], Some(7));
        all.merge(with(&[Kind::TokenRequestFailed, Kind::Busy], Some(90)));
        all.merge(with(&[], Some(8)));
        all.merge(with(&[], None));
        assert_eq!(all.problems, [Kind::TokenRequestFailed, Kind::Busy]);
        assert_eq!(all.quotas["/a"].0.used, Some(90));
    }
}
