//! Where tokens come from, and what a failure to get one means for the next attempt.

pub mod api;
pub mod file;
mod lifetime;
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

/// A source of tokens: WeChat itself, or a place that others keep fresh.
pub trait TokenSource: Send + Sync + 'static {
    /// Asks for the token to use from now on.
    fn fetch(
        &self,
        wanted: FetchRequest,
    ) -> impl Future<Output = Result<FetchedToken, TokenError>> + Send;

    /// The token that others have put in place meanwhile, asked without causing a fetch. `None`
    /// where there is nothing to look at, or nothing there.
    fn poll(&self) -> impl Future<Output = Option<Token>> + Send {
        future::ready(None)
    }

    /// How often to [`look`](Self::look); `None` for never.
    fn poll_interval(&self) -> Option<Duration> {
        None
    }

    /// What a refusal to issue depends on beside the account: another number when the secret is
    /// another. It tells nothing about it.
    fn credential_fingerprint(&self) -> u16 {
        0
    }

    /// What is issued here, for the log and the metrics.
    fn kept(&self) -> Kept {
        Kept::Token
    }
}

/// What a token is wanted for.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// Why.
    pub cause: Cause,
    /// The token in hand, which is refused, about to expire, or dead: another one is better.
    pub current: Option<Arc<Token>>,
}

/// A token, and whose doing it is.
#[derive(Debug)]
pub struct FetchedToken {
    /// The token to use from now on.
    pub token: Token,
    /// Whether WeChat was asked for it; otherwise somebody else had put it in place.
    pub fetched: bool,
}

/// Where an account's tokens come from.
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

/// The same of every source.
macro_rules! of_each {
    ($issuer:expr, $source:ident => $answer:expr) => {
        match $issuer {
            AccountSource::Wechat($source) => $answer,
            AccountSource::Wecom($source) => $answer,
            AccountSource::File($source) => $answer,
            AccountSource::Http($source) => $answer,
            AccountSource::SharedWechat($source) => $answer,
            AccountSource::SharedWecom($source) => $answer,
        }
    };
}

impl AccountSource {
    /// Whether the store that replicas share answers; `None` where there is none.
    pub fn store_answers(&self) -> Option<bool> {
        match self {
            Self::Wechat(_) | Self::Wecom(_) | Self::File(_) | Self::Http(_) => None,
            Self::SharedWechat(shared) => Some(shared.answers()),
            Self::SharedWecom(shared) => Some(shared.answers()),
        }
    }
}

impl TokenSource for AccountSource {
    async fn fetch(&self, wanted: FetchRequest) -> Result<FetchedToken, TokenError> {
        of_each!(self, source => source.fetch(wanted).await)
    }

    async fn poll(&self) -> Option<Token> {
        of_each!(self, source => source.poll().await)
    }

    fn poll_interval(&self) -> Option<Duration> {
        of_each!(self, source => source.poll_interval())
    }

    fn credential_fingerprint(&self) -> u16 {
        of_each!(self, source => source.credential_fingerprint())
    }
}

/// Why no token could be had. Cloneable, because one failure answers every waiter. It never holds
/// a URL, a secret or a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// WeChat, or WeCom, answered with an error code.
    #[error("the token request was refused: errcode {code} ({message}); {}", .kind.advice())]
    Refused {
        /// Its own code.
        code: i64,
        /// Its errmsg, which names the IP to whitelist and the rid for its support.
        message: String,
        /// What it calls for.
        kind: TokenErrorKind,
    },
    /// WeChat could not be reached.
    #[error("the token endpoint could not be reached: {0}")]
    Unreachable(String),
    /// WeChat answered something else than a token.
    #[error("the token endpoint did not answer sense: {0}")]
    Nonsense(String),
    /// The place that others keep fresh has no token that can be used.
    #[error("{0}")]
    Unusable(String),
    /// There is no access_token to ask with.
    #[error("no access_token: {0}")]
    WithoutToken(Box<Self>),
    /// No answer yet.
    #[error("the token endpoint has not answered in time")]
    Slow,
    /// Another replica was told so just now.
    #[error("another replica was told: {0}")]
    Elsewhere(Box<Self>),
    /// The store of shared tokens is away, and what may be fetched without it is used up.
    #[error(
        "the store of shared tokens does not answer ({0}), and no token may be fetched without it now"
    )]
    Store(StoreError),
    /// All replicas together have made so many requests today that a refusal causes no more.
    #[error("all replicas together have made {0} token requests today: refusals cause no more")]
    Spent(u32),
    /// A bug in this program.
    #[error("the token request broke off: a bug in wechat-sidecar, please report it")]
    Broken,
}

impl TokenError {
    /// WeChat's own code, if it answered one.
    pub fn code(&self) -> Option<i64> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Elsewhere(error) => error.code(),
            Self::Unreachable(_)
            | Self::Nonsense(_)
            | Self::Slow
            | Self::Store(_)
            | Self::Spent(_)
            | Self::Unusable(_)
            | Self::WithoutToken(_)
            | Self::Broken => None,
        }
    }

    /// Whether this process asked WeChat, as far as is known.
    pub fn was_asked(&self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::Unreachable(_)
            | Self::Nonsense(_)
            | Self::Slow
            | Self::Broken => true,
            Self::Elsewhere(_)
            | Self::Store(_)
            | Self::Spent(_)
            | Self::Unusable(_)
            | Self::WithoutToken(_) => false,
        }
    }

    /// What it means for the next attempt.
    pub fn kind(&self) -> TokenErrorKind {
        match self {
            Self::Refused { kind: meaning, .. } => *meaning,
            Self::Elsewhere(error) => error.kind(),
            // Others are told the same, and a token that expires is renewed all the same.
            Self::Spent(_) => TokenErrorKind::MinuteQuota,
            Self::Unreachable(_)
            | Self::Nonsense(_)
            | Self::Slow
            | Self::Store(_)
            | Self::Broken => TokenErrorKind::Busy,
            Self::Unusable(_) | Self::WithoutToken(_) => TokenErrorKind::Near,
        }
    }
}

/// What an errcode of the token endpoints calls for. See
/// <https://developers.weixin.qq.com/doc/service/api/base/api_getstableaccesstoken.html> and
/// <https://developer.work.weixin.qq.com/document/path/90313>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenErrorKind {
    /// Try again soon.
    Busy,
    /// It is not WeChat's matter: try again soon, each time.
    Near,
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
    /// The account may not, for as long as WeChat says so.
    Forbidden,
    /// An administrator of the account has to confirm.
    AwaitsAdmin,
    /// An administrator refused, for an hour.
    RefusedForAnHour,
    /// An administrator refused, for a day.
    RefusedForADay,
    /// It is no secret of this corp, or none that WeCom takes any more.
    WrongCorpSecret,
    /// The corpid, or the request, is wrong.
    WrongCorpid,
    /// WeCom was asked too often, perhaps by others at the same IP.
    TooOften,
    /// A code that no document names.
    Unknown,
}

impl TokenErrorKind {
    /// Of `code`, answered to a token request by the API of this `kind`.
    pub fn of(kind: Api, code: i64) -> Self {
        match kind {
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

    /// How long to wait after the first failure, and at most after many.
    pub fn back_off(self) -> (Duration, Duration) {
        let (first, most) = match self {
            Self::Busy => (1, 60),
            Self::Near => (1, 10),
            Self::MinuteQuota => (60, 120),
            Self::NotWhitelisted => (15, 300),
            Self::AwaitsAdmin => (30, 300),
            Self::Frozen | Self::Unknown => (60, 600),
            Self::WrongSecret | Self::WrongRequest | Self::Forbidden => (300, 900),
            Self::DailyQuota => (900, 3600),
            Self::RefusedForAnHour => (3600, 3600),
            Self::RefusedForADay => (86_400, 86_400),
            // A wrong secret sent again and again has WeCom block the IP of everybody here for an hour.
            Self::WrongCorpSecret | Self::WrongCorpid => (300, 3600),
            Self::TooOften => (60, 3600),
        };
        (Duration::from_secs(first), Duration::from_secs(most))
    }

    /// What the operator can do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Busy | Self::Near => "it is busy, the next attempt follows soon",
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
