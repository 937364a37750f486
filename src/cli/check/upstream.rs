//! Whether each upstream answers a call without a token.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::{
    call::{HarmlessReply, call},
    clock::{self, ClockSample},
    report::{Check, Finding},
};
use crate::{
    account,
    config::Config,
    net::connector::{ConnectOptions, Connector, DialError},
    wechat::errcode,
};

/// An upstream, and whose it is.
#[derive(Debug)]
pub(super) struct CheckedUpstream<'a> {
    pub(super) connector: Arc<Connector>,
    options: &'a ConnectOptions,
    /// Whether it is that of all accounts that have none of their own.
    is_common: bool,
    accounts: Vec<&'a account::Options>,
}

/// What is known of an upstream.
#[derive(Debug, Default)]
pub(super) struct UpstreamState {
    pub(super) findings: Vec<Finding>,
    /// Whether anything answers.
    pub(super) answers: bool,
    clock: Option<(String, ClockSample)>,
}

/// All upstreams that accounts use. The common one comes first.
pub(super) fn all(config: &Config) -> Result<Vec<CheckedUpstream<'_>>, DialError> {
    let mut found: Vec<CheckedUpstream<'_>> = Vec::new();
    let accounts = config.accounts.iter();
    let (common, own): (Vec<_>, Vec<_>) = accounts.partition(|one| one.upstream.is_none());
    for account in common.into_iter().chain(own) {
        match found.iter_mut().find(|known| known.serves(account)) {
            Some(known) => known.accounts.push(account),
            None => {
                let options = account.upstream.as_deref().unwrap_or(&config.connect);
                found.push(CheckedUpstream {
                    connector: Arc::new(Connector::new(options.clone())?),
                    options,
                    is_common: account.upstream.is_none(),
                    accounts: vec![account],
                });
            }
        }
    }
    Ok(found)
}

impl CheckedUpstream<'_> {
    /// Whether calls of `account` go there.
    pub(super) fn serves(&self, account: &account::Options) -> bool {
        match &account.upstream {
            None => self.is_common,
            Some(own) => !self.is_common && self.options.same_target(own),
        }
    }

    /// Calls it. There is no later answer than at `deadline`.
    pub(super) async fn look(&self, config: &Config, deadline: Instant) -> UpstreamState {
        let subject = self.host();
        let cannot = |why: &str| {
            let who = match self.is_common {
                true => "WeChat".to_owned(),
                false => format!("the upstream of {}", self.names()),
            };
            let sentence = format!("{who} cannot be reached: {why}");
            let failed = Finding::failed(Check::Upstream, subject, sentence).advise(
                "look at what the cause names: DNS, the egress proxy, the firewall or a NetworkPolicy",
            );
            UpstreamState {
                findings: vec![failed],
                ..UpstreamState::default()
            }
        };
        let called = call(&self.connector, config.upstream, None);
        match timeout_at(deadline, called).await {
            Ok(Ok(reply)) => self.answered(subject, &reply),
            Ok(Err(error)) => cannot(&error.to_string()),
            Err(_) => cannot("it takes too long"),
        }
    }

    /// Reports the host that answered, and whether it answers as WeChat does.
    fn answered(&self, subject: &str, reply: &HarmlessReply) -> UpstreamState {
        let mut findings = Vec::new();
        // The origin that could be connected comes first now.
        let origins = self.connector.origins();
        let Some(origin) = origins.first() else {
            return UpstreamState::default();
        };
        if origin.host != subject {
            let sentence = format!(
                "{subject} cannot be connected, {} stands in for it",
                origin.host
            );
            findings.push(Finding::warning(Check::Upstream, subject, sentence));
        }
        let through = self
            .options
            .egress
            .as_ref()
            .map_or(String::new(), |egress| {
                format!(" through the egress proxy {egress}")
            });
        let code = errcode::errcode(&reply.body);
        let answers = match self.is_common {
            true => format!("{origin} answers{through}"),
            false => format!("{origin} answers{through}, for {}", self.names()),
        };
        let finding = match code {
            // A private deployment may answer as it likes.
            None if self.is_common => {
                let sentence = format!(
                    "{answers}, but not as WeChat does (HTTP status {})",
                    reply.status
                );
                Finding::warning(Check::Upstream, &origin.host, sentence)
                    .advise("is it WeChat, or does a gateway or a captive portal answer?")
            }
            _ => Finding::ok(Check::Upstream, &origin.host, answers),
        };
        findings.push(
            finding
                .detail("status", reply.status)
                .detail("errcode", code),
        );
        let clock = reply.clock.map(|clock| (origin.host.clone(), clock));
        UpstreamState {
            findings,
            answers: true,
            clock,
        }
    }

    /// Its first host.
    pub(super) fn host(&self) -> &str {
        let first = self.options.origins.first();
        first.map_or("", |origin| &origin.host)
    }

    /// The first of its accounts, and how many more there are.
    pub(super) fn names(&self) -> String {
        let names: Vec<String> = self
            .accounts
            .iter()
            .take(3)
            .map(|one| one.names())
            .collect();
        let more = match self.accounts.len().saturating_sub(names.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{}{more}", names.join(", "))
    }
}

/// The clock of this machine, by the first upstream that said what time it is.
pub(super) fn clock(upstreams: &[UpstreamState]) -> Option<Finding> {
    let mut samples = upstreams.iter().filter_map(|state| state.clock.as_ref());
    let (host, sample) = samples.next()?;
    Some(clock::finding(host, *sample))
}
