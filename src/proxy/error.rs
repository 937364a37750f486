//! The errors of the proxy, and the reply in WeChat's own shape that an app gets for each.

use std::fmt::Display;

use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;
use tokio::time::Duration;

use super::{
    Mark, Reply,
    cause::{BodyMissing, Closed, Crowded, Malformed, SendFailure, Stranger},
    status_header::mark,
};
use crate::{
    account::{pacing::TooFast, rules::Forbidden},
    body::{
        buffered::{BufferError, BufferedBody},
        error::BodyError,
    },
    client::SendError,
    metrics::Outcome,
    net::connector::DialError,
    problems::Kind,
    token::keeper::NoToken,
    wechat::errcode,
};

/// WeChat's own code for a failed token request, beside our code in the body.
pub const WECHAT_ERRCODE: HeaderName = HeaderName::from_static("x-wechat-sidecar-errcode");

/// Why a call fails here.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Two servers could interpret it differently.
    #[error("this call cannot be passed on: {0}")]
    Malformed(#[from] Malformed),
    /// The caller key is missing or wrong.
    #[error(
        "the header X-Wechat-Sidecar-Key is missing or wrong: send the content of the sidecar's --caller-key-file"
    )]
    CallerKey,
    /// It has the placeholder, although only the caller can have the token.
    #[error(
        "access_token is the sidecar's placeholder, but this endpoint takes a token of its own (a user's or a third-party platform's): send that one"
    )]
    Placeholder,
    /// It may come from a stranger.
    #[error("{0}")]
    Stranger(#[from] Stranger),
    /// It is for another host than that whose certificate the app was shown.
    #[error(
        "Host names another server than the TLS connection was opened for: call each host over a connection of its own"
    )]
    Misdirected,
    /// The configuration forbids it.
    #[error("{0}")]
    Closed(#[from] Closed),
    /// The account's rules forbid it.
    #[error("{0}")]
    Forbidden(#[from] Forbidden),
    /// It does not say which account it is for, and there is no default.
    #[error(
        "the call does not say which account it is for: send back the placeholder that the sidecar gave you, or the header X-Wechat-Appid, or call http://…/APPID/…; or mark an account as default"
    )]
    NoAccount,
    /// It names two accounts.
    #[error(
        "the call is for two accounts at once: its placeholder or token, header, path, listener and AppID must name the same one"
    )]
    TwoAccounts,
    /// It names a corpid that several accounts have.
    #[error("several accounts share this corpid: use the account's name instead")]
    SharedCorpid,
    /// It names an account that does not exist. The text lists the existing ones.
    #[error("there is no such account here; there are: {0}")]
    UnknownAccount(String),
    /// The app's body ended early, or stopped.
    #[error("the body of this call did not arrive: {0}")]
    BodyMissing(#[source] BodyMissing),
    /// It came too fast after others.
    #[error("{0}")]
    TooFast(#[from] TooFast),
    /// The body has no length and is larger than allowed.
    #[error(
        "the body has no Content-Length and is larger than the sidecar's --replay-limit: send it with a Content-Length"
    )]
    TooLarge,
    /// The budget or the connections are used up.
    #[error("{0}: nothing was sent, try again")]
    Crowded(#[from] Crowded),
    /// The reply broke off. WeChat may have acted on the call.
    #[error("{0}: the outcome is unknown, WeChat may have acted on the call")]
    Broken(#[source] SendFailure),
    /// WeChat cannot be reached.
    #[error("WeChat cannot be reached: {0}: nothing was sent, it is safe to try again")]
    Unreachable(#[source] SendError),
    /// There is no token.
    #[error("no access_token: {0}")]
    NoToken(#[from] NoToken),
    /// There is no ticket, and WeChat gave no reason.
    #[error("no ticket: {0}")]
    NoTicket(#[source] NoToken),
    /// There was no reply in time. WeChat may have acted on the call.
    #[error("{0}: the outcome is unknown, WeChat may have acted on the call")]
    TimedOut(#[source] SendFailure),
    /// WeChat's own answer to a wrong AppID.
    #[error("invalid appid: it is not the one that this sidecar serves")]
    ForeignAppid,
    /// WeChat's own answer to an expired token, for a token that no account has. The SDK then fetches another with
    /// its AppID, which identifies the account.
    #[error(
        "access_token expired (wechat-sidecar: none of its accounts has this token, or had it in the last two hours, so that it does not say whose the call is; fetch a token from the sidecar with your AppID, or send the header X-Wechat-Appid, or call http://…/APPID/…)"
    )]
    UnknownToken,
}

/// Our codes and their statuses, as docs/errors.md lists them; `wechat::codes` has their meanings. SDKs do not send a call
/// again because of one of them. The last is an exception: it is WeChat's own, like 40013, and makes an SDK fetch a token
/// first.
pub const CODES: [(i64, u16); 18] = [
    (990_400, 400),
    (990_401, 403),
    (990_402, 400),
    (990_403, 403),
    (990_404, 404),
    (990_405, 403),
    (990_406, 400),
    (990_408, 400),
    (990_413, 413),
    (990_421, 421),
    (990_429, 429),
    (990_500, 502),
    (990_501, 503),
    (990_502, 502),
    (990_503, 503),
    (990_504, 504),
    (40013, 200),
    (errcode::EXPIRED, 200),
];

impl ProxyError {
    /// The errcode in the body.
    pub fn code(&self) -> i64 {
        match self {
            Self::Malformed(_) => 990_400,
            Self::CallerKey => 990_401,
            Self::Placeholder => 990_402,
            Self::Stranger(_) => 990_403,
            Self::UnknownAccount(_) => 990_404,
            Self::Closed(_) | Self::Forbidden(_) => 990_405,
            Self::NoAccount | Self::TwoAccounts | Self::SharedCorpid => 990_406,
            Self::BodyMissing(_) => 990_408,
            Self::TooLarge => 990_413,
            Self::Misdirected => 990_421,
            Self::TooFast(_) => 990_429,
            Self::Broken(_) => 990_500,
            Self::Crowded(_) => 990_501,
            Self::Unreachable(_) => 990_502,
            Self::NoToken(_) | Self::NoTicket(_) => 990_503,
            Self::TimedOut(_) => 990_504,
            Self::ForeignAppid => 40013,
            Self::UnknownToken => errcode::EXPIRED,
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        let code = self.code();
        let entry = CODES.iter().find(|(known, _)| *known == code);
        entry
            .and_then(|(_, status)| StatusCode::from_u16(*status).ok())
            .unwrap_or(StatusCode::BAD_GATEWAY)
    }

    /// Whether the app caused it.
    pub fn is_of_the_app(&self) -> bool {
        self.status().is_client_error() || matches!(self, Self::ForeignAppid | Self::UnknownToken)
    }

    /// The problem that it is a case of, if the sidecar has to tell of one.
    pub fn problem(&self) -> Option<Kind> {
        match self {
            Self::Unreachable(_) => Some(Kind::Unreachable),
            Self::TimedOut(_) => Some(Kind::Timeout),
            Self::Broken(_) => Some(Kind::ReplyBroken),
            // The keeper tells why there is no token. A token that is over is nothing wrong.
            Self::NoToken(_) | Self::NoTicket(_) | Self::UnknownToken => None,
            _ => Some(Kind::CallsRejected),
        }
    }

    /// What happened, where the problem itself says the rest.
    pub fn cause(&self) -> &dyn Display {
        match self {
            Self::Unreachable(error) => error,
            Self::TimedOut(failure) | Self::Broken(failure) => failure,
            other => other,
        }
    }

    /// What a call that ends so counts as.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::UnknownToken => Outcome::Local,
            _ if self.is_of_the_app() => Outcome::Rejected,
            _ => Outcome::Failed,
        }
    }

    /// The reply. With `as_200` only the status changes, for SDKs that ignore the body of others.
    pub fn reply(&self, as_200: bool) -> Reply {
        let (marked, errmsg) = match self {
            // It begins as WeChat's errors do, for SDKs that check that.
            Self::UnknownToken => (Mark::Local, self.to_string()),
            _ => (Mark::Error, format!("wechat-sidecar: {self}")),
        };
        let mut reply = json_reply(json!({ "errcode": self.code(), "errmsg": errmsg }));
        if !as_200 {
            *reply.status_mut() = self.status();
        }
        mark(&mut reply, marked);
        let retry_after = match self {
            Self::NoToken(none) | Self::NoTicket(none) => {
                if let Some(code) = none.error.code() {
                    reply
                        .headers_mut()
                        .insert(WECHAT_ERRCODE, HeaderValue::from(code));
                }
                Some(none.retry_after)
            }
            Self::TooFast(error) => Some(error.retry_after()),
            Self::Crowded(_) => Some(Duration::ZERO),
            _ => None,
        };
        if let Some(time) = retry_after {
            let seconds = time.as_secs_f64().ceil().max(1.0) as u64;
            reply
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        reply
    }
}

/// A reply of the sidecar's own, in WeChat's form.
pub(super) fn json_reply(value: serde_json::Value) -> Reply {
    let mut reply = Reply::new(BufferedBody::ready(value.to_string()));
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    reply.headers_mut().insert(header::CONTENT_TYPE, json);
    reply
}

impl From<SendFailure> for ProxyError {
    fn from(failure: SendFailure) -> Self {
        match failure {
            SendFailure::TargetTooLong => Malformed::TargetTooLong.into(),
            SendFailure::NoReply(error) => match error {
                SendError::Dial(DialError::AtCapacity) => Crowded::Connections.into(),
                SendError::Dial(_) | SendError::Closed => Self::Unreachable(error),
                SendError::TimedOut(_) | SendError::Stalled(_) => Self::TimedOut(error.into()),
                SendError::Broken { .. } => Self::Broken(error.into()),
                SendError::AppBodyEnded => Self::BodyMissing(BodyMissing::Ended),
            },
            SendFailure::ReplyStopped(_) => Self::TimedOut(failure),
            SendFailure::SwitchedProtocols | SendFailure::ReplyBroken(_) => Self::Broken(failure),
        }
    }
}

impl From<BufferError<BodyError>> for ProxyError {
    fn from(error: BufferError<BodyError>) -> Self {
        match error {
            BufferError::TooLarge => Self::TooLarge,
            BufferError::NoRoom => Crowded::Body.into(),
            BufferError::Read(error) => Self::BodyMissing(BodyMissing::Broken(error)),
        }
    }
}
