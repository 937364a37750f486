//! `/quota`: what is known of an account's quotas of calls, and which endpoints it has called.

use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Admin;
use crate::{
    account::{Account, Lookup},
    http_host::{HostReply, page, text},
    metrics::{CallRate, EndpointQuota},
    wechat::endpoint::{Credential, Endpoint, QUOTA_GET},
};

impl Admin {
    /// The reply to a GET of it. `word` is an AppID or a name; without one it is about the default account.
    pub(super) fn quotas(&self, word: Option<&str>) -> HostReply {
        let accounts = self.directory.now();
        let account = match word.map(|word| accounts.find(word)) {
            None => accounts.default_account(),
            Some(Lookup::One(account)) => Some(account),
            Some(Lookup::Ambiguous | Lookup::Unknown) => None,
        };
        let Some(account) = account else {
            let names = accounts.names();
            let problem = format!("name one account: /quota?account=NAME; there are: {names}");
            return text(StatusCode::NOT_FOUND, &problem);
        };
        let called = self.metrics.called(&account.metrics);
        let has_quota = |path: &&'static str| {
            let endpoint = Endpoint::of(account.api, path.as_bytes());
            *path != QUOTA_GET
                && endpoint.is_ok_and(|endpoint| endpoint.credential == Credential::AccessToken)
        };
        let status = json!({
            "account": account.id(),
            "called": called.into_iter().filter(has_quota).collect::<Vec<_>>(),
            "quotas": describe(account),
        });
        page("application/json", format!("{status}\n"))
    }
}

/// What is known of the quotas of `account`.
pub(super) fn describe(account: &Account) -> Vec<Value> {
    let all = account.metrics.quotas.all();
    all.iter().map(describe_one).collect()
}

fn describe_one(quota: &EndpointQuota) -> Value {
    let ago = |at: Instant| at.elapsed().as_secs();
    let hits = quota.hits.iter().map(|hit| {
        json!({
            "errcode": hit.errcode,
            "count": hit.count,
            "seconds_ago": ago(hit.at),
            "rid": hit.rid,
        })
    });
    let rate = |rate: CallRate| {
        json!({
            "call_count": rate.call_count,
            "refresh_second": rate.refresh_second,
        })
    };
    let reading = quota.reading.map(|(reading, at)| {
        json!({
            "seconds_ago": ago(at),
            "daily_limit": reading.daily_limit,
            "used": reading.used,
            "remain": reading.remain,
            "rate_limit": reading.rate_limit.map(rate),
            "component_rate_limit": reading.component_rate_limit.map(rate),
        })
    });
    json!({
        "endpoint": quota.endpoint,
        "hits": hits.collect::<Vec<_>>(),
        "reading": reading,
    })
}
