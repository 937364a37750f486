//! What the status page says of problems.

use std::{cmp::Reverse, sync::Arc};

use serde_json::{Value, json};
use tokio::task::yield_now;

use crate::{
    account::{Account, Accounts},
    lang::Lang,
    metrics::{AT_ONCE, Metrics},
    problems::{OpenProblem, PastProblem},
    wechat::api::Api,
};

/// How many problems `/status.json` shows, and how many bytes they may take together.
const SHOWN: usize = 100;
const LARGEST: usize = 100_000;

/// The open problems of `accounts`, and those of the process, whose account is null.
pub(super) fn describe<'a>(
    accounts: impl Iterator<Item = &'a Arc<Account>>,
    metrics: &Metrics,
) -> Vec<Value> {
    let mut all: Vec<OpenProblem> = accounts.flat_map(|account| account.problems()).collect();
    all.extend(metrics.nobody.problems.open());
    all.iter().map(describe_one).collect()
}

fn describe_one(report: &OpenProblem) -> Value {
    json!({
        "kind": report.kind.label(),
        "account": report.account,
        "since_seconds": report.lasts.as_secs(),
        "count": report.count,
        "endpoints": report.endpoints,
        "last_errcode": report.errcode,
        "last_rid": report.rid,
        "problem": report.sentence(),
        "advice": report.advice_in(Lang::En),
    })
}

/// The open problems, and those that ended within the hour, as many as are shown. Each has the API of its account.
#[derive(Default)]
pub(super) struct Recent {
    /// How many are open, also those that are not shown.
    pub(super) open_count: usize,
    /// Open ones, the newest first.
    open: Vec<(Api, OpenProblem)>,
    past: Vec<(Api, PastProblem)>,
}

impl Recent {
    /// Those of the accounts and of the process. Other tasks have their turn in between.
    pub(super) async fn of(accounts: &Accounts, metrics: &Metrics) -> Self {
        let mut recent = Self::default();
        for (at, account) in accounts.iter().enumerate() {
            let past = account.metrics.problems.past();
            recent.add(account.api, account.problems(), past);
            if at % AT_ONCE == 0 {
                recent.shorten();
                yield_now().await;
            }
        }
        let process = &metrics.nobody.problems;
        recent.add(Api::Wechat, process.open(), process.past());
        recent.shorten();
        recent
    }

    fn add(&mut self, api: Api, open: Vec<OpenProblem>, past: Vec<PastProblem>) {
        self.open_count += open.len();
        let of_api = |problem| (api, problem);
        self.open.extend(open.into_iter().map(of_api));
        self.past.extend(past.into_iter().map(|past| (api, past)));
    }

    /// Keeps the newest ones.
    fn shorten(&mut self) {
        self.open.sort_by_key(|(_, problem)| problem.lasts);
        self.open.truncate(SHOWN);
        self.past.sort_by_key(|(_, past)| Reverse(past.ended_at));
        self.past.truncate(SHOWN);
    }

    /// Open ones first, with their texts in `lang`.
    pub(super) fn describe(&self, lang: Lang) -> Vec<Value> {
        let open = self
            .open
            .iter()
            .map(|(api, problem)| shown(*api, problem, None, lang));
        let past = self.past.iter().map(|(api, past)| {
            let ended = past.ended_at.elapsed().as_secs_f64();
            shown(*api, &past.problem, Some(ended), lang)
        });
        let mut bytes = 0;
        let fits = |problem: &Value| {
            bytes += problem.to_string().len();
            bytes <= LARGEST
        };
        open.chain(past).take(SHOWN).take_while(fits).collect()
    }
}

/// A problem for the page. `ended` is how long ago it ended.
fn shown(api: Api, problem: &OpenProblem, ended: Option<f64>, lang: Lang) -> Value {
    let began = problem.lasts.as_secs_f64() + ended.unwrap_or_default();
    json!({
        "kind": problem.kind.label(),
        "account": problem.account,
        "open": ended.is_none(),
        "since_seconds": began,
        "ended_seconds": ended,
        "count": problem.count,
        "endpoints": problem.endpoints,
        "errcode": problem.errcode,
        "rid": problem.rid,
        "title": problem.kind.title_in(lang),
        "cause": problem.cause,
        "advice": problem.advice_in(lang),
        "link": problem.kind.link(api),
    })
}
