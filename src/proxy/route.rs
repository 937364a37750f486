//! Whose call is it, and may it pass.

use std::sync::Arc;

use http::{Method, request::Parts};

use super::{
    ListenerInfo,
    cause::Malformed,
    error::ProxyError,
    select_account::{self, Selected, select_account, with_one_slash},
    target::values,
};
use crate::{
    account::{Account, Accounts},
    metrics::Selection,
    wechat::{
        api::Api,
        endpoint::{Endpoint, label},
    },
};

/// A call that may be looked at, and what it is.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) head: &'a Parts,
    /// As it came, with one slash at its beginning, and without an account's segment.
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) endpoint: Endpoint<'a>,
    pub(super) account: Arc<Account>,
}

impl<'a> Call<'a> {
    /// Whose the call with this `head` is, and what it is. `in_body` is the
    /// AppID in the body of a token request, empty for none. `None` for a token request of which
    /// the body must tell.
    pub(super) fn of(
        head: &'a Parts,
        entrance: &ListenerInfo,
        accounts: &Accounts,
        in_body: Option<&str>,
    ) -> Result<Option<Self>, ProxyError> {
        let target = (with_one_slash(head.uri.path()), head.uri.query());
        let found = select_account(target, &head.headers, entrance, accounts, in_body)?;
        let Some(Selected { account, way, path }) = found else {
            return Ok(None);
        };
        let endpoint = Endpoint::of(account.api, path.as_bytes()).map_err(Malformed::from)?;
        if endpoint.row().is_none() {
            if way == Selection::Path && select_account::begins_with_somebody(accounts, path) {
                return Err(ProxyError::TwoAccounts);
            }
            if select_account::is_meant_for_another(endpoint.path()) {
                return Err(select_account::unknown(accounts));
            }
            if select_account::is_token_request_elsewhere(account.api, &endpoint) {
                return Err(ProxyError::ForeignAppid);
            }
        }
        account.metrics.selected(way);
        Ok(Some(Self {
            head,
            path,
            query: head.uri.query(),
            endpoint,
            account,
        }))
    }

    /// What its endpoint is called in logs.
    pub(super) fn endpoint_label(&self) -> &'static str {
        self.endpoint.row().map_or("other", label)
    }

    /// Whether a call can be sent again on a fresh connection when WeChat closed the one it was
    /// sent on: it changes nothing, and is no login, whose code works once.
    pub(super) fn is_repeatable(&self) -> bool {
        let safe = matches!(self.head.method, Method::GET | Method::HEAD);
        safe && !self.endpoint.is_login()
    }

    /// Whether the query names our AppID, and so needs no other. An AppID of nobody's is answered as
    /// WeChat would.
    pub(super) fn names_appid(&self) -> Result<bool, ProxyError> {
        let (mut named, mut by_name) = (false, false);
        let parameter = match self.account.api {
            Api::Wechat => "appid",
            Api::Wecom => "corpid",
        };
        for word in values(self.query, parameter).filter(|word| !word.is_empty()) {
            if !self.account.is_called(&word) {
                return Err(ProxyError::ForeignAppid);
            }
            named = true;
            by_name |= word != self.account.appid;
        }
        Ok(named && !by_name)
    }
}
