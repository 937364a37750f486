//! Whose call it is: by what it says, by the token it brings, by where it came in, or by default.

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
    account::{Account, Accounts, Lookup, PLACEHOLDER},
    metrics::Selection,
    wechat::{
        api::Api,
        endpoint::{Credential, Endpoint, STABLE_TOKEN},
    },
};

/// Whose a call is, and how that was known.
pub(super) struct Selected<'a> {
    pub(super) account: Arc<Account>,
    pub(super) way: Selection,
    /// The path without the account's segment, with one slash at its beginning.
    pub(super) path: &'a str,
}

/// The words for an account that were found so far.
struct Hints<'a> {
    accounts: &'a Accounts,
    account: Option<(&'a Arc<Account>, Selection)>,
    /// Corpids that several accounts share.
    vague: Vec<String>,
}

impl Hints<'_> {
    /// Whether no word was found yet.
    fn is_silent(&self) -> bool {
        self.account.is_none() && self.vague.is_empty()
    }

    /// The call says `word`.
    fn word(&mut self, way: Selection, word: &str) -> Result<(), ProxyError> {
        match (self.accounts.find(word), self.account) {
            (Lookup::One(found), None) => self.account = Some((found, way)),
            (Lookup::One(found), Some((account, _))) if Arc::ptr_eq(found, account) => {}
            (Lookup::One(_), Some(_)) => return Err(ProxyError::TwoAccounts),
            (Lookup::Ambiguous, _) => self.vague.push(word.to_owned()),
            (Lookup::Unknown, _) if way == Selection::Appid => {
                return Err(ProxyError::ForeignAppid);
            }
            (Lookup::Unknown, _) => return Err(unknown(self.accounts)),
        }
        Ok(())
    }

    /// The call to `path` brings tokens of its own. A token that an account has, or had, says whose it is. One
    /// that looks like WeChat's and is nobody's must not be replaced by that of whoever is the default.
    fn tokens(&mut self, path: &str, query: Option<&str>) -> Result<(), ProxyError> {
        let mut tokens = access_tokens(query)
            .filter(|token| !token.is_empty() && !token.starts_with(PLACEHOLDER))
            .peekable();
        if tokens.peek().is_none() || !self.vague.is_empty() || !self.is_replaced(path) {
            return Ok(());
        }
        let mut unknown = false;
        for token in tokens {
            let mut holders = self.accounts.with_token(&token).peekable();
            match (holders.peek(), self.account) {
                (None, _) => unknown |= looks_real(&token),
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

    /// Whether a call that says nothing can be for WeChat. To WeCom it may bring a token that is no account's of ours.
    fn may_be_wechats(&self) -> bool {
        let is_wechats = |account: &Arc<Account>| account.api == Api::Wechat;
        let default = self.accounts.default_account().map(is_wechats);
        default.unwrap_or_else(|| self.accounts.iter().any(is_wechats))
    }

    /// Whether the token that a call to `path` brings would be replaced by an account's of WeChat.
    fn is_replaced(&self, path: &str) -> bool {
        self.account
            .is_none_or(|(account, _)| account.api == Api::Wechat)
            && Endpoint::of(Api::Wechat, path.as_bytes()).is_ok_and(|endpoint| {
                endpoint.credential == Credential::AccessToken
                    && (endpoint.row().is_some() || !is_meant_for_another(endpoint.path()))
            })
    }
}

/// Whether `token` looks like one of WeChat's, and not like a word that was given to an SDK for want of one.
fn looks_real(token: &str) -> bool {
    const SHORTEST: usize = 100;
    let is_of_its_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    token.len() >= SHORTEST && token.bytes().all(is_of_its_alphabet)
}

/// Whose a call is to `path`, which begins with one slash. `in_body` is the AppID in the body of a
/// token request. `None` for a call whose body has to be looked at.
pub(super) fn select_account<'a>(
    (path, query): (&'a str, Option<&str>),
    headers: &HeaderMap,
    entrance: &ListenerInfo,
    accounts: &Accounts,
    in_body: Option<&str>,
) -> Result<Option<Selected<'a>>, ProxyError> {
    let mut said = Hints {
        accounts,
        account: None,
        vague: Vec::new(),
    };
    // One look at each name costs less than a search.
    if headers.keys().any(is_appid) {
        for value in headers.get_all(APPID) {
            let word = value.to_str().unwrap_or_default().trim();
            said.word(Selection::Header, word)?;
        }
    }
    let path = match first_segment(path) {
        Some((segment, rest)) if is_somebody(accounts, segment) => {
            said.word(Selection::Path, segment)?;
            with_one_slash(rest)
        }
        _ => path,
    };
    for placeholder in placeholders(query) {
        said.word(Selection::Placeholder, &placeholder)?;
    }
    if let Some(id) = &entrance.account {
        said.word(Selection::Listener, id)?;
    }
    // Where there is one account, it is compared by who answers.
    if !accounts.is_one() {
        let asks = names_itself(path, query, &mut said)?;
        match (in_body, asks) {
            (Some(""), _) => {}
            (Some(appid), _) => said.word(Selection::Appid, appid)?,
            (None, Some(asks)) if said.is_silent() && asks == STABLE_TOKEN.as_bytes() => {
                return Ok(None);
            }
            (None, Some(_)) => {}
            (None, None) => said.tokens(path, query)?,
        }
    }
    let (account, way) = match said.account {
        Some(found) => found,
        None if !said.vague.is_empty() => return Err(ProxyError::SharedCorpid),
        None => {
            let default = accounts.default_account();
            let default = default.ok_or_else(|| nobodys(path, accounts))?;
            (default, Selection::Default)
        }
    };
    if said.vague.iter().any(|word| !account.is_called(word)) {
        return Err(ProxyError::TwoAccounts);
    }
    let account = account.clone();
    Ok(Some(Selected { account, way, path }))
}

/// The failure of a call that is for nobody.
pub(super) fn unknown(accounts: &Accounts) -> ProxyError {
    ProxyError::UnknownAccount(accounts.names())
}

/// The failure of a call to `path` that says nothing else.
fn nobodys(path: &str, accounts: &Accounts) -> ProxyError {
    match Endpoint::of(Api::Wechat, path.as_bytes()) {
        Ok(endpoint) if is_meant_for_another(endpoint.path()) => unknown(accounts),
        Ok(_) | Err(_) => ProxyError::NoAccount,
    }
}

/// Whether the first segment of `path`, which is in no table, can only have been meant as an account:
/// it looks like an AppID, or what follows it is a path of the tables.
pub(super) fn is_meant_for_another(path: &[u8]) -> bool {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let end = path.iter().position(|byte| *byte == b'/');
    let (segment, rest) = path.split_at(end.unwrap_or(path.len()));
    let digits = segment
        .strip_prefix(b"wx")
        .or_else(|| segment.strip_prefix(b"ww"));
    let is_appid =
        digits.is_some_and(|digits| digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit));
    let is_known = |kind| Endpoint::of(kind, rest).is_ok_and(|endpoint| endpoint.row().is_some());
    is_appid || is_known(Api::Wechat) || is_known(Api::Wecom)
}

/// Whether `path`, of which an account's segment was taken, begins with another.
pub(super) fn begins_with_somebody(accounts: &Accounts, path: &str) -> bool {
    first_segment(path).is_some_and(|(segment, _)| is_somebody(accounts, segment))
}

/// Whether an endpoint that an account's API has not is where the other one issues tokens: the call
/// has a secret in it, which is not that API's to see.
pub(super) fn is_token_request_elsewhere(kind: Api, endpoint: &Endpoint<'_>) -> bool {
    let other = match kind {
        Api::Wechat => Api::Wecom,
        Api::Wecom => Api::Wechat,
    };
    let there = Endpoint::of(other, endpoint.path());
    there.is_ok_and(|there| there.credential == Credential::TokenFetch)
}

/// A path with one slash at its beginning: an SDK whose base URL ends in one calls //cgi-bin/….
pub(super) fn with_one_slash(path: &str) -> &str {
    let slashes = path.bytes().take_while(|byte| *byte == b'/').count();
    match slashes {
        0 if path.is_empty() => "/",
        slashes => &path[slashes.saturating_sub(1)..],
    }
}

/// Adds the AppIDs that an SDK names where it asks for a token or for a user's session, and returns
/// the path if it is one of these.
fn names_itself(
    path: &str,
    query: Option<&str>,
    said: &mut Hints<'_>,
) -> Result<Option<Vec<u8>>, ProxyError> {
    const KINDS: [(Api, &str); 2] = [(Api::Wechat, "appid"), (Api::Wecom, "corpid")];
    let mut asks = None;
    for (kind, parameter) in KINDS {
        let endpoint = Endpoint::of(kind, path.as_bytes()).ok();
        let Some(endpoint) = endpoint.filter(|endpoint| takes_secret(endpoint)) else {
            continue;
        };
        for word in values(query, parameter).filter(|word| !word.is_empty()) {
            said.word(Selection::Appid, &word)?;
        }
        asks = Some(endpoint.path().to_owned());
    }
    Ok(asks)
}

fn takes_secret(endpoint: &Endpoint<'_>) -> bool {
    matches!(
        endpoint.credential,
        Credential::TokenFetch | Credential::Secret
    )
}

fn is_somebody(accounts: &Accounts, segment: &str) -> bool {
    !matches!(accounts.find(segment), Lookup::Unknown)
}

fn is_appid(name: &HeaderName) -> bool {
    const NAME: HeaderName = HeaderName::from_static(APPID);
    *name == NAME
}

/// The first segment of a path that has one, and what follows.
fn first_segment(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix('/')?;
    let end = path.find('/').unwrap_or(path.len());
    Some(path.split_at(end))
}

/// What stands behind `sidecar-` in the tokens of a query.
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
