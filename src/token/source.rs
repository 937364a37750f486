//! Sources of tokens, and what their errors mean for the next attempt.

pub mod api;
mod error_kind;
pub mod file;
pub(super) mod lenient;
pub(super) mod lifetime;
pub mod redis;
pub mod revocation;
pub mod shared;
pub mod store;
pub mod token_server;
pub mod wechat;
pub mod wecom;

use std::{future, sync::Arc};

use tokio::time::Duration;

use super::{Token, turns::Asks};
use crate::{
    lang::Text,
    metrics::{Cause, Kept},
    problems::WrongCredential,
};
pub use error_kind::TokenErrorKind;
use file::TokenFile;
use redis::TokenSlot;
use revocation::{NotRevocable, RevocationMethod};
use shared::Shared;
use store::{ForeignValue, StoreError};
use token_server::TokenServer;
use wechat::WechatSource;
use wecom::WecomSource;

/// A source of tokens: WeChat itself, or a place that something else keeps fresh.
pub trait TokenSource: Send + Sync + 'static {
    /// Fetches the token to use from now on.
    fn fetch(
        &self,
        request: FetchRequest,
    ) -> impl Future<Output = Result<FetchedToken, TokenError>> + Send;

    /// Returns a token that others have put in place meanwhile, without causing a fetch. `None` if there is
    /// none, or if the source cannot be polled.
    fn poll(&self) -> impl Future<Output = Option<Token>> + Send {
        future::ready(None)
    }

    /// How often to [`poll`](Self::poll); `None` for never.
    fn poll_interval(&self) -> Option<Duration> {
        None
    }

    /// Counts that the machine was suspended for `time`, in which tokio's clock stood still.
    fn suspended(&self, time: Duration) {
        let _ = time;
    }

    /// A number that changes with the secret, because a refusal may depend on it. It reveals nothing about the
    /// secret.
    fn credential_fingerprint(&self) -> u16 {
        0
    }

    /// How it revokes the token in hand, or whose job that is. A fetch with [`Cause::Revoke`] is a step of that.
    fn revocation(&self) -> Result<RevocationMethod, NotRevocable> {
        Err(NotRevocable::NoToken)
    }

    /// Whom a fetch may ask.
    fn asks(&self) -> Asks {
        Asks::Wechat
    }

    /// Whether this is a source of tokens or of tickets, for the log and the metrics.
    fn kept(&self) -> Kept {
        Kept::Token
    }
}

/// Why a token is fetched.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// The cause.
    pub cause: Cause,
    /// The current token, which was refused, is about to expire, or has expired.
    pub current: Option<Arc<Token>>,
}

/// A token, and whether it was fetched from WeChat.
#[derive(Debug)]
pub struct FetchedToken {
    /// The token to use from now on.
    pub token: Token,
    /// Whether WeChat was asked for it. Otherwise something else had put it in place.
    pub fetched: bool,
}

/// The source of an account's tokens.
#[derive(Debug)]
pub enum AccountSource {
    /// From WeChat itself.
    Wechat(WechatSource),
    /// From WeCom itself.
    Wecom(WecomSource),
    /// From a file that something else keeps fresh.
    File(Box<TokenFile>),
    /// From a server of the operator's own.
    Http(Box<TokenServer>),
    /// From WeChat, shared with other replicas.
    SharedWechat(Box<Shared<WechatSource, TokenSlot>>),
    /// From WeCom, shared with other replicas.
    SharedWecom(Box<Shared<WecomSource, TokenSlot>>),
}

/// Evaluates the same expression for every source.
macro_rules! for_each_source {
    ($account:expr, $source:ident => $value:expr) => {
        match $account {
            AccountSource::Wechat($source) => $value,
            AccountSource::Wecom($source) => $value,
            AccountSource::File($source) => $value,
            AccountSource::Http($source) => $value,
            AccountSource::SharedWechat($source) => $value,
            AccountSource::SharedWecom($source) => $value,
        }
    };
}

impl AccountSource {
    /// Whether the store that replicas share is available; `None` without a store.
    pub fn store_is_available(&self) -> Option<bool> {
        match self {
            Self::Wechat(_) | Self::Wecom(_) | Self::File(_) | Self::Http(_) => None,
            Self::SharedWechat(shared) => Some(shared.store_is_available()),
            Self::SharedWecom(shared) => Some(shared.store_is_available()),
        }
    }
}

impl AccountSource {
    /// What is wrong with the token file, though a token of it may be in use.
    pub fn file_problem(&self) -> Option<TokenError> {
        match self {
            Self::File(file) => file.problem(),
            _ => None,
        }
    }

    /// The value under the token's key in the store that is no token, if there is one.
    pub fn foreign_value(&self) -> Option<store::ForeignValue> {
        match self {
            Self::Wechat(_) | Self::Wecom(_) | Self::File(_) | Self::Http(_) => None,
            Self::SharedWechat(shared) => shared.foreign_value(),
            Self::SharedWecom(shared) => shared.foreign_value(),
        }
    }
}

impl TokenSource for AccountSource {
    fn asks(&self) -> Asks {
        match self {
            Self::File(_) | Self::Http(_) => Asks::Nearby,
            Self::Wechat(_) | Self::Wecom(_) | Self::SharedWechat(_) | Self::SharedWecom(_) => {
                Asks::Wechat
            }
        }
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchedToken, TokenError> {
        for_each_source!(self, source => source.fetch(request).await)
    }

    async fn poll(&self) -> Option<Token> {
        for_each_source!(self, source => source.poll().await)
    }

    fn poll_interval(&self) -> Option<Duration> {
        for_each_source!(self, source => source.poll_interval())
    }

    fn suspended(&self, time: Duration) {
        for_each_source!(self, source => source.suspended(time));
    }

    fn credential_fingerprint(&self) -> u16 {
        for_each_source!(self, source => source.credential_fingerprint())
    }

    fn revocation(&self) -> Result<RevocationMethod, NotRevocable> {
        match self {
            Self::Wechat(wechat) => wechat.revocation(),
            Self::SharedWechat(shared) => shared.revocation(),
            Self::Wecom(_) | Self::SharedWecom(_) => Err(NotRevocable::Wecom),
            Self::File(_) => Err(NotRevocable::File),
            Self::Http(_) => Err(NotRevocable::Http),
        }
    }
}

/// Why there is no token. It can be cloned, because all waiters get the same error. It never holds a URL, a
/// secret or a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// WeChat or WeCom answered with an error code.
    #[error("the token request was refused: errcode {code} ({message})")]
    Errcode {
        /// The error code.
        code: i64,
        /// Its errmsg, which names the IP to whitelist and the rid for its support.
        message: String,
        /// What the code means for the next attempt.
        kind: TokenErrorKind,
    },
    /// WeChat could not be reached.
    #[error("the token endpoint could not be reached: {0}")]
    Unreachable(String),
    /// The reply has neither a token nor an error code.
    #[error("the token endpoint did not answer sense: {0}")]
    Invalid(String),
    /// A file or a token server has no usable token.
    #[error("{0}")]
    Unusable(String),
    /// A ticket needs an access_token, and there is none.
    #[error("no access_token: {0}")]
    WithoutToken(Box<Self>),
    /// There is no reply yet.
    #[error("the token endpoint has not answered in time")]
    TimedOut,
    /// Another replica got this error just now.
    #[error("another replica was told: {0}")]
    Elsewhere(Box<Self>),
    /// The store of shared tokens is unavailable, and the budget for fetches without it is used up.
    #[error(
        "the store of shared tokens does not answer ({0}), and no token may be fetched without it now"
    )]
    Store(StoreError),
    /// Under the token's key in the store is something that is no token.
    #[error("the store of shared tokens has no token that can be read: {0}")]
    ForeignValue(ForeignValue),
    /// All replicas together have made so many fetches today that refusals cause no more.
    #[error("all replicas together have made {0} token requests today: refusals cause no more")]
    BudgetSpent(u32),
    /// All forced refreshes of the day were made. There is room again in this time.
    #[error(
        "all {} forced refreshes of this AppID that WeChat allows in a day were made; there is room again in {}",
        revocation::FORCED_A_DAY,
        revocation::in_words(*.0)
    )]
    ForcedSpent(Duration),
    /// The fetch panicked: a bug in this program.
    #[error("the token request broke off: a bug in wechat-sidecar, please report it")]
    Panicked,
}

impl TokenError {
    /// WeChat's error code, if it answered with one.
    pub fn code(&self) -> Option<i64> {
        match self {
            Self::Errcode { code, .. } => Some(*code),
            Self::Elsewhere(error) => error.code(),
            Self::Unreachable(_)
            | Self::Invalid(_)
            | Self::TimedOut
            | Self::Store(_)
            | Self::ForeignValue(_)
            | Self::BudgetSpent(_)
            | Self::ForcedSpent(_)
            | Self::Unusable(_)
            | Self::WithoutToken(_)
            | Self::Panicked => None,
        }
    }

    /// What the operator can do about it, if an error code says so.
    pub fn advice(&self) -> Option<Text> {
        match self {
            Self::Errcode { kind, .. } => Some(kind.advice()),
            Self::Elsewhere(error) | Self::WithoutToken(error) => error.advice(),
            _ => None,
        }
    }

    /// What of the account's configuration is wrong, if an error code says so.
    pub fn wrong_credential(&self) -> Option<WrongCredential> {
        match self.kind() {
            TokenErrorKind::WrongSecret | TokenErrorKind::WrongCorpSecret => {
                Some(WrongCredential::Secret)
            }
            TokenErrorKind::WrongRequest | TokenErrorKind::WrongCorpid => {
                Some(WrongCredential::Appid)
            }
            _ => None,
        }
    }

    /// The error and the advice as a sentence.
    pub fn sentence(&self) -> String {
        match self.advice() {
            Some(advice) => format!("{self}; {}", advice.en),
            None => self.to_string(),
        }
    }

    /// Whether this process may have sent a request to WeChat.
    pub fn was_sent(&self) -> bool {
        match self {
            Self::Errcode { .. }
            | Self::Unreachable(_)
            | Self::Invalid(_)
            | Self::TimedOut
            | Self::Panicked => true,
            Self::Elsewhere(_)
            | Self::Store(_)
            | Self::ForeignValue(_)
            | Self::BudgetSpent(_)
            | Self::ForcedSpent(_)
            | Self::Unusable(_)
            | Self::WithoutToken(_) => false,
        }
    }

    /// What the error means for the next attempt.
    pub fn kind(&self) -> TokenErrorKind {
        match self {
            Self::Errcode { kind, .. } => *kind,
            Self::Elsewhere(error) => error.kind(),
            // All replicas get this error, and a token that is about to expire is still renewed.
            Self::BudgetSpent(_) => TokenErrorKind::MinuteQuota,
            Self::Unreachable(_)
            | Self::Invalid(_)
            | Self::TimedOut
            | Self::Store(_)
            | Self::Panicked => TokenErrorKind::Busy,
            Self::ForeignValue(_)
            | Self::ForcedSpent(_)
            | Self::Unusable(_)
            | Self::WithoutToken(_) => TokenErrorKind::Local,
        }
    }
}
