//! What a sidecar that runs already says: whether it is ready, what is wrong, and which tokens it holds.

use http::Method;
use serde_json::Value;
use tokio::net::TcpListener;

use super::Report;
use crate::{
    account::{self, SourceOptions},
    cli::admin_client::{AdminReply, AskError, request},
    config::{Config, from_here},
    server::Listener,
    token::source::wechat::TokenApi,
};

/// Why no token is requested without `--mint`, if there is a reason.
pub(super) fn reason_not_to_request(account: &account::Options, running: &Value) -> Option<String> {
    let classic = "no token was requested: with the classic API each request ends the token of \
        everybody else; --mint requests one all the same";
    let mints = account.source == SourceOptions::Wechat && account.token_api == TokenApi::Classic;
    let classic = mints.then(|| classic.to_owned());
    holds_token(running, &account.appid, account.name.as_deref()).or(classic)
}

impl Report {
    /// Reports the addresses that a sidecar could not listen on.
    async fn ports(&mut self, config: &Config) {
        let of_accounts = config.accounts.iter().flat_map(|account| &account.listen);
        for address in config.listen.iter().chain(of_accounts) {
            if let Err(error) = Listener::bind(address).await {
                self.failed(&format!("listen: {address} cannot be listened on: {error}"));
            }
        }
        if let Err(error) = TcpListener::bind(config.admin).await {
            let admin = config.admin;
            self.failed(&format!("admin: {admin} cannot be listened on: {error}"));
        }
    }

    /// What a running sidecar says about its accounts; `Null` when there is none. Each of its problems is a failure.
    pub(super) async fn running(&mut self, config: &Config) -> Value {
        let admin = from_here(config.admin);
        match request(admin, Method::GET, "/readyz").await {
            Err(problem @ AskError::Unreachable(..)) => {
                self.ok(&format!("{problem}; none is running yet"));
                self.ports(config).await;
                return Value::Null;
            }
            // It runs, and does not do its work.
            Err(problem @ (AskError::Silent(_) | AskError::Broken(_))) => {
                self.failed(&problem.to_string());
                return Value::Null;
            }
            Err(problem) => {
                self.warning(&problem.to_string());
                return Value::Null;
            }
            Ok(AdminReply { status: 200, .. }) => {
                self.ok(&format!("the sidecar running at {admin} is ready"))
            }
            Ok(reply) => {
                self.warning(&format!(
                    "the sidecar running at {admin} is not ready: {}",
                    reply.sentence()
                ));
            }
        }
        let accounts = request(admin, Method::GET, "/accounts").await;
        let accounts = accounts.ok().filter(|reply| reply.status == 200);
        let accounts: Option<Value> =
            accounts.and_then(|reply| serde_json::from_str(&reply.body).ok());
        let Some(accounts) = accounts else {
            self.warning(&format!(
                "the sidecar running at {admin} does not say what is wrong: ask it from the same machine"
            ));
            return Value::Null;
        };
        for problem in problems(&accounts) {
            self.failed(&format!("the sidecar running at {admin}: {problem}"));
        }
        accounts
    }
}

/// The open problems of a running sidecar, a sentence each.
fn problems(running: &Value) -> Vec<String> {
    let problems = running.get("problems").and_then(Value::as_array);
    problems.into_iter().flatten().map(describe).collect()
}

fn describe(problem: &Value) -> String {
    let text = |key: &str| problem.get(key).and_then(Value::as_str);
    let number = |key: &str| problem.get(key).and_then(Value::as_i64);
    let mut details = Vec::new();
    if let (Some(count), Some(seconds)) = (number("count"), number("since_seconds")) {
        details.push(format!("{count} times in {seconds} s"));
    }
    let endpoints = problem.get("endpoints").and_then(Value::as_array);
    let endpoints = endpoints.into_iter().flatten().filter_map(Value::as_str);
    let endpoints = endpoints.collect::<Vec<_>>().join(" ");
    if !endpoints.is_empty() {
        details.push(format!("at {endpoints}"));
    }
    details.extend(number("last_errcode").map(|code| format!("errcode {code}")));
    details.extend(text("last_rid").map(|rid| format!("rid {rid}")));
    let account = text("account").map_or(String::new(), |id| format!("account {id}: "));
    let (what, advice) = (text("problem").unwrap_or("a problem"), text("advice"));
    let advice = advice.map_or(String::new(), |advice| format!(": {advice}"));
    let details = match details.is_empty() {
        true => String::new(),
        false => format!(" ({})", details.join(", ")),
    };
    format!("{account}{what}{details}{advice}")
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
        assert_eq!(
            problems(&running),
            [
                "account wx1: a quota is used up (7 times in 61 s, at /a /b, errcode 45009, rid 1-2-3): call less",
                "waiting: wait"
            ]
        );
        assert!(problems(&json!({})).is_empty() && problems(&Value::Null).is_empty());
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
