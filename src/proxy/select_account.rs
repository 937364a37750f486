//! Selects a call's account: by the name or the token in the call, by the listener, or by default.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderName, header::HeaderMap};
use percent_encoding::percent_decode;

use super::{
    ListenerInfo,
    error::ProxyError,
    guard::APPID,
    target::{named, values},
};
use crate::{
    account::{Account, Accounts, Lookup},
    metrics::Selection,
    token::PLACEHOLDER,
    wechat::{
        api::Api,
        endpoint::{Credential, Endpoint, STABLE_TOKEN},
    },
};

/// The account of a call, and how it was found.
pub(super) struct Selected<'a> {
    pub(super) account: Arc<Account>,
    pub(super) by: Selection,
    /// The path without the account's segment, with one slash at its beginning.
    pub(super) path: &'a str,
}

/// The AppID in the body of a token request.
#[derive(Clone, Copy)]
pub(super) enum BodyAppid<'a> {
    /// The body was not read yet.
    Unread,
    /// The body was read, and this is in it.
    Read(Option<&'a str>),
}

/// The hints at its account that were found in a call so far.
struct Hints<'a> {
    accounts: &'a Accounts,
    account: Option<(&'a Arc<Account>, Selection)>,
    /// Corpids that several accounts share.
    ambiguous: Vec<String>,
}

impl Hints<'_> {
    /// Whether no hint was found yet.
    fn is_empty(&self) -> bool {
        self.account.is_none() && self.ambiguous.is_empty()
    }

    /// Adds that the call names an account as `name`, in the place that `by` says.
    fn add(&mut self, by: Selection, name: &str) -> Result<(), ProxyError> {
        match (self.accounts.find(name), self.account) {
            (Lookup::One(found), None) => self.account = Some((found, by)),
            (Lookup::One(found), Some((account, _))) if Arc::ptr_eq(found, account) => {}
            (Lookup::One(_), Some(_)) => return Err(ProxyError::TwoAccounts),
            (Lookup::Ambiguous, _) => self.ambiguous.push(name.to_owned()),
            (Lookup::Unknown, _) if by == Selection::Appid => {
                return Err(ProxyError::ForeignAppid);
            }
            (Lookup::Unknown, _) => return Err(unknown(self.accounts)),
        }
        Ok(())
    }

    /// Adds the accounts of the tokens that a call brings. `endpoint` is the call's if it is for WeChat. A token that
    /// an account has, or had, names this account. A token that may be WeChat's, but is no account's, must not be
    /// replaced by that of the default account.
    fn add_tokens(
        &mut self,
        endpoint: Option<&Endpoint<'_>>,
        query: Option<&str>,
    ) -> Result<(), ProxyError> {
        let mut tokens = access_tokens(query)
            .filter(|token| !token.is_empty() && !token.starts_with(PLACEHOLDER))
            .peekable();
        if tokens.peek().is_none() || !self.ambiguous.is_empty() || !self.is_replaced(endpoint) {
            return Ok(());
        }
        let mut unknown = false;
        for token in tokens {
            let mut holders = self.accounts.with_token(&token).peekable();
            match (holders.peek(), self.account) {
                (None, _) => unknown |= may_be_real(&token),
                (Some(holder), None) => self.account = Some((holder, Selection::Token)),
                (Some(_), Some((account, _))) => {
                    if !holders.any(|holder| Arc::ptr_eq(holder, account)) {
                        return Err(ProxyError::TwoAccounts);
                    }
                }
            }
        }
        if unknown && self.account.is_none() && self.may_be_wechats() {
            return Err(ProxyError::UnknownToken);
        }
        Ok(())
    }

    /// Whether a call without a hint can be for WeChat. A call to WeCom may bring a token that is no account's of ours.
    fn may_be_wechats(&self) -> bool {
        let is_wechats = |account: &Arc<Account>| account.api == Api::Wechat;
        let default = self.accounts.default_account().map(is_wechats);
        default.unwrap_or_else(|| self.accounts.has_wechats())
    }

    /// Whether the token that a call to `endpoint` brings would be replaced by that of a WeChat account.
    fn is_replaced(&self, endpoint: Option<&Endpoint<'_>>) -> bool {
        self.account
            .is_none_or(|(account, _)| account.api == Api::Wechat)
            && endpoint.is_some_and(|endpoint| {
                endpoint.credential == Credential::AccessToken
                    && (endpoint.row().is_some() || !is_meant_for_another(endpoint.path()))
            })
    }
}

/// Whether `token` may be one of WeChat's, and not a word that was given to an SDK instead of one.
fn may_be_real(token: &str) -> bool {
    const SHORTEST: usize = 100;
    let is_of_its_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    token.len() >= SHORTEST && token.bytes().all(is_of_its_alphabet)
}

/// Selects the account of a call to `path`, which begins with one slash. `None` for a token request whose body must be read first.
pub(super) fn select_account<'a>(
    (path, query): (&'a str, Option<&str>),
    headers: &HeaderMap,
    listener: &ListenerInfo,
    accounts: &Accounts,
    in_body: BodyAppid<'_>,
) -> Result<Option<Selected<'a>>, ProxyError> {
    let mut hints = Hints {
        accounts,
        account: None,
        ambiguous: Vec::new(),
    };
    // One pass over the names costs less than a lookup.
    if headers.keys().any(is_appid) {
        for value in headers.get_all(APPID) {
            let name = value.to_str().unwrap_or_default().trim();
            hints.add(Selection::Header, name)?;
        }
    }
    let path = match first_segment(path) {
        Some((segment, rest)) if is_account(accounts, segment) => {
            hints.add(Selection::Path, segment)?;
            with_one_slash(rest)
        }
        _ => path,
    };
    for placeholder in placeholders(query) {
        hints.add(Selection::Placeholder, &placeholder)?;
    }
    if let Some(id) = &listener.account {
        hints.add(Selection::Listener, id)?;
    }
    // A single account is compared with the AppID when the call is answered.
    if !accounts.is_one() && !add_appid_or_tokens(path, query, in_body, &mut hints)? {
        return Ok(None);
    }
    let (account, by) = match hints.account {
        Some(found) => found,
        None if !hints.ambiguous.is_empty() => return Err(ProxyError::SharedCorpid),
        None => {
            let default = accounts.default_account();
            let default = default.ok_or_else(|| no_account(path, accounts))?;
            (default, Selection::Default)
        }
    };
    if hints.ambiguous.iter().any(|name| !account.is_called(name)) {
        return Err(ProxyError::TwoAccounts);
    }
    let account = account.clone();
    Ok(Some(Selected { account, by, path }))
}

/// The error of a call for an account that is not there.
pub(super) fn unknown(accounts: &Accounts) -> ProxyError {
    ProxyError::UnknownAccount(accounts.names())
}

/// The error of a call to `path` that says nothing else of its account.
fn no_account(path: &str, accounts: &Accounts) -> ProxyError {
    match Endpoint::of(Api::Wechat, path.as_bytes()) {
        Ok(endpoint) if is_meant_for_another(endpoint.path()) => unknown(accounts),
        Ok(_) | Err(_) => ProxyError::NoAccount,
    }
}

/// Whether the first segment of `path`, which is in no table, can only be meant as an account: it has the form of an
/// AppID, or the rest is a path of the tables.
pub(super) fn is_meant_for_another(path: &[u8]) -> bool {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let end = path.iter().position(|byte| *byte == b'/');
    let (segment, rest) = path.split_at(end.unwrap_or(path.len()));
    let digits = segment
        .strip_prefix(b"wx")
        .or_else(|| segment.strip_prefix(b"ww"));
    let is_appid =
        digits.is_some_and(|digits| digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit));
    let is_known = |api| Endpoint::of(api, rest).is_ok_and(|endpoint| endpoint.row().is_some());
    is_appid || is_known(Api::Wechat) || is_known(Api::Wecom)
}

/// Whether `path`, of which an account's segment was taken, begins with another.
pub(super) fn begins_with_account(accounts: &Accounts, path: &str) -> bool {
    first_segment(path).is_some_and(|(segment, _)| is_account(accounts, segment))
}

/// Whether `endpoint`, which `api` does not have, is a token request at the other API. Such a call has a secret in it,
/// which `api` must not see.
pub(super) fn is_token_request_elsewhere(api: Api, endpoint: &Endpoint<'_>) -> bool {
    let other = match api {
        Api::Wechat => Api::Wecom,
        Api::Wecom => Api::Wechat,
    };
    let there = Endpoint::of(other, endpoint.path());
    there.is_ok_and(|there| there.credential == Credential::TokenRequest)
}

/// The path with exactly one slash at its beginning. An SDK whose base URL ends in a slash calls //cgi-bin/….
pub(super) fn with_one_slash(path: &str) -> &str {
    let slashes = path.bytes().take_while(|byte| *byte == b'/').count();
    match slashes {
        0 if path.is_empty() => "/",
        slashes => &path[slashes.saturating_sub(1)..],
    }
}

/// Adds the AppID of a token request or the tokens of any other call. Returns false if the AppID can only be in the
/// body, which must be read first.
fn add_appid_or_tokens(
    path: &str,
    query: Option<&str>,
    in_body: BodyAppid<'_>,
    hints: &mut Hints<'_>,
) -> Result<bool, ProxyError> {
    let at_wechat = Endpoint::of(Api::Wechat, path.as_bytes()).ok();
    let at_wecom = Endpoint::of(Api::Wecom, path.as_bytes()).ok();
    let request = add_appids([at_wechat.as_ref(), at_wecom.as_ref()], query, hints)?;
    match (in_body, request) {
        (BodyAppid::Read(None), _) => {}
        (BodyAppid::Read(Some(appid)), _) => hints.add(Selection::Appid, appid)?,
        (BodyAppid::Unread, Some(request)) => {
            return Ok(!hints.is_empty() || request.path() != STABLE_TOKEN.as_bytes());
        }
        (BodyAppid::Unread, None) => hints.add_tokens(at_wechat.as_ref(), query)?,
    }
    Ok(true)
}

/// Adds the AppIDs that an SDK sends when it requests a token or a user's session. `endpoints` are the endpoint of
/// the call at WeChat and at WeCom. Returns that of such a request.
fn add_appids<'a>(
    endpoints: [Option<&'a Endpoint<'a>>; 2],
    query: Option<&str>,
    hints: &mut Hints<'_>,
) -> Result<Option<&'a Endpoint<'a>>, ProxyError> {
    let mut found = None;
    for (endpoint, parameter) in endpoints.into_iter().zip(["appid", "corpid"]) {
        let Some(endpoint) = endpoint.filter(|endpoint| takes_secret(endpoint)) else {
            continue;
        };
        for appid in values(query, parameter).filter(|appid| !appid.is_empty()) {
            hints.add(Selection::Appid, &appid)?;
        }
        found = Some(endpoint);
    }
    Ok(found)
}

fn takes_secret(endpoint: &Endpoint<'_>) -> bool {
    matches!(
        endpoint.credential,
        Credential::TokenRequest | Credential::Secret
    )
}

fn is_account(accounts: &Accounts, segment: &str) -> bool {
    !matches!(accounts.find(segment), Lookup::Unknown)
}

fn is_appid(name: &HeaderName) -> bool {
    const NAME: HeaderName = HeaderName::from_static(APPID);
    *name == NAME
}

/// The first segment of a path, and the rest.
fn first_segment(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix('/')?;
    let end = path.find('/').unwrap_or(path.len());
    Some(path.split_at(end))
}

/// The texts behind `sidecar-` in the placeholders of a query.
fn placeholders(query: Option<&str>) -> impl Iterator<Item = Cow<'_, str>> {
    access_tokens(query).filter_map(|token| match token {
        Cow::Borrowed(token) => token.strip_prefix(PLACEHOLDER).map(Cow::Borrowed),
        Cow::Owned(token) => token
            .strip_prefix(PLACEHOLDER)
            .map(|id| id.to_owned().into()),
    })
}

/// The decoded tokens of a query.
fn access_tokens(query: Option<&str>) -> impl Iterator<Item = Cow<'_, str>> {
    let parameters = query.into_iter().flat_map(|query| query.split('&'));
    parameters.filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        if !named(name, "access_token") {
            return None;
        }
        Some(if value.contains('%') {
            percent_decode(value.as_bytes()).decode_utf8_lossy()
        } else {
            Cow::Borrowed(value)
        })
    })
}

#[cfg(test)]
mod tests;
