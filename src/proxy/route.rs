//! Whose call is it, and may it pass.

use std::sync::Arc;

use http::{Method, request::Parts};

use super::{error::Failure, target::values};
use crate::{
    account::{Account, Directory, PLACEHOLDER},
    endpoint::Endpoint,
};

/// A call that may be looked at, and what it is.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) head: &'a Parts,
    /// As it came, with one slash at its beginning.
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) endpoint: Endpoint<'a>,
    pub(super) account: &'a Arc<Account>,
}

impl<'a> Call<'a> {
    /// Reads the target of a call.
    pub(super) fn of(head: &'a Parts, directory: &'a Directory) -> Result<Self, Failure> {
        let raw = head.uri.path();
        // An SDK whose base URL ends in a slash calls //cgi-bin/….
        let surplus = raw
            .bytes()
            .take_while(|byte| *byte == b'/')
            .count()
            .saturating_sub(1);
        let path = &raw[surplus..];
        let account = directory.default_account().ok_or_else(|| {
            Failure::Malformed("it does not say which account it is for".to_owned())
        })?;
        let endpoint = Endpoint::of(account.kind, path.as_bytes())
            .map_err(|error| Failure::Malformed(error.to_string()))?;
        Ok(Self {
            head,
            path,
            query: head.uri.query(),
            endpoint,
            account,
        })
    }

    /// Whether a call can be sent again on a fresh connection when WeChat closed the one it was
    /// sent on: it changes nothing, and is no login, whose code works once.
    pub(super) fn is_repeatable(&self) -> bool {
        let safe = matches!(self.head.method, Method::GET | Method::HEAD);
        safe && !self.endpoint.is_login()
    }

    /// Where its endpoint stands in the table, if its target is that and nothing else.
    pub(super) fn plain_row(&self) -> Option<usize> {
        let bare = self.query.is_none_or(str::is_empty);
        bare.then(|| self.endpoint.plain_row()).flatten()
    }

    /// Whether it carries our placeholder instead of a token.
    pub(super) fn has_placeholder(&self) -> bool {
        let tokens =
            values(self.query, "access_token").chain(values(self.query, "component_access_token"));
        tokens
            .into_iter()
            .any(|token| token.starts_with(PLACEHOLDER))
    }

    /// Whether the query names an AppID, ours. Another one is answered as WeChat would.
    pub(super) fn names_appid(&self) -> Result<bool, Failure> {
        let mut named = false;
        for appid in values(self.query, "appid").filter(|appid| !appid.is_empty()) {
            if appid != self.account.appid {
                return Err(Failure::ForeignAppid);
            }
            named = true;
        }
        Ok(named)
    }
}
