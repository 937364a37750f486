//! `check`: tests the configuration, and prints one plain sentence per line.

mod running;

use std::{net::IpAddr, process::ExitCode, sync::Arc};

use bytes::Bytes;
use http::{Method, Response};
use http_body_util::{BodyExt, Limited};

use super::output::say;
use crate::{
    account::{self, AccountError, AccountFactory, SourceOptions},
    app::open_files,
    body::buffered::BufferedBody,
    client::{ResponseBody, Upstream, UpstreamRequest},
    config::Config,
    metrics::{Cause, Metrics},
    net::connector::Connector,
    token::{
        Token,
        source::{FetchRequest, TokenSource, api, redis::Redis, store::Store, wechat::TokenApi},
    },
    wechat::{api::Api, errcode},
};
use running::reason_not_to_request;

/// WeChat answers this path even without a token, with an error code.
const HARMLESS: &str = "/cgi-bin/get_api_domain_ip";

/// A call to [`HARMLESS`], behind `prefix` and with `query`.
fn harmless(prefix: &str, query: &str) -> Option<UpstreamRequest> {
    let body = BufferedBody::ready(Bytes::new());
    UpstreamRequest::new(&Method::GET, body, |target| {
        target.extend_from_slice([prefix, HARMLESS, query].concat().as_bytes());
    })
    .ok()
}

/// The largest reply that is read. Error pages may be larger, and are not needed.
const MAX_REPLY: usize = 64 * 1024;

/// Prints what works, and fails if something does not. A classic token is requested only with `mint`, because the
/// request ends the token of everybody else.
pub(super) async fn check(config: &Config, mint: bool) -> ExitCode {
    let mut report = Report { failed: false };
    report.configuration(config);
    report.open_files(config);
    let running = report.running(config).await;
    let connector = match Connector::new(config.connect.clone()) {
        Ok(connector) => Arc::new(connector),
        Err(error) => {
            report.failed(&error.to_string());
            return report.end();
        }
    };
    report.store(config).await;
    let mut is_reachable = true;
    let is_common = |account: &account::Options| account.upstream.is_none();
    if config.accounts.iter().any(is_common) {
        report.dns(config).await;
        is_reachable = report.upstream(config, &connector).await;
        if !is_reachable {
            report.warning("no token was requested from there, since WeChat cannot be reached");
        }
    }
    let reachable = |account: &&account::Options| is_reachable || !is_common(account);
    for account in config.accounts.iter().filter(reachable) {
        match reason_not_to_request(account, &running) {
            Some(reason) if !mint => report.ok(&reason),
            _ => report.token(config, &connector, account).await,
        }
    }
    report.end()
}

/// Prints the lines, and remembers whether any is a failure.
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

    /// Reports whether all connections may be open at once.
    fn open_files(&self, config: &Config) {
        open_files::raise_limit();
        if let Some(warning) = open_files::fit(&mut config.clone()) {
            self.warning(&warning);
        }
    }

    /// Reports whether the store answers, and whether it holds tokens.
    async fn store(&mut self, config: &Config) {
        let Some(options) = &config.store else { return };
        let redis = Redis::new(options.clone(), config.connect.dns.nearby());
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

    /// Reports the addresses of WeChat's host.
    async fn dns(&self, config: &Config) {
        let Some(origin) = config.connect.origins.first() else {
            return;
        };
        if config.connect.egress.is_some() || origin.host.parse::<IpAddr>().is_ok() {
            return;
        }
        // If this fails, so does the connection, which reports it.
        if let Ok(found) = config.connect.dns.resolve(&origin.host).await {
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            self.ok(&format!("{} is at {}", origin.host, found.join(", ")));
        }
    }

    /// Reports whether WeChat answers a call without a token. Returns whether anything answers.
    async fn upstream(&mut self, config: &Config, connector: &Arc<Connector>) -> bool {
        let upstream = Upstream::new(
            connector.clone(),
            config.upstream,
            Arc::new(Metrics::default()),
        );
        let Some(call) = harmless("", "") else {
            return false;
        };
        let sent = upstream.send(call, true, drop).await;
        let answered = sent.is_ok();
        match sent {
            Ok(reply) => self.upstream_reply(config, connector, reply).await,
            Err(error) => self.failed(&format!("WeChat cannot be reached: {error}")),
        }
        answered
    }

    /// Reports the host that answered, and whether it answers as WeChat does.
    async fn upstream_reply(
        &self,
        config: &Config,
        connector: &Connector,
        reply: Response<ResponseBody>,
    ) {
        let egress = config.connect.egress.as_ref();
        let by = egress.map_or(String::new(), |egress| {
            format!(" through the egress proxy {egress}")
        });
        // The origin that could be connected comes first now.
        let origins = connector.origins();
        let (Some(first), Some(origin)) = (config.connect.origins.first(), origins.first()) else {
            return;
        };
        if *origin != first {
            self.warning(&format!(
                "{} cannot be connected, {} stands in for it",
                first.host, origin.host
            ));
        }
        let status = reply.status().as_u16();
        let body = Limited::new(reply.into_body(), MAX_REPLY).collect().await;
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

    /// Requests a token for `account`, and reports the result.
    async fn token(
        &mut self,
        config: &Config,
        connector: &Arc<Connector>,
        account: &account::Options,
    ) {
        let metrics = Arc::new(Metrics::default());
        let client = match api::client(&config.connect, metrics.clone()) {
            Ok(client) => client,
            Err(problem) => return self.failed(&problem.to_string()),
        };
        let factory = AccountFactory::new(client, connector.clone(), config.token_wait, metrics);
        let of_account = |problem: AccountError| format!("{}: {problem}", account.names());
        let opened = (account.token_source(&factory), account.connector(&factory));
        let (source, connector) = match opened {
            (Ok(source), Ok(connector)) => (source, connector),
            (Err(problem), _) | (_, Err(problem)) => return self.failed(&of_account(problem)),
        };
        if account.upstream.is_some() {
            let reply = self.own_upstream(config, account, &connector, "").await;
            if reply.is_none() {
                return;
            }
        }
        let request = FetchRequest {
            cause: Cause::Missing,
            current: None,
        };
        match source.fetch(request).await {
            Ok(fetched) => {
                let seconds = fetched.token.lifetime().as_secs();
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
                    self.trusted_ip(config, account, &connector, &fetched.token)
                        .await;
                }
            }
            Err(error) => {
                let problem = account.explain(&error);
                self.failed(&format!("no token for {}: {problem}", account.names()));
            }
        }
    }

    /// Sends a call with `query` to an account's own upstream, and reports whether that answers. Returns the body.
    async fn own_upstream(
        &mut self,
        config: &Config,
        account: &account::Options,
        connector: &Arc<Connector>,
        query: &str,
    ) -> Option<Bytes> {
        let call = harmless(connector.prefix(), query)?;
        let upstream = Upstream::new(
            connector.clone(),
            config.upstream,
            Arc::new(Metrics::default()),
        );
        match upstream.send(call, true, drop).await {
            Ok(reply) => {
                if query.is_empty()
                    && let Some(origin) = connector.origins().first()
                {
                    self.ok(&format!("{origin} answers, for {}", account.names()));
                }
                let body = Limited::new(reply.into_body(), MAX_REPLY);
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

    /// Reports whether WeCom accepts calls from this IP. It issues tokens to any IP, and rejects calls from untrusted ones.
    async fn trusted_ip(
        &mut self,
        config: &Config,
        account: &account::Options,
        connector: &Arc<Connector>,
        token: &Token,
    ) {
        let query = format!("?access_token={}", token.encoded());
        let body = self.own_upstream(config, account, connector, &query).await;
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
