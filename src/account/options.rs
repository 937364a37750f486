//! The options of an account, and which of them may change while it is served.

use std::{path::PathBuf, sync::Arc};

use super::{pacing::PacingOptions, rules::Rules};
use crate::{
    net::{connector::ConnectOptions, listen_addr::ListenAddr, origin::Origin},
    secret::SecretSource,
    token::source::{redis::KeyParts, token_server, wechat::TokenApi},
    wechat::api::Api,
};

/// The options of an account.
#[derive(Clone, Debug)]
pub struct Options {
    /// A unique name beside the AppID. Accounts that share a corpid need one.
    pub name: Option<String>,
    /// WeChat's AppID, or WeCom's corpid.
    pub appid: String,
    /// The variable, or the key in a file, that holds the AppID, for advice.
    pub appid_place: Option<Arc<str>>,
    /// Which API it speaks.
    pub api: Api,
    /// WeChat's AppSecret, or WeCom's corpsecret; `None` where its tokens come from elsewhere.
    pub secret: Option<Arc<SecretSource>>,
    /// Which of WeChat's two tokens it uses.
    pub token_api: TokenApi,
    /// Fetches a day above which refusals cause none.
    pub daily_fetches: u32,
    /// Where its tokens come from.
    pub source: SourceOptions,
    /// What its keys in the store begin with; `None` for the common prefix.
    pub store_prefix: Option<String>,
    /// Its own upstream; `None` for the common one.
    pub upstream: Option<Arc<ConnectOptions>>,
    /// Whether calls that name no account belong to it.
    pub default: bool,
    /// Which endpoints it may call.
    pub rules: Rules,
    /// How fast its calls may follow one another.
    pub pacing: PacingOptions,
    /// Listeners whose calls belong to it, whatever account they name.
    pub listen: Vec<ListenAddr>,
}

/// Where an account's tokens come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SourceOptions {
    /// From WeChat or WeCom itself.
    #[default]
    Wechat,
    /// From a file that something else keeps fresh.
    File(PathBuf),
    /// From a server of the operator's own.
    Http(token_server::Options),
}

impl Options {
    /// A WeChat account with the stable token, and defaults for everything else.
    pub fn new(appid: impl Into<String>, secret: Option<Arc<SecretSource>>) -> Self {
        Self {
            name: None,
            appid: appid.into(),
            appid_place: None,
            api: Api::Wechat,
            secret,
            token_api: TokenApi::Stable,
            daily_fetches: 500,
            source: SourceOptions::Wechat,
            store_prefix: None,
            upstream: None,
            default: false,
            rules: Rules::default(),
            pacing: PacingOptions::default(),
            listen: Vec::new(),
        }
    }

    /// Its unique id, which is also the end of its placeholder. It is the name of a WeCom account that has
    /// one, because several may share a corpid, and the AppID otherwise.
    pub fn id(&self) -> &str {
        match (self.api, &self.name) {
            (Api::Wecom, Some(name)) => name,
            _ => &self.appid,
        }
    }

    /// Its AppID, and its name if it has one.
    pub fn names(&self) -> String {
        match &self.name {
            Some(name) => format!("{name} ({})", self.appid),
            None => self.appid.clone(),
        }
    }

    /// Whether each fetch would revoke the tokens of other replicas.
    pub fn fetch_revokes_others(&self) -> bool {
        let classic = self.api == Api::Wechat && self.token_api == TokenApi::Classic;
        classic && self.source == SourceOptions::Wechat
    }

    /// Whether replicas share its token if there is a store.
    pub fn uses_store(&self) -> bool {
        self.fetch_revokes_others()
            || (self.api == Api::Wecom && self.source == SourceOptions::Wechat)
    }

    /// The parts of its keys in the store.
    pub fn key_parts(&self) -> KeyParts<'_> {
        KeyParts {
            api: self.api,
            appid: &self.appid,
            id: self.id(),
            prefix: self.store_prefix.as_deref(),
        }
    }

    /// Whether a token of one is also valid for the other, so that it is kept when one replaces the other.
    pub fn same_tokens(&self, other: &Self) -> bool {
        self.id() == other.id()
            && (&self.appid, self.api, self.token_api)
                == (&other.appid, other.api, other.token_api)
            && self.source == other.source
            // A token is never sent to a host other than the one that issued it.
            && self.origins() == other.origins()
    }

    /// The hosts of its own upstream.
    fn origins(&self) -> Option<&[Origin]> {
        self.upstream
            .as_ref()
            .map(|upstream| upstream.origins.as_slice())
    }

    /// Whether both have the same upstream.
    pub fn same_upstream(&self, other: &Self) -> bool {
        match (&self.upstream, &other.upstream) {
            (None, None) => true,
            (Some(one), Some(two)) => one.same_target(two),
            _ => false,
        }
    }

    /// Whether both have the same secret from the same source.
    pub fn same_secret(&self, other: &Self) -> bool {
        match (&self.secret, &other.secret) {
            (None, None) => true,
            (Some(one), Some(two)) => one.same_source(two),
            _ => false,
        }
    }
}

/// Compares secrets without showing them. A secret file equals itself, whatever it contains now.
impl PartialEq for Options {
    fn eq(&self, other: &Self) -> bool {
        self.same_tokens(other)
            && self.same_upstream(other)
            && self.same_secret(other)
            && (&self.name, self.daily_fetches, self.default)
                == (&other.name, other.daily_fetches, other.default)
            && self.store_prefix == other.store_prefix
            && (&self.rules, &self.pacing, &self.listen)
                == (&other.rules, &other.pacing, &other.listen)
    }
}
