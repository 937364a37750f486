//! What the status page says of problems.

use serde_json::{Value, json};

use crate::{
    account::Directory,
    lang::Lang,
    metrics::Metrics,
    problems::{OpenProblem, PastProblem, Problems},
    wechat::api::Api,
};

/// How many problems `/status.json` shows, and how many bytes they may take together.
const SHOWN: usize = 100;
const LARGEST: usize = 100_000;

/// All open problems: those of the accounts, and those of the process, whose account is null.
pub(super) fn describe(directory: &Directory, metrics: &Metrics) -> Vec<Value> {
    let all = open(directory, metrics);
    all.iter()
        .map(|(_, problem)| describe_one(problem))
        .collect()
}

/// The open problems, each with the API of its account.
fn open(directory: &Directory, metrics: &Metrics) -> Vec<(Api, OpenProblem)> {
    let accounts = directory.now();
    let mut all = Vec::new();
    for account in accounts.iter() {
        all.extend(
            account
                .problems()
                .into_iter()
                .map(|problem| (account.api, problem)),
        );
    }
    let process = metrics.nobody.problems.open();
    all.extend(process.into_iter().map(|problem| (Api::Wechat, problem)));
    all
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

/// The open problems, and those that ended within the hour. Each has the API of its account.
pub(super) struct Recent {
    /// Open ones, the newest first.
    pub(super) open: Vec<(Api, OpenProblem)>,
    past: Vec<(Api, PastProblem)>,
}

impl Recent {
    /// Those of the accounts and of the process.
    pub(super) fn of(directory: &Directory, metrics: &Metrics) -> Self {
        let mut open = open(directory, metrics);
        open.sort_by_key(|(_, problem)| problem.lasts);
        let accounts = directory.now();
        let mut past = Vec::new();
        let mut add = |api, problems: &Problems| {
            past.extend(problems.past().into_iter().map(|past| (api, past)));
        };
        for account in accounts.iter() {
            add(account.api, &account.metrics.problems);
        }
        add(Api::Wechat, &metrics.nobody.problems);
        past.sort_by_key(|(_, past)| past.ended_at.elapsed());
        Self { open, past }
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
