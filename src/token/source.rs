//! Sources of tokens, and what their errors mean for the next attempt.

pub mod api;
pub mod file;
pub(super) mod lenient;
pub(super) mod lifetime;
pub mod redis;
pub mod shared;
pub mod store;
pub mod token_server;
pub mod wechat;
pub mod wecom;

use std::{future, sync::Arc};

use tokio::time::Duration;

use super::Token;
use crate::{
    metrics::{Cause, Kept},
    wechat::api::Api,
};
use file::TokenFile;
use redis::TokenSlot;
use shared::Shared;
use store::StoreError;
use token_server::TokenServer;
use wechat::Wechat;
use wecom::Wecom;

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
    Wechat(Wechat),
    /// From WeCom itself.
    Wecom(Wecom),
    /// From a file that something else keeps fresh.
    File(TokenFile),
    /// From a server of the operator's own.
    Http(TokenServer),
    /// From WeChat, shared with other replicas.
    SharedWechat(Shared<Wechat, TokenSlot>),
    /// From WeCom, shared with other replicas.
    SharedWecom(Shared<Wecom, TokenSlot>),
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

impl TokenSource for AccountSource {
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
}

/// Why there is no token. It can be cloned, because all waiters get the same error. It never holds a URL, a
/// secret or a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// WeChat or WeCom answered with an error code.
    #[error("the token request was refused: errcode {code} ({message}); {}", .kind.advice())]
    Refused {
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
    /// All replicas together have made so many fetches today that refusals cause no more.
    #[error("all replicas together have made {0} token requests today: refusals cause no more")]
    BudgetSpent(u32),
    /// The fetch panicked: a bug in this program.
    #[error("the token request broke off: a bug in wechat-sidecar, please report it")]
    Panicked,
}

impl TokenError {
    /// WeChat's error code, if it answered with one.
    pub fn code(&self) -> Option<i64> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Elsewhere(error) => error.code(),
            Self::Unreachable(_)
            | Self::Invalid(_)
            | Self::TimedOut
            | Self::Store(_)
            | Self::BudgetSpent(_)
            | Self::Unusable(_)
            | Self::WithoutToken(_)
            | Self::Panicked => None,
        }
    }

    /// Whether this process may have sent a request to WeChat.
    pub fn was_sent(&self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::Unreachable(_)
            | Self::Invalid(_)
            | Self::TimedOut
            | Self::Panicked => true,
            Self::Elsewhere(_)
            | Self::Store(_)
            | Self::BudgetSpent(_)
            | Self::Unusable(_)
            | Self::WithoutToken(_) => false,
        }
    }

    /// What the error means for the next attempt.
    pub fn kind(&self) -> TokenErrorKind {
        match self {
            Self::Refused { kind, .. } => *kind,
            Self::Elsewhere(error) => error.kind(),
            // All replicas get this error, and a token that is about to expire is still renewed.
            Self::BudgetSpent(_) => TokenErrorKind::MinuteQuota,
            Self::Unreachable(_)
            | Self::Invalid(_)
            | Self::TimedOut
            | Self::Store(_)
            | Self::Panicked => TokenErrorKind::Busy,
            Self::Unusable(_) | Self::WithoutToken(_) => TokenErrorKind::Local,
        }
    }
}

/// What an errcode of the token endpoints means for the next attempt. See
/// <https://developers.weixin.qq.com/doc/service/api/base/api_getstableaccesstoken.html> and
/// <https://developer.work.weixin.qq.com/document/path/90313>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenErrorKind {
    /// Try again soon.
    Busy,
    /// The failure is not WeChat's: try again soon, each time.
    #[serde(rename = "near")]
    Local,
    /// The AppSecret is wrong.
    WrongSecret,
    /// The AppID, or the request, is wrong.
    WrongRequest,
    /// This machine's public IP is not on the account's whitelist.
    NotWhitelisted,
    /// The AppSecret is frozen.
    Frozen,
    /// The day's quota is used up.
    DailyQuota,
    /// The minute's quota is used up.
    MinuteQuota,
    /// The account may not fetch tokens.
    Forbidden,
    /// An administrator of the account has to confirm.
    AwaitsAdmin,
    /// An administrator refused for an hour.
    RefusedForAnHour,
    /// An administrator refused for a day.
    RefusedForADay,
    /// The secret does not belong to this corp, or is no longer valid.
    WrongCorpSecret,
    /// The corpid, or the request, is wrong.
    WrongCorpid,
    /// There were too many requests to WeCom, perhaps from others with the same IP.
    TooOften,
    /// An undocumented code.
    Unknown,
}

impl TokenErrorKind {
    /// The meaning of `code` in a reply of `api` to a token request.
    pub fn of(api: Api, code: i64) -> Self {
        match api {
            Api::Wechat => Self::of_wechat(code),
            Api::Wecom => Self::of_wecom(code),
        }
    }

    fn of_wecom(code: i64) -> Self {
        match code {
            -1 => Self::Busy,
            40001 | 40091 | 45031 => Self::WrongCorpSecret,
            40013 | 41002 | 41004 => Self::WrongCorpid,
            45009 | 45033 => Self::TooOften,
            60020 | 301042 => Self::NotWhitelisted,
            48001..=48006 | 50003 | 60031 | 301007 => Self::Forbidden,
            _ => Self::Unknown,
        }
    }

    fn of_wechat(code: i64) -> Self {
        match code {
            -1 => Self::Busy,
            40001 | 40125 => Self::WrongSecret,
            40002 | 40013 | 41002 | 41004 | 43002 | 47001 => Self::WrongRequest,
            40164 | 61004 | 45035 => Self::NotWhitelisted,
            40243 => Self::Frozen,
            45009 => Self::DailyQuota,
            45011 => Self::MinuteQuota,
            50002 | 50004 | 50007 => Self::Forbidden,
            89501 | 89503 => Self::AwaitsAdmin,
            89506 => Self::RefusedForADay,
            89507 => Self::RefusedForAnHour,
            _ => Self::Unknown,
        }
    }

    /// The wait after the first failure, and the longest wait.
    pub fn back_off(self) -> (Duration, Duration) {
        let (first, most) = match self {
            Self::Busy => (1, 60),
            Self::Local => (1, 10),
            Self::MinuteQuota => (60, 120),
            Self::NotWhitelisted => (15, 300),
            Self::AwaitsAdmin => (30, 300),
            Self::Frozen | Self::Unknown => (60, 600),
            Self::WrongSecret | Self::WrongRequest | Self::Forbidden => (300, 900),
            Self::DailyQuota => (900, 3600),
            Self::RefusedForAnHour => (3600, 3600),
            Self::RefusedForADay => (86_400, 86_400),
            // If a wrong secret is sent again and again, WeCom blocks this IP for an hour.
            Self::WrongCorpSecret | Self::WrongCorpid => (300, 3600),
            Self::TooOften => (60, 3600),
        };
        (Duration::from_secs(first), Duration::from_secs(most))
    }

    /// What the operator can do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Busy | Self::Local => "it is busy, the next attempt follows soon",
            Self::WrongSecret => {
                "the secret (WECHAT_SECRET, or the account's in the file) is not the AppSecret of this AppID: set the right one"
            }
            Self::WrongRequest => "check WECHAT_APPID",
            Self::NotWhitelisted => {
                "add this IP to the account's IP whitelist (WeChat: 开发接口管理 → IP白名单; WeCom: 应用 → 企业可信IP)"
            }
            Self::Frozen => "the AppSecret is frozen: unfreeze it in WeChat's console",
            Self::DailyQuota => "the day's quota of token requests is used up",
            Self::MinuteQuota => "too many token requests in this minute",
            Self::Forbidden => "no tokens are issued to this account: see its console",
            Self::AwaitsAdmin => "an administrator of the account has to confirm this IP",
            Self::RefusedForAnHour => {
                "an administrator refused this IP: WeChat answers again in an hour"
            }
            Self::RefusedForADay => {
                "an administrator refused this IP: WeChat answers again in 24 hours"
            }
            Self::WrongCorpSecret => {
                "secret or secret-file does not hold a secret of this corp that WeCom takes: set the right one (应用管理 → 应用 → Secret)"
            }
            Self::WrongCorpid => {
                "check the account's appid, which is the corpid (我的企业 → 企业ID)"
            }
            Self::TooOften => {
                "too many token requests; perhaps a wrong secret was sent from this IP, which is then blocked for an hour"
            }
            Self::Unknown => "see the list of return codes",
        }
    }
}
