//! Whether each account has a token, and whether WeChat accepts it from here.

use std::{collections::HashSet, sync::Arc};

use futures_util::stream::{self, StreamExt};
use tokio::time::{Duration, Instant, timeout_at};

use super::{
    call::call,
    report::{Check, Finding},
    running::RunningSidecar,
    store::StoreContent,
    upstream::{CheckedUpstream, UpstreamState},
};
use crate::{
    account::{self, AccountError, AccountFactory, SourceOptions},
    client,
    config::Config,
    metrics::{Cause, Metrics},
    net::connector::Connector,
    problems::Kind,
    token::{
        Token,
        source::{FetchRequest, TokenError, TokenSource, api},
    },
    wechat::{
        api::Api,
        errcode::{self, Verdict},
    },
};

/// How long all accounts together may take. A token request may take ten seconds.
const LIMIT: Duration = Duration::from_secs(12);

/// How many accounts are tested at once.
const AT_ONCE: usize = 8;

/// What is known before tokens are asked for.
#[derive(Debug)]
pub(super) struct TokenChecks<'a> {
    pub(super) config: &'a Config,
    /// Whether a token is requested even if that ends the token of others.
    pub(super) mint: bool,
    pub(super) running: &'a RunningSidecar,
    pub(super) store: &'a StoreContent,
    pub(super) upstreams: &'a [(CheckedUpstream<'a>, UpstreamState)],
}

impl TokenChecks<'_> {
    /// Tests the token of each account whose upstream answers, and of each whose tokens come from elsewhere.
    pub(super) async fn findings(&self) -> Vec<Finding> {
        let config = self.config;
        let metrics = Arc::new(Metrics::default());
        let broken = |problem: &dyn std::error::Error| {
            vec![Finding::failed(
                Check::Token,
                "accounts",
                problem.to_string(),
            )]
        };
        let client = match api::client(&config.connect, metrics.clone()) {
            Ok(client) => client,
            Err(problem) => return broken(&problem),
        };
        let connector = match Connector::new(config.connect.clone()) {
            Ok(connector) => Arc::new(connector),
            Err(problem) => return broken(&problem),
        };
        let factory = AccountFactory::new(client, connector, config.token_wait, metrics);
        let accounts = config.accounts.iter();
        let tested = accounts.map(|account| self.of_account(account, &factory));
        let mut tested = stream::iter(tested).buffered(AT_ONCE);
        let (mut findings, mut seen) = (Vec::new(), HashSet::new());
        let (deadline, mut left) = (Instant::now() + LIMIT, config.accounts.len());
        while let Ok(Some(found)) = timeout_at(deadline, tested.next()).await {
            left -= 1;
            // All accounts of an upstream that cannot be reached have the same.
            let mut is_new = |finding: &Finding| {
                seen.insert((finding.subject.clone(), finding.sentence.clone()))
            };
            findings.extend(found.into_iter().filter(|finding| is_new(finding)));
        }
        if left > 0 {
            let sentence = format!(
                "{left} accounts were not tested, since {LIMIT:?} were not enough: their token requests take too long"
            );
            findings.push(Finding::warning(Check::Token, "accounts", sentence));
        }
        findings
    }

    async fn of_account(
        &self,
        account: &account::Options,
        factory: &AccountFactory,
    ) -> Vec<Finding> {
        let mut upstreams = self.upstreams.iter();
        let Some((upstream, state)) = upstreams.find(|(one, _)| one.serves(account)) else {
            return Vec::new();
        };
        if let Some(reason) = self
            .running
            .reason_not_to_request(account)
            .filter(|_| !self.mint)
        {
            let token = Finding::ok(Check::Token, account.id(), reason);
            let revoked = self.revoked(account, upstream, state).await;
            return [token].into_iter().chain(revoked).collect();
        }
        if !state.answers && account.source == SourceOptions::Wechat {
            let (host, names) = (upstream.host(), upstream.names());
            let sentence =
                format!("no token was requested for {names}, since {host} cannot be reached");
            return vec![Finding::warning(Check::Token, host, sentence)];
        }
        let source = match account.token_source(factory) {
            Ok(source) => source,
            Err(problem) => return vec![unopened(account, &problem)],
        };
        let request = FetchRequest {
            cause: Cause::Missing,
            current: None,
        };
        let token = match source.fetch(request).await {
            Ok(fetched) => fetched.token,
            Err(error) => return vec![no_token(account, &error)],
        };
        let tester = TokenTester {
            account,
            connector: &upstream.connector,
            options: self.config.upstream,
        };
        let mut findings = vec![issued(account, &token)];
        if account.api == Api::Wecom {
            findings.push(tester.trusted_ip(&token).await);
        } else if account.source != SourceOptions::Wechat && state.answers {
            findings.extend(tester.refused(&token, "its source has").await);
        }
        findings
    }

    /// What can be known, without a token request, of other programs that request classic tokens of `account`.
    async fn revoked(
        &self,
        account: &account::Options,
        upstream: &CheckedUpstream<'_>,
        state: &UpstreamState,
    ) -> Option<Finding> {
        if !account.fetch_revokes_others() {
            return None;
        }
        let names = account.names();
        if self.running.watches(account) {
            let sentence = format!(
                "the running sidecar watches the token of {names}, and reports token_revoked if another program ends it again and again"
            );
            return Some(Finding::ok(Check::Revoked, account.id(), sentence));
        }
        if let Some(token) = self.store.token_of(account).filter(|_| state.answers) {
            let tester = TokenTester {
                account,
                connector: &upstream.connector,
                options: self.config.upstream,
            };
            let refused = tester.refused(&token, "the store holds").await;
            return Some(refused.unwrap_or_else(|| {
                let sentence = format!("WeChat accepts the token that the store holds of {names}");
                Finding::ok(Check::Revoked, account.id(), sentence)
            }));
        }
        let sentence = format!(
            "whether another program ends the token of {names} cannot be known without one: a running sidecar reports it as token_revoked"
        );
        Some(Finding::ok(Check::Revoked, account.id(), sentence))
    }
}

/// Calls WeChat with a token.
struct TokenTester<'a> {
    account: &'a account::Options,
    connector: &'a Arc<Connector>,
    options: client::Options,
}

impl TokenTester<'_> {
    /// A finding if WeChat refuses `token`, which `whence` says where it is.
    async fn refused(&self, token: &Token, whence: &str) -> Option<Finding> {
        let names = self.account.names();
        // WeChat refuses a good token now and then, and accepts it the next time.
        for attempt in [1, 2] {
            let reply = call(self.connector, self.options, Some(token)).await.ok()?;
            let Verdict::Refused(code) = Verdict::of(self.account.api, &reply.body) else {
                return None;
            };
            if attempt == 2 {
                let sentence =
                    format!("WeChat refuses the token of {names} that {whence} (errcode {code})");
                let finding = Finding::warning(Check::Revoked, self.account.id(), sentence)
                    .advise(Kind::TokenRevoked.advice());
                return Some(finding.detail("errcode", code));
            }
        }
        None
    }

    /// Whether WeCom accepts calls from this IP. It issues tokens to any IP, and rejects calls from untrusted ones.
    async fn trusted_ip(&self, token: &Token) -> Finding {
        let (account, id) = (self.account, self.account.names());
        let reply = match call(self.connector, self.options, Some(token)).await {
            Ok(reply) => reply,
            Err(error) => {
                let sentence = format!("the upstream of {id} cannot be reached: {error}");
                return Finding::failed(Check::Upstream, account.id(), sentence);
            }
        };
        let code = errcode::errcode(&reply.body).unwrap_or_default();
        let finding = if errcode::is_about_the_ip(account.api, code) {
            let ip = errcode::ip(&reply.body).map_or("this IP".to_owned(), |ip| ip.to_string());
            let sentence = format!("{ip} is none of the trusted IPs of {id} (errcode {code})");
            Finding::failed(Check::Whitelist, account.id(), sentence)
                .advise(
                    "add it (应用 → 企业可信IP), or send calls from one that is (see --egress-proxy)",
                )
                .detail("ip", ip)
        } else if code == 0 {
            let sentence = format!("WeCom accepts calls of {id} from here");
            Finding::ok(Check::Whitelist, account.id(), sentence)
        } else {
            let sentence = format!("WeCom answers a call of {id} with errcode {code}");
            Finding::warning(Check::Whitelist, account.id(), sentence)
        };
        finding.detail("errcode", code)
    }
}

fn unopened(account: &account::Options, problem: &AccountError) -> Finding {
    let sentence = format!("{}: {problem}", account.names());
    Finding::failed(Check::Token, account.id(), sentence)
}

fn issued(account: &account::Options, token: &Token) -> Finding {
    let who = match (&account.source, account.api) {
        (SourceOptions::Wechat, Api::Wechat) => "WeChat issues a token to",
        (SourceOptions::Wechat, Api::Wecom) => "WeCom issues a token to",
        (SourceOptions::File(_), _) => "the file holds a token for",
        (SourceOptions::Http(_), _) => "the server has a token for",
    };
    let seconds = token.lifetime().as_secs();
    let sentence = format!("{who} {}; it lives {seconds} s", account.names());
    Finding::ok(Check::Token, account.id(), sentence).detail("lifetime_seconds", seconds)
}

/// A failed token request. The whitelist is a check of its own.
fn no_token(account: &account::Options, error: &TokenError) -> Finding {
    let code = error.code();
    let by_ip = code.is_some_and(|code| errcode::is_about_the_ip(account.api, code));
    let text = error.to_string();
    let ip = errcode::ip(text.as_bytes()).filter(|_| by_ip);
    let sentence = match ip {
        Some(ip) => format!(
            "{ip} is not on the IP whitelist of {}: {text}",
            account.names()
        ),
        None => format!("no token for {}: {text}", account.names()),
    };
    let check = if by_ip {
        Check::Whitelist
    } else {
        Check::Token
    };
    let mut finding = Finding::failed(check, account.id(), sentence).detail("errcode", code);
    finding.advice = account.advice(error);
    match ip {
        Some(ip) => finding.detail("ip", ip.to_string()),
        None => finding,
    }
}
