//! What the status page says of problems.

use std::cmp::Reverse;

use serde_json::{Value, json};

use crate::{
    lang::Lang,
    problems::{OpenProblem, PastProblem, Problems},
    wechat::api::Api,
};

/// How many problems `/status.json` shows, and how many bytes they may take together.
const SHOWN: usize = 100;
const LARGEST: usize = 100_000;

/// Open problems. The account of those of the process is null.
pub(super) fn describe(problems: Vec<OpenProblem>) -> impl Iterator<Item = Value> {
    problems.into_iter().map(|problem| describe_one(&problem))
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
    /// Adds those of an account with this API, or of the process.
    pub(super) fn add(&mut self, api: Api, problems: &Problems) {
        let open = problems.open();
        self.open_count += open.len();
        self.open
            .extend(open.into_iter().map(|problem| (api, problem)));
        let past = problems.past().into_iter();
        self.past.extend(past.map(|past| (api, past)));
        if self.open.len() + self.past.len() > 10 * SHOWN {
            self.shorten();
        }
    }

    /// Keeps the newest ones.
    fn shorten(&mut self) {
        self.open.sort_by_key(|(_, problem)| problem.lasts);
        self.open.truncate(SHOWN);
        self.past.sort_by_key(|(_, past)| Reverse(past.ended_at));
        self.past.truncate(SHOWN);
    }

    /// Open ones first, with their texts in `lang`.
    pub(super) fn describe(mut self, lang: Lang) -> Vec<Value> {
        self.shorten();
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
