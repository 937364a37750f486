//! What the status page says of problems.

use serde_json::{Value, json};

use crate::{
    account::Directory,
    metrics::Metrics,
    problems::{OpenProblem, PastProblem, Problems},
};

/// How many problems `/status.json` shows.
const SHOWN: usize = 100;

/// All open problems: those of the accounts, and those of the process, whose account is null.
pub(super) fn describe(directory: &Directory, metrics: &Metrics) -> Vec<Value> {
    let all = open(directory, metrics);
    all.iter().map(describe_one).collect()
}

fn open(directory: &Directory, metrics: &Metrics) -> Vec<OpenProblem> {
    let accounts = directory.now();
    let all = accounts.iter().flat_map(|account| account.problems());
    all.chain(metrics.nobody.problems.open()).collect()
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
        "advice": report.advice,
    })
}

/// The open problems, and those that ended within the hour.
pub(super) struct Recent {
    /// Open ones, the newest first.
    pub(super) open: Vec<OpenProblem>,
    past: Vec<PastProblem>,
}

impl Recent {
    /// Those of the accounts and of the process.
    pub(super) fn of(directory: &Directory, metrics: &Metrics) -> Self {
        let mut open = open(directory, metrics);
        open.sort_by_key(|problem| problem.lasts);
        let accounts = directory.now();
        let past = |problems: &Problems| problems.past();
        let mut past: Vec<PastProblem> = accounts
            .iter()
            .flat_map(|account| past(&account.metrics.problems))
            .chain(past(&metrics.nobody.problems))
            .collect();
        past.sort_by_key(|past| past.ended_at.elapsed());
        Self { open, past }
    }

    /// Open ones first.
    pub(super) fn describe(&self) -> Vec<Value> {
        let open = self.open.iter().map(|problem| shown(problem, None));
        let past = self.past.iter().map(|past| {
            let ended = past.ended_at.elapsed().as_secs_f64();
            shown(&past.problem, Some(ended))
        });
        open.chain(past).take(SHOWN).collect()
    }
}

/// A problem for the page. `ended` is how long ago it ended.
fn shown(problem: &OpenProblem, ended: Option<f64>) -> Value {
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
        "title": problem.kind.title(),
        "cause": problem.cause,
        "advice": problem.advice,
    })
}
