//! What an account is configured with, and what of it may change while it is served.

use std::{path::PathBuf, sync::Arc};

use super::rules::Rules;
use crate::{
    net::{connector::ConnectOptions, listen_addr::ListenAddr, origin::Origin},
    secret::SecretSource,
    token::source::{token_server, wechat::TokenApi},
    wechat::api::Api,
};

/// What an account is configured with.
#[derive(Clone, Debug)]
pub struct Options {
    /// What it is called beside its AppID: unique, and needed where several share a corpid.
    pub name: Option<String>,
    /// WeChat's AppID, or WeCom's corpid.
    pub appid: String,
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
    /// The way to its own WeChat; `None` for the way of all.
    pub upstream: Option<ConnectOptions>,
    /// Whether calls that name no account are its own.
    pub default: bool,
    /// Which endpoints it may call.
    pub rules: Rules,
    /// Where calls are its own, whatever they say.
    pub listen: Vec<ListenAddr>,
}

/// Where an account's tokens come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SourceOptions {
    /// From WeChat itself, or WeCom.
    #[default]
    Wechat,
    /// From a file that something else keeps fresh.
    File(PathBuf),
    /// From a server of the operator's own.
    Http(token_server::Options),
}

impl Options {
    /// An account that has nothing but this: WeChat's, with its stable token.
    pub fn new(appid: impl Into<String>, secret: Option<Arc<SecretSource>>) -> Self {
        Self {
            name: None,
            appid: appid.into(),
            api: Api::Wechat,
            secret,
            token_api: TokenApi::Stable,
            daily_fetches: 500,
            source: SourceOptions::Wechat,
            upstream: None,
            default: false,
            rules: Rules::default(),
            listen: Vec::new(),
        }
    }

    /// What tells it from the others, and what its placeholder ends in: the name where it is one
    /// of a corp's, for they may share the corpid, and the AppID otherwise.
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

    /// Whether each of its fetches would end the token of other replicas.
    pub fn fetch_revokes_others(&self) -> bool {
        let classic = self.api == Api::Wechat && self.token_api == TokenApi::Classic;
        classic && self.source == SourceOptions::Wechat
    }

    /// Whether replicas share its token where they can: it is not the same for all anyway.
    pub fn shares(&self) -> bool {
        self.fetch_revokes_others()
            || (self.api == Api::Wecom && self.source == SourceOptions::Wechat)
    }

    /// Whether a token of one is a token of the other: it may be kept when one becomes the other.
    pub fn same_tokens(&self, other: &Self) -> bool {
        self.id() == other.id()
            && (&self.appid, self.api, self.token_api)
                == (&other.appid, other.api, other.token_api)
            && self.source == other.source
            // A token is for nobody's eyes but those who issued it.
            && self.place() == other.place()
    }

    /// Where its own WeChat or WeCom is.
    fn place(&self) -> Option<&[Origin]> {
        self.upstream.as_ref().map(|way| way.origins.as_slice())
    }

    /// Whether it goes the same way.
    pub fn same_upstream(&self, other: &Self) -> bool {
        match (&self.upstream, &other.upstream) {
            (None, None) => true,
            (Some(one), Some(two)) => one.same_target(two),
            _ => false,
        }
    }

    /// Whether it has the same secret, given in the same way.
    pub fn same_secret(&self, other: &Self) -> bool {
        match (&self.secret, &other.secret) {
            (None, None) => true,
            (Some(one), Some(two)) => one.same_source(two),
            _ => false,
        }
    }
}

/// Compares secrets without showing them; a file that is read again is the same as before.
impl PartialEq for Options {
    fn eq(&self, other: &Self) -> bool {
        self.same_tokens(other)
            && self.same_upstream(other)
            && self.same_secret(other)
            && (&self.name, self.daily_fetches, self.default)
                == (&other.name, other.daily_fetches, other.default)
            && (&self.rules, &self.listen) == (&other.rules, &other.listen)
    }
}
