//! `/revoke`: POST revokes the token of an account, and GET says how, and how far it is.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Duration, timeout};

use super::{Admin, account_in, status::calls_of_last_hour};
use crate::{
    account::Account,
    http_host::{HostReply, page, text},
    token::{
        keeper::{Revocation, RevocationError, RevocationStep},
        source::{
            TokenError, TokenSource,
            revocation::{NotRevocable, RevocationMethod},
        },
    },
};

/// How long a POST waits for the end. A classic token, or a failure, takes no longer.
const SHORT_WAIT: Duration = Duration::from_secs(1);

impl Admin {
    /// The reply to a GET or a POST of it.
    pub(super) async fn revoke(&self, method: &Method, query: Option<&str>) -> HostReply {
        if !self.enable_revoke {
            return text(
                StatusCode::FORBIDDEN,
                "revoking tokens over HTTP is not enabled: start with --enable-revoke",
            );
        }
        let account = match self.account_named(account_in(query)) {
            Ok(Some(account)) => account,
            Ok(None) => {
                let names = self.directory.now().names();
                let reason =
                    format!("there is no default account: name one by ?account=, of {names}");
                return text(StatusCode::BAD_REQUEST, &reason);
            }
            Err((status, reason)) => return text(status, &reason),
        };
        let minutes = self.metrics.uptime().as_secs() / 60;
        let calls = calls_of_last_hour(&account, minutes);
        let keeper = &account.keeper;
        let way = match keeper.source().revocation() {
            Ok(way) => way,
            Err(reason) => return impossible(&account, reason),
        };
        if *method != Method::POST {
            return reply(&account, way, calls, None);
        }
        let begins = match keeper.revoke() {
            Ok(begins) => begins,
            Err(reason) => return impossible(&account, reason),
        };
        let mut latest = keeper.revocation();
        let ended = latest.wait_for(|latest| latest.as_ref().is_some_and(|one| !one.is_running()));
        // It goes on by itself.
        let _ = timeout(SHORT_WAIT, ended).await;
        reply(&account, way, calls, Some(!begins))
    }
}

fn impossible(account: &Account, reason: NotRevocable) -> HostReply {
    let names = account.names();
    text(
        StatusCode::CONFLICT,
        &format!("the token of {names} cannot be revoked here: {reason}"),
    )
}

/// The state of the account. `joined` says whether a POST found a revocation that was running.
fn reply(
    account: &Arc<Account>,
    method: RevocationMethod,
    calls: u64,
    joined: Option<bool>,
) -> HostReply {
    let latest = account.keeper.revocation().borrow().clone();
    let status = match (&latest, joined) {
        (Some(latest), Some(_)) => status(latest),
        _ => StatusCode::OK,
    };
    let mut document = json!({
        "account": account.names(),
        "method": method.name(),
        "what_it_does": method.sentence(),
        "calls_in_last_hour": calls,
    });
    let fields = latest.as_ref().map_or_else(
        || json!({ "state": "none" }),
        |latest| progress(account, latest),
    );
    if let (Some(document), Value::Object(fields)) = (document.as_object_mut(), fields) {
        document.extend(fields);
        if let Some(joined) = joined {
            document.insert("joined".to_owned(), json!(joined));
        }
    }
    let mut reply = page("application/json", format!("{document}\n"));
    *reply.status_mut() = status;
    reply
}

/// The status of the reply to a POST.
fn status(latest: &Revocation) -> StatusCode {
    match &latest.ended {
        None => StatusCode::ACCEPTED,
        Some(Ok(())) => StatusCode::OK,
        Some(Err(RevocationError::Fetch(TokenError::ForcedSpent(_)))) => {
            StatusCode::TOO_MANY_REQUESTS
        }
        Some(Err(_)) => StatusCode::BAD_GATEWAY,
    }
}

fn progress(account: &Account, latest: &Revocation) -> Value {
    let state = match &latest.ended {
        None => "running",
        Some(Ok(())) => "done",
        Some(Err(_)) => "failed",
    };
    let step = |(at, step): (usize, &RevocationStep)| {
        let state = match (&latest.ended, at) {
            (_, at) if at < latest.done => "done",
            (None, at) if at == latest.done => "running",
            (Some(_), at) if at == latest.done => "failed",
            _ => "waiting",
        };
        json!({ "step": step.name(), "state": state })
    };
    let steps = RevocationStep::all(latest.method).iter().enumerate();
    let error = latest.ended.as_ref().and_then(|ended| ended.as_ref().err());
    let dead_in = latest.old_token_dead_in();
    json!({
        "state": state,
        "begun_seconds_ago": latest.begun.elapsed().as_secs(),
        "steps": steps.map(step).collect::<Vec<_>>(),
        "old_token_dead_in_seconds": dead_in.map(|time| time.as_secs_f64().ceil()),
        "error": error.map(|error| match error {
            RevocationError::Fetch(error) => account.options.explain(error),
            error @ RevocationError::SameToken => error.to_string(),
        }),
    })
}
