//! What a sidecar that runs already says: whether it is ready, what is wrong, and which tokens it holds.

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
    /// Its page `/accounts`; `Null` where none runs, or does not say.
    accounts: Value,
}

/// Asks the sidecar at the admin port. Where none runs, the addresses are tested.
pub(super) async fn ask(config: &Config) -> RunningSidecar {
    let admin = from_here(config.admin);
    let subject = admin.to_string();
    let failed =
        |problem: &AskError| Finding::failed(Check::Sidecar, &subject, problem.to_string());
    let only = |findings| RunningSidecar {
        findings,
        accounts: Value::Null,
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
    let accounts = request(admin, Method::GET, "/accounts").await;
    let accounts = accounts.ok().filter(|reply| reply.status == 200);
    let accounts: Option<Value> = accounts.and_then(|reply| serde_json::from_str(&reply.body).ok());
    let Some(accounts) = accounts else {
        let sentence = format!("the sidecar running at {admin} does not say what is wrong");
        let silent = Finding::warning(Check::Sidecar, &subject, sentence);
        return only(vec![ready, silent.advise("ask it from the same machine")]);
    };
    let mut findings = vec![ready];
    findings.extend(problems(&accounts, &subject));
    RunningSidecar { findings, accounts }
}

impl RunningSidecar {
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
        holds_token(&self.accounts, &account.appid, account.name.as_deref())
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

/// What the running sidecar says about its token for `appid`, if it holds one. Accounts of one corp
/// are told apart by `name`.
fn holds_token(running: &Value, appid: &str, name: Option<&str>) -> Option<String> {
    let accounts = running.get("accounts").unwrap_or(running).as_array()?;
    let account = accounts
        .iter()
        .filter(|account| account.get("appid").is_some_and(|id| id == appid))
        .find(|account| account.get("name").and_then(Value::as_str) == name)?;
    let seconds = account
        .get("token_expires_seconds")?
        .as_f64()
        .filter(|seconds| *seconds > 0.0)?;
    let trouble = account.get("last_error").and_then(Value::as_str);
    let trouble = trouble
        .map(|error| format!(" (its last error: {error})"))
        .unwrap_or_default();
    Some(format!(
        "the running sidecar holds a token for {appid} for another {seconds:.0} s{trouble}; none was requested"
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
            let held = holds_token(&running, "wx1", None).unwrap();
            assert!(held.contains("6400 s;"), "{held}");
            assert_eq!(holds_token(&running, "wx2", None), None);
        }
        for running in [
            Value::Null,
            json!({"accounts": 1}),
            json!([{"appid": "wx1"}]),
            json!([{"appid": "wx1", "token_expires_seconds": null}]),
            json!([{"appid": "wx1", "token_expires_seconds": 0}]),
        ] {
            assert_eq!(holds_token(&running, "wx1", None), None, "{running}");
        }
    }
}
