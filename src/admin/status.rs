//! `/status.json`: all that the status page shows. docs/metrics.md describes it.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::SystemTime,
};

use serde_json::{Map, Value, json};
use tokio::{task::yield_now, time::Duration};

use super::{
    Admin,
    account_list::{ListQuery, ListSearch, PageSize},
    accounts::ticket,
    let_others_run, problems, quotas,
};
use crate::{
    account::{Account, Accounts, SourceOptions},
    http_host::{HostReply, page, text},
    lang::Lang,
    log::Log,
    metrics::{LastHour, Tally, process::ProcessUse},
    token::source::wechat::TokenApi,
    wechat::api::Api,
};

/// An account takes up to 10 kB.
const SIZE: PageSize = PageSize {
    usual: 20,
    most: 100,
    keeps_order: false,
};

/// How many error codes are shown of all accounts, and of each.
const ERRCODES: usize = 32;
const ACCOUNT_ERRCODES: usize = 8;

/// How many characters of a sentence are shown.
const LONGEST_SENTENCE: usize = 500;

impl Admin {
    /// The reply to a GET of it.
    pub(super) async fn status(&self, query: Option<&str>) -> HostReply {
        let lang = lang_in(query);
        let query = ListQuery::of(query);
        if let Err((status, reason)) = self.account_named(query.account.as_deref()) {
            return text(status, &reason);
        }
        let document = self.document(&query, lang).await;
        page("application/json", document.to_string())
    }

    async fn document(&self, query: &ListQuery, lang: Lang) -> Value {
        let uptime = self.metrics.uptime();
        let accounts = self.directory.all();
        let minute = minute_of(uptime);
        let mut hour = self.metrics.nobody.last_hour(minute);
        let mut search = ListSearch::new(query);
        for (at, account) in accounts.iter().enumerate() {
            search.add(account);
            account.metrics.add_last_hour(minute, &mut hour);
            let_others_run(at).await;
        }
        let list = search.page(SIZE);
        let default = accounts.default_account();
        let mut shown = Vec::new();
        for account in &list.shown {
            let is_default = default.is_some_and(|default| Arc::ptr_eq(default, account));
            // Those of all others are at most a second old.
            account.observe();
            shown.push(account_status(account, is_default, uptime));
            yield_now().await;
        }
        let problems = self.recent_problems(&accounts).await;
        let readiness = self.readiness(None);
        let mut document = json!({
            "version": crate::VERSION,
            "commit": crate::COMMIT,
            "now": seconds_since_1970(),
            "uptime_seconds": rounded(uptime.as_secs_f64()),
            "ready": readiness.is_ok(),
            "not_ready_because": readiness.err().map(|(_, reason)| shortened(&reason)),
            "problems_open": problems.open_count,
            "problems": problems.describe(lang),
            "process": self.process_status(),
            "traffic": traffic(&hour, uptime, ERRCODES),
            "accounts": shown,
        });
        if let Some(document) = document.as_object_mut() {
            document.extend(list.fields());
        }
        document
    }

    async fn recent_problems(&self, accounts: &Accounts) -> problems::Recent {
        let mut problems = problems::Recent::default();
        for (at, account) in accounts.iter().enumerate() {
            problems.add(account.api, &account.metrics.problems);
            let_others_run(at).await;
        }
        problems.add(Api::Wechat, &self.metrics.nobody.problems);
        problems
    }

    fn process_status(&self) -> Value {
        let used = ProcessUse::read();
        let open = |gauge: &AtomicI64| gauge.load(Ordering::Relaxed);
        json!({
            "connections": {
                "app": open(&self.metrics.app_connections),
                "upstream": open(&self.metrics.upstream_connections),
            },
            "max_connections": {
                "app": self.limits.app_connections,
                "upstream": self.limits.upstream_connections,
            },
            "held_bytes": self.budget.held(),
            "held_limit_bytes": self.budget.limit(),
            "memory_bytes": used.memory,
            "open_files": used.open_files,
            "max_open_files": used.max_open_files,
            "workers": self.limits.workers,
            "log_lines_dropped": self.log.as_ref().map_or(0, Log::dropped_lines),
            "configuration": self.readings.status(self.metrics.uptime()),
        })
    }
}

/// What is shown of an account.
fn account_status(account: &Account, is_default: bool, uptime: Duration) -> Value {
    let status = account.keeper.status();
    let metrics = &account.metrics;
    let token = status.token.filter(|token| token.is_alive());
    let tickets: Map<String, Value> = account.tickets.status().map(ticket).collect();
    let recent = metrics.recent_fetches().into_iter().map(|fetch| {
        json!({
            "seconds_ago": rounded(fetch.at.elapsed().as_secs_f64()),
            "cause": fetch.cause.label(),
            "outcome": fetch.outcome.label(),
        })
    });
    let counts = |counts: &mut dyn Iterator<Item = (&'static str, u64)>| {
        counts
            .map(|(label, count)| (label.to_owned(), json!(count)))
            .collect::<Map<_, _>>()
    };
    json!({
        "appid": account.appid,
        "name": account.options.name,
        "api": account.api.name(),
        "default": is_default,
        "token": token.map(|token| json!({
            "age_seconds": rounded(token.age().as_secs_f64()),
            "expires_seconds": rounded(token.remaining().as_secs_f64()),
            "renews_seconds": rounded(status.renews_in.as_secs_f64()),
        })),
        "token_error": status.error.as_ref().map(|failure| shortened(&account.options.explain(&failure.error))),
        "retry_seconds": status.error.as_ref().map(|error| rounded(error.retry_after.as_secs_f64())),
        "token_source": token_source(account),
        "fetches": {
            "day": status.fetches,
            "day_limit": account.options.daily_fetches,
            "recent": recent.collect::<Vec<_>>(),
        },
        "store_answers": account.keeper.source().store_is_available(),
        "tickets": tickets,
        "quotas": quotas::describe(account),
        "replays": counts(&mut metrics.replays()),
        "replays_skipped": counts(&mut metrics.replays_skipped()),
        "problems_open": metrics.problems.open_kinds().len(),
        "traffic": traffic(&metrics.last_hour(minute_of(uptime)), uptime, ACCOUNT_ERRCODES),
    })
}

/// How many calls of the account ended in the last hour, in the `minute` since the start.
pub(super) fn calls_of_last_hour(account: &Account, minute: u64) -> u64 {
    let hour = account.metrics.last_hour(minute);
    hour.iter().map(|tally| tally.calls).sum()
}

/// The last hour in columns, with the most frequent error codes.
fn traffic(hour: &LastHour, uptime: Duration, errcodes: usize) -> Value {
    let quantiles = |part: f64| -> Vec<Option<f64>> {
        hour.iter()
            .map(|tally| tally.quantile(part).map(rounded))
            .collect()
    };
    json!({
        "current_seconds": rounded(uptime.as_secs_f64() % 60.0),
        "calls": column(hour, |tally| tally.calls),
        "failed": column(hour, |tally| tally.failed),
        "with_errcode": column(hour, |tally| tally.with_errcode),
        "p50_seconds": quantiles(0.5),
        "p99_seconds": quantiles(0.99),
        "errcodes": most_frequent(hour, errcodes),
    })
}

/// The number of the minute in which the history has what happens now.
fn minute_of(uptime: Duration) -> u64 {
    uptime.as_secs() / 60
}

/// The language of the problems' texts: English unless a query asks for another.
fn lang_in(query: Option<&str>) -> Lang {
    let mut pairs = query.into_iter().flat_map(|query| query.split('&'));
    let named = pairs.find_map(|pair| pair.strip_prefix("lang="));
    named.and_then(Lang::named).unwrap_or(Lang::En)
}

/// A sentence of bounded length, since some have what WeChat said.
fn shortened(sentence: &str) -> String {
    sentence.chars().take(LONGEST_SENTENCE).collect()
}

fn token_source(account: &Account) -> &'static str {
    match (
        &account.options.source,
        account.api,
        account.options.token_api,
    ) {
        (SourceOptions::File(_), ..) => "file",
        (SourceOptions::Http(_), ..) => "http",
        (SourceOptions::Wechat, Api::Wecom, _) => "wecom",
        (SourceOptions::Wechat, Api::Wechat, TokenApi::Stable) => "wechat_stable",
        (SourceOptions::Wechat, Api::Wechat, TokenApi::Classic) => "wechat_classic",
    }
}

fn column(hour: &LastHour, count: impl Fn(&Tally) -> u64) -> Vec<u64> {
    hour.iter().map(count).collect()
}

/// So many error codes by minute, the most frequent first. The others are summed up as `other`.
fn most_frequent(hour: &LastHour, most: usize) -> Vec<Value> {
    let mut sums = BTreeMap::<Option<i64>, u64>::new();
    for (code, count) in hour.iter().flat_map(|tally| &tally.errcodes) {
        *sums.entry(*code).or_default() += count;
    }
    let mut codes: Vec<i64> = sums.keys().filter_map(|code| *code).collect();
    codes.sort_by_key(|code| Reverse(sums[&Some(*code)]));
    let (named, others) = codes.split_at(codes.len().min(most - 1));
    let row = |label: String, counts: Vec<u64>| {
        let sum: u64 = counts.iter().sum();
        json!({ "errcode": label, "counts": counts, "sum": sum })
    };
    let count_of =
        |tally: &Tally, code: Option<i64>| tally.errcodes.get(&code).copied().unwrap_or(0);
    let mut rows: Vec<Value> = named
        .iter()
        .map(|code| {
            row(
                code.to_string(),
                column(hour, |tally| count_of(tally, Some(*code))),
            )
        })
        .collect();
    if !others.is_empty() || sums.contains_key(&None) {
        let counts = column(hour, |tally| {
            let others = others.iter().map(|code| count_of(tally, Some(*code)));
            count_of(tally, None) + others.sum::<u64>()
        });
        rows.push(row("other".to_owned(), counts));
    }
    rows
}

/// To a tenth of a millisecond, since a longer number says no more.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1e4).round() / 1e4
}

fn seconds_since_1970() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    rounded(now.unwrap_or_default().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_codes_are_named_and_the_others_summed_up() {
        let codes = (1..=40).map(|code| (Some(code), u64::try_from(code).unwrap()));
        let tally = Tally {
            errcodes: codes.chain([(None, 1000)]).collect(),
            ..Tally::default()
        };
        let hour = vec![Tally::default(), tally];
        let rows = most_frequent(&hour, 8);
        assert_eq!(rows.len(), 8);
        assert_eq!(
            rows[0],
            json!({ "errcode": "40", "counts": [0, 40], "sum": 40 })
        );
        let others: u64 = (1..=33).sum::<u64>() + 1000;
        assert_eq!(
            rows[7],
            json!({ "errcode": "other", "counts": [0, others], "sum": others })
        );
        assert!(most_frequent(&vec![Tally::default()], 8).is_empty());
    }
}
