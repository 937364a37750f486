//! Routes a call to its account, and to an endpoint of that account's API.

use std::sync::Arc;

use http::{Method, request::Parts};
use tokio::time::Duration;

use super::{
    ListenerInfo, Reply,
    cause::Malformed,
    error::ProxyError,
    select_account::{self, BodyAppid, Selected, select_account, with_one_slash},
    sends::Sends,
    target::values,
};
use crate::{
    account::{Account, Accounts},
    client::Waited,
    metrics::Selection,
    problems::{Kind, Occurrence},
    wechat::{
        api::Api,
        endpoint::{Endpoint, label},
        errcode,
    },
};

/// An app that goes away sooner may have other reasons than WeChat's slowness.
const SLOW: Duration = Duration::from_secs(2);

/// A call with its account and its endpoint.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) head: &'a Parts,
    /// The path as it arrived, but with one slash at its beginning, and without an account's segment.
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) endpoint: Endpoint<'a>,
    pub(super) account: Arc<Account>,
    /// Its sends so far.
    pub(super) sends: Sends,
}

impl<'a> Call<'a> {
    /// Routes the call with this `head`. Returns `None` for a token request whose body must be read first.
    pub(super) fn of(
        head: &'a Parts,
        listener: &ListenerInfo,
        accounts: &Accounts,
        in_body: BodyAppid<'_>,
    ) -> Result<Option<Self>, ProxyError> {
        let target = (with_one_slash(head.uri.path()), head.uri.query());
        let found = select_account(target, &head.headers, listener, accounts, in_body)?;
        let Some(Selected { account, by, path }) = found else {
            return Ok(None);
        };
        let endpoint = Endpoint::of(account.api, path.as_bytes()).map_err(Malformed::from)?;
        if endpoint.row().is_none() {
            if by == Selection::Path && select_account::begins_with_account(accounts, path) {
                return Err(ProxyError::TwoAccounts);
            }
            if select_account::is_meant_for_another(endpoint.path()) {
                return Err(select_account::unknown(accounts));
            }
            if select_account::is_token_request_elsewhere(account.api, &endpoint) {
                return Err(ProxyError::ForeignAppid);
            }
        }
        account.metrics.selected(by);
        Ok(Some(Self {
            head,
            path,
            query: head.uri.query(),
            endpoint,
            account,
            sends: Sends::default(),
        }))
    }

    /// The label of its endpoint in logs.
    pub(super) fn endpoint_label(&self) -> &'static str {
        self.endpoint.row().map_or("other", label)
    }

    /// Notes a problem that this call met, with what the reply says of it.
    pub(super) fn note_problem(&self, kind: Kind, reply: &Reply) {
        let body = reply.body().start();
        self.account.metrics.problems.occurred(
            kind,
            Occurrence {
                endpoint: Some(self.endpoint_label()),
                errcode: errcode::errcode(body),
                rid: errcode::rid(body),
                ..Occurrence::default()
            },
        );
    }

    /// Counts a wait for WeChat's reply. An app that gives up after a while has met a WeChat that is too slow for it.
    pub(super) fn waited(&self, waited: Waited) {
        let (Waited::Ended(after) | Waited::Abandoned(after)) = waited;
        self.account.metrics.latency(after);
        self.sends.took(after);
        if matches!(waited, Waited::Abandoned(_)) && after >= SLOW {
            let cause = format_args!("an app gave up after {:.1} s", after.as_secs_f64());
            self.account.metrics.problems.occurred(
                Kind::Timeout,
                Occurrence {
                    endpoint: Some(self.endpoint_label()),
                    cause: Some(&cause),
                    ..Occurrence::default()
                },
            );
        }
    }

    /// Whether a call can be sent again on a fresh connection when WeChat closed the one it was
    /// sent on: it changes nothing, and is no login, whose code works once.
    pub(super) fn is_repeatable(&self) -> bool {
        let safe = matches!(self.head.method, Method::GET | Method::HEAD);
        safe && !self.endpoint.is_login()
    }

    /// Whether the query has our AppID, so that it need not be added. Another AppID is answered with WeChat's own
    /// error.
    pub(super) fn names_appid(&self) -> Result<bool, ProxyError> {
        let (mut named, mut by_name) = (false, false);
        let parameter = match self.account.api {
            Api::Wechat => "appid",
            Api::Wecom => "corpid",
        };
        for name in values(self.query, parameter).filter(|name| !name.is_empty()) {
            if !self.account.is_called(&name) {
                return Err(ProxyError::ForeignAppid);
            }
            named = true;
            by_name |= name != self.account.appid;
        }
        Ok(named && !by_name)
    }
}
