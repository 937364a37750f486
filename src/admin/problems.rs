//! What the status page says of problems.

use serde_json::{Value, json};

use crate::{account::Directory, lang::Lang, metrics::Metrics, problems::OpenProblem};

/// All open problems: those of the accounts, and those of the process, whose account is null.
pub(super) fn describe(directory: &Directory, metrics: &Metrics) -> Vec<Value> {
    let accounts = directory.now();
    let all = accounts.iter().flat_map(|account| account.problems());
    let all = all.chain(metrics.nobody.problems.open());
    all.map(|report| describe_one(&report)).collect()
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
