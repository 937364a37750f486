//! What a sidecar that runs already says: whether it is ready, what is wrong, and which tokens it holds.

use std::{collections::HashMap, net::SocketAddr};

use http::Method;
use serde_json::{Map, Value};

use super::{
    local_ca, ports,
    report::{Check, Finding},
};
use crate::{
    account::{self, SourceOptions},
    cli::admin_client::{AdminReply, AskError, request},
    config::{Config, from_here},
    token::source::wechat::TokenApi,
};

/// What `check` calls the sidecar in its findings.
const SUBJECT: &str = "the sidecar";

/// What a running sidecar says.
#[derive(Debug, Default)]
pub(super) struct RunningSidecar {
    pub(super) findings: Vec<Finding>,
    /// What it says of the tokens that it holds.
    held: HashMap<AccountKey, String>,
}

/// An AppID, and the name by which accounts of one corp are told apart.
type AccountKey = (String, Option<String>);

/// How many accounts are asked for at once, so that a reply is small enough.
const AT_ONCE: usize = 200;

/// How many replies are read. A sidecar with more accounts than that tells of the first ones.
const MOST_PAGES: u64 = 1000;

/// Asks the sidecar at the admin port. Where none runs, the addresses are tested.
pub(super) async fn ask(config: &Config) -> RunningSidecar {
    let admin = from_here(config.admin);
    let subject = admin.to_string();
    let failed =
        |problem: &AskError| Finding::failed(Check::Sidecar, &subject, problem.to_string());
    let only = |findings| RunningSidecar {
        findings,
        held: HashMap::new(),
    };
    let ready = match request(admin, Method::GET, "/readyz").await {
        Err(problem @ AskError::Unreachable(..)) => {
            let sentence = format!("{problem}; none is running yet");
            let mut findings = vec![Finding::ok(Check::Sidecar, &subject, sentence)];
            findings.extend(ports::findings(config).await);
            findings.extend(local_ca::findings(config));
            return only(findings);
        }
        // It runs, and does not do its work.
        Err(problem @ (AskError::Silent(_) | AskError::Broken(_))) => {
            return only(vec![failed(&problem)]);
        }
        Err(problem) => {
            let sentence = problem.to_string();
            return only(vec![Finding::warning(Check::Sidecar, &subject, sentence)]);
        }
        Ok(AdminReply { status: 200, .. }) => {
            let sentence = format!("the sidecar running at {admin} is ready");
            Finding::ok(Check::Sidecar, &subject, sentence)
        }
        Ok(reply) => {
            let why = reply.sentence();
            let sentence = format!("the sidecar running at {admin} is not ready: {why}");
            Finding::warning(Check::Sidecar, &subject, sentence)
        }
    };
    let mut said = only(vec![ready]);
    said.add_accounts(admin).await;
    said
}

/// A page of what the sidecar says of its accounts. One without pages says all at once.
async fn page(admin: SocketAddr, number: u64) -> Option<Value> {
    let path = format!("/accounts?per={AT_ONCE}&page={number}");
    let reply = request(admin, Method::GET, &path).await.ok()?;
    let page = Some(reply.body).filter(|_| reply.status == 200)?;
    serde_json::from_str(&page).ok()
}

impl RunningSidecar {
    /// Adds what the sidecar at `admin` says of its accounts and their problems.
    async fn add_accounts(&mut self, admin: SocketAddr) {
        let subject = admin.to_string();
        let mut number = 1;
        loop {
            let Some(page) = page(admin, number).await else {
                let sentence = format!("the sidecar running at {admin} does not say what is wrong");
                let silent = Finding::warning(Check::Sidecar, &subject, sentence);
                let silent = silent.advise("ask it from the same machine");
                self.findings.push(silent);
                return;
            };
            // Each page has those of the process.
            let new = problems(&page, &subject).into_iter();
            let new = new.filter(|finding| number == 1 || finding.subject != SUBJECT);
            self.findings.extend(new);
            self.held.extend(held_tokens(&page));
            let pages = page.get("pages").and_then(Value::as_u64).unwrap_or(1);
            if number >= pages.min(MOST_PAGES) {
                return;
            }
            number += 1;
        }
    }

    /// Why no token is requested for `account` without `--mint`, if there is a reason.
    pub(super) fn reason_not_to_request(&self, account: &account::Options) -> Option<String> {
        let classic = "no token was requested: with the classic API each request ends the token of \
            everybody else; --mint requests one all the same";
        let mints =
            account.source == SourceOptions::Wechat && account.token_api == TokenApi::Classic;
        let classic = mints.then(|| classic.to_owned());
        self.holds_token_of(account).or(classic)
    }

    /// What the sidecar says about its token of `account`, if it holds one.
    fn holds_token_of(&self, account: &account::Options) -> Option<String> {
        let key = (account.appid.clone(), account.name.clone());
        self.held.get(&key).cloned()
    }

    /// Whether it watches the token of `account`, so that its problems tell if that is revoked.
    pub(super) fn watches(&self, account: &account::Options) -> bool {
        self.holds_token_of(account).is_some()
    }
}

/// The open problems of the sidecar at `admin`. Each is a failure.
fn problems(running: &Value, admin: &str) -> Vec<Finding> {
    let problems = running.get("problems").and_then(Value::as_array);
    let problems = problems.into_iter().flatten();
    problems.map(|problem| describe(problem, admin)).collect()
}

fn describe(problem: &Value, admin: &str) -> Finding {
    let text = |key: &str| problem.get(key).and_then(Value::as_str);
    let number = |key: &str| problem.get(key).and_then(Value::as_i64);
    let mut known = Vec::new();
    if let (Some(count), Some(seconds)) = (number("count"), number("since_seconds")) {
        known.push(format!("{count} times in {seconds} s"));
    }
    let endpoints = problem.get("endpoints").and_then(Value::as_array);
    let endpoints = endpoints.into_iter().flatten().filter_map(Value::as_str);
    let endpoints = endpoints.collect::<Vec<_>>().join(" ");
    if !endpoints.is_empty() {
        known.push(format!("at {endpoints}"));
    }
    known.extend(number("last_errcode").map(|code| format!("errcode {code}")));
    known.extend(text("last_rid").map(|rid| format!("rid {rid}")));
    let account = text("account").map_or(String::new(), |id| format!("account {id}: "));
    let what = text("problem").unwrap_or("a problem");
    let known = match known.is_empty() {
        true => String::new(),
        false => format!(" ({})", known.join(", ")),
    };
    let sentence = format!("the sidecar running at {admin}: {account}{what}{known}");
    let subject = text("account").unwrap_or(SUBJECT);
    let said = ["problem", "advice"];
    let details = problem.as_object().into_iter().flatten();
    let details = details.filter(|(key, _)| !said.contains(&key.as_str()));
    let details: Map<String, Value> = details.map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut finding = Finding::failed(Check::Problem, subject, sentence);
    finding.advice = text("advice").map(str::to_owned);
    Finding { details, ..finding }
}

/// What the running sidecar says about each token that it holds.
fn held_tokens(page: &Value) -> HashMap<AccountKey, String> {
    let accounts = page.get("accounts").unwrap_or(page).as_array();
    let accounts = accounts.into_iter().flatten();
    accounts.filter_map(held_token).collect()
}

fn held_token(account: &Value) -> Option<(AccountKey, String)> {
    let text = |key: &str| account.get(key).and_then(Value::as_str);
    let appid = text("appid")?;
    let seconds = account
        .get("token_expires_seconds")?
        .as_f64()
        .filter(|seconds| *seconds > 0.0)?;
    let trouble = text("last_error")
        .map(|error| format!(" (its last error: {error})"))
        .unwrap_or_default();
    let sentence = format!(
        "the running sidecar holds a token for {appid} for another {seconds:.0} s{trouble}; none was requested"
    );
    Some((
        (appid.to_owned(), text("name").map(str::to_owned)),
        sentence,
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_problem_is_told_with_all_that_is_known_of_it() {
        let running = json!({"problems": [
            {
                "kind": "calls_quota", "account": "wx1", "since_seconds": 61, "count": 7,
                "endpoints": ["/a", "/b"], "last_errcode": 45009, "last_rid": "1-2-3",
                "problem": "a quota is used up", "advice": "call less",
            },
            {"kind": "accept_errors", "account": null, "problem": "waiting", "advice": "wait"},
        ]});
        let found = problems(&running, "a");
        let said = |finding: &Finding| {
            let advice = finding.advice.as_deref().unwrap_or_default();
            format!("{}: {}: {advice}", finding.subject, finding.sentence)
        };
        assert_eq!(
            found.iter().map(said).collect::<Vec<_>>(),
            [
                "wx1: the sidecar running at a: account wx1: a quota is used up (7 times in 61 s, at /a /b, errcode 45009, rid 1-2-3): call less",
                "the sidecar: the sidecar running at a: waiting: wait"
            ]
        );
        assert_eq!(found[0].details["kind"], "calls_quota");
        assert_eq!(found[0].details["last_errcode"], 45009);
        for nothing in [json!({}), Value::Null] {
            assert!(problems(&nothing, "a").is_empty());
        }
    }

    #[test]
    fn a_running_sidecar_is_believed_about_its_own_account_only() {
        let account = json!({"appid": "wx1", "token_expires_seconds": 6400, "last_error": null});
        for running in [json!({"accounts": [account]}), json!([account])] {
            let held = held_tokens(&running);
            assert_eq!(held.len(), 1);
            let sentence = &held[&("wx1".to_owned(), None)];
            assert!(sentence.contains("6400 s;"), "{sentence}");
        }
        for running in [
            Value::Null,
            json!({"accounts": 1}),
            json!([{"appid": "wx1"}]),
            json!([{"appid": "wx1", "token_expires_seconds": null}]),
            json!([{"appid": "wx1", "token_expires_seconds": 0}]),
        ] {
            assert!(held_tokens(&running).is_empty(), "{running}");
        }
    }
}
