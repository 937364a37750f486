//! `check`: what of the configuration works, in plain sentences, one a line.

use std::{net::IpAddr, process::ExitCode, sync::Arc};

use bytes::Bytes;
use http::{Method, Response};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;

use super::{
    admin_client::{AdminReply, AskError, request},
    output::say,
};
use crate::{
    account::{self, AccountError, AccountFactory, SourceOptions},
    body::buffered::BufferedBody,
    client::{ResponseBody, Upstream, UpstreamRequest},
    config::{Config, from_here},
    metrics::{Cause, Metrics},
    net::connector::Connector,
    token::{
        Token,
        source::{FetchRequest, TokenSource, api, redis::Redis, store::Store, wechat::TokenApi},
    },
    wechat::{api::Api, errcode},
};

/// Answered to anybody, even without a token: with an error code.
const HARMLESS: &str = "/cgi-bin/get_api_domain_ip";

/// A call to it, behind `prefix` and with `query`.
fn harmless(prefix: &str, query: &str) -> Option<UpstreamRequest> {
    let body = BufferedBody::ready(Bytes::new());
    UpstreamRequest::new(&Method::GET, body, |target| {
        target.extend_from_slice([prefix, HARMLESS, query].concat().as_bytes());
    })
}

/// Error pages are larger; nothing of them is of interest.
const LARGEST_REPLY: usize = 64 * 1024;

/// Says what works, and fails if something does not. A classic token is requested only to `mint`,
/// for that ends the token of everybody else.
pub(super) async fn check(config: &Config, mint: bool) -> ExitCode {
    let mut report = Report { failed: false };
    report.configuration(config);
    let running = report.running(config).await;
    let route = match Connector::new(config.route.clone()) {
        Ok(route) => Arc::new(route),
        Err(error) => {
            report.failed(&error.to_string());
            return report.end();
        }
    };
    report.store(config).await;
    let is_common = |account: &account::Options| account.upstream.is_none();
    if config.accounts.iter().any(is_common) {
        report.dns(config).await;
        if !report.reach(config, &route).await {
            report.warning("no token was requested, since WeChat cannot be reached");
            return report.end();
        }
    }
    for account in &config.accounts {
        match reason_not_to_request(account, &running) {
            Some(reason) if !mint => report.ok(&reason),
            _ => report.token(config, &route, account).await,
        }
    }
    report.end()
}

/// Lines said so far.
struct Report {
    failed: bool,
}

impl Report {
    fn ok(&self, text: &str) {
        say(&format!("ok: {text}"));
    }

    fn warning(&self, text: &str) {
        say(&format!("warning: {text}"));
    }

    fn failed(&mut self, text: &str) {
        self.failed = true;
        say(&format!("FAILED: {text}"));
    }

    fn end(self) -> ExitCode {
        if self.failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }

    fn configuration(&self, config: &Config) {
        for warning in &config.warnings {
            self.warning(warning);
        }
        for account in &config.accounts {
            let by = match (&account.source, account.token_api) {
                (SourceOptions::Wechat, _) if account.api == Api::Wecom => "WeCom's tokens",
                (SourceOptions::Wechat, TokenApi::Stable) => "the stable token API",
                (SourceOptions::Wechat, TokenApi::Classic) => "the classic token API",
                (SourceOptions::File(_), _) => "tokens from a file",
                (SourceOptions::Http(_), _) => "tokens from a server",
            };
            self.ok(&format!(
                "the configuration is complete, for {} with {by}",
                account.names()
            ));
            if !account.listen.is_empty() {
                let listen: Vec<String> = account.listen.iter().map(ToString::to_string).collect();
                let listen = listen.join(" and ");
                self.ok(&format!("calls of {} come in at {listen}", account.names()));
            }
        }
        let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
        self.ok(&format!(
            "apps connect to {}, the admin port is {}",
            listen.join(" and "),
            config.admin
        ));
    }

    /// What a running sidecar says about its accounts; `Null` when there is none.
    async fn running(&self, config: &Config) -> Value {
        let admin = from_here(config.admin);
        match request(admin, Method::GET, "/readyz").await {
            Err(problem @ AskError::Unreachable(..)) => {
                self.ok(&format!("{problem}; none is running yet"));
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
        accounts
            .and_then(|reply| serde_json::from_str(&reply.body).ok())
            .unwrap_or_default()
    }

    /// Whether the store answers, and holds what it should.
    async fn store(&mut self, config: &Config) {
        let Some(options) = &config.store else { return };
        let redis = Redis::new(options.clone());
        for account in config
            .accounts
            .iter()
            .filter(|account| account.uses_store())
        {
            let place = redis.slot(account.key_parts());
            match place.read().await {
                Ok(found) => {
                    let holds = if found.token.is_some() { "a" } else { "no" };
                    let appid = &account.appid;
                    self.ok(&format!(
                        "the store answers, and holds {holds} token of {appid}"
                    ));
                }
                Err(error) => self.failed(&format!("the store: {error}")),
            }
        }
    }

    async fn dns(&self, config: &Config) {
        let Some(origin) = config.route.origins.first() else {
            return;
        };
        if config.route.egress.is_some() || origin.host.parse::<IpAddr>().is_ok() {
            return;
        }
        // A failure is said by who tries to connect.
        if let Ok(found) = config.route.names.resolve(&origin.host).await {
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            self.ok(&format!("{} is at {}", origin.host, found.join(", ")));
        }
    }

    /// Whether WeChat answers a call without a token.
    async fn reach(&mut self, config: &Config, route: &Arc<Connector>) -> bool {
        let upstream = Upstream::new(route.clone(), config.upstream, Arc::new(Metrics::default()));
        let Some(call) = harmless("", "") else {
            return false;
        };
        let sent = upstream.send(call, true).await;
        let answered = sent.is_ok();
        match sent {
            Ok(reply) => self.reached(config, route, reply).await,
            Err(error) => self.failed(&format!("WeChat cannot be reached: {error}")),
        }
        answered
    }

    async fn reached(&self, config: &Config, route: &Connector, reply: Response<ResponseBody>) {
        let egress = config.route.egress.as_ref();
        let by = egress.map_or(String::new(), |egress| {
            format!(" through the egress proxy {egress}")
        });
        // The one that could be connected comes first now.
        let origins = route.origins();
        let (Some(first), Some(origin)) = (config.route.origins.first(), origins.first()) else {
            return;
        };
        if *origin != first {
            self.warning(&format!(
                "{} cannot be connected, {} stands in for it",
                first.host, origin.host
            ));
        }
        let status = reply.status().as_u16();
        let body = Limited::new(reply.into_body(), LARGEST_REPLY)
            .collect()
            .await;
        let body = body
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        if errcode::errcode(&body).is_some() {
            self.ok(&format!("{origin} answers{by}"));
        } else {
            self.warning(&format!(
                "{origin} answers{by}, but not as WeChat does (HTTP status {status})"
            ));
        }
    }

    async fn token(&mut self, config: &Config, route: &Arc<Connector>, account: &account::Options) {
        let client = match api::client(&config.route) {
            Ok(client) => client,
            Err(problem) => return self.failed(&problem.to_string()),
        };
        let means = AccountFactory::new(client, route.clone(), config.token_wait);
        let of_account = |problem: AccountError| format!("{}: {problem}", account.names());
        let (issuer, route) = match (account.token_source(&means), account.connector(&means)) {
            (Ok(issuer), Ok(route)) => (issuer, route),
            (Err(problem), _) | (_, Err(problem)) => return self.failed(&of_account(problem)),
        };
        if account.upstream.is_some() && self.own_way(config, account, &route, "").await.is_none() {
            return;
        }
        let wanted = FetchRequest {
            cause: Cause::Missing,
            current: None,
        };
        match issuer.fetch(wanted).await {
            Ok(issued) => {
                let seconds = issued.token.lifetime().as_secs();
                let who = match account.source {
                    SourceOptions::Wechat => "WeChat issues a token to",
                    SourceOptions::File(_) => "the file holds a token for",
                    SourceOptions::Http(_) => "the server has a token for",
                };
                let who = match account.api {
                    Api::Wechat => who.to_owned(),
                    Api::Wecom => who.replace("WeChat", "WeCom"),
                };
                self.ok(&format!("{who} {}; it lives {seconds} s", account.names()));
                if account.api == Api::Wecom {
                    self.trusted_ip(config, account, &route, &issued.token)
                        .await;
                }
            }
            Err(error) => self.failed(&format!("no token for {}: {error}", account.names())),
        }
    }

    /// Whether an account's own WeChat or WeCom answers a call with this query, and what.
    async fn own_way(
        &mut self,
        config: &Config,
        account: &account::Options,
        route: &Arc<Connector>,
        query: &str,
    ) -> Option<Bytes> {
        let call = harmless(route.prefix(), query)?;
        let upstream = Upstream::new(route.clone(), config.upstream, Arc::new(Metrics::default()));
        match upstream.send(call, true).await {
            Ok(reply) => {
                if query.is_empty()
                    && let Some(origin) = route.origins().first()
                {
                    self.ok(&format!("{origin} answers, for {}", account.names()));
                }
                let body = Limited::new(reply.into_body(), LARGEST_REPLY);
                body.collect()
                    .await
                    .ok()
                    .map(http_body_util::Collected::to_bytes)
            }
            Err(error) => {
                let id = account.names();
                self.failed(&format!("the upstream of {id} cannot be reached: {error}"));
                None
            }
        }
    }

    /// WeCom gives tokens to any IP, and calls are turned down for it all the same.
    async fn trusted_ip(
        &mut self,
        config: &Config,
        account: &account::Options,
        route: &Arc<Connector>,
        token: &Token,
    ) {
        let query = format!("?access_token={}", token.encoded());
        let body = self.own_way(config, account, route, &query).await;
        let body = body.unwrap_or_default();
        let (id, code) = (account.names(), errcode::errcode(&body).unwrap_or_default());
        if errcode::is_about_the_ip(account.api, code) {
            let ip = errcode::ip(&body).map_or("this IP".to_owned(), |ip| ip.to_string());
            self.failed(&format!(
                "{ip} is none of the trusted IPs of {id} (errcode {code}): add it (应用 → 企业可信IP), or send calls from one that is (see --egress-proxy)"
            ));
        } else if code == 0 {
            self.ok(&format!("WeCom accepts calls of {id} from here"));
        } else {
            self.warning(&format!("WeCom answers a call of {id} with errcode {code}"));
        }
    }
}

/// Why a token is not requested unless that is asked for.
fn reason_not_to_request(account: &account::Options, running: &Value) -> Option<String> {
    let classic = "no token was requested: with the classic API each request ends the token of \
        everybody else; --mint requests one all the same";
    let mints = account.source == SourceOptions::Wechat && account.token_api == TokenApi::Classic;
    let classic = mints.then(|| classic.to_owned());
    holds_token(running, &account.appid, account.name.as_deref()).or(classic)
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
