//! What was wrong with a call, with its body, or with WeChat's reply: the causes of a [`ProxyError`].
//!
//! [`ProxyError`]: super::error::ProxyError

use crate::{
    body::request_body::BodyError, client::SendError, net::connector::DialError,
    wechat::endpoint::PathError,
};

/// Why a call cannot be passed on as it is.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// A head of that size is not sent.
    #[error("its target is too long")]
    TargetTooLong,
    /// Only one of them can be meant.
    #[error("it carries the sidecar's access_token and another: send one")]
    TwoTokens,
    /// Two servers could read the path in two ways.
    #[error("{0}")]
    Path(#[from] PathError),
    /// A method that returns the call.
    #[error("TRACE could quote the token to the app")]
    Trace,
    /// None, or several.
    #[error("it needs one Host header")]
    Host,
    /// More than is read of one.
    #[error("a token request is not that long")]
    LongTokenRequest,
    /// Its parameters are in its body.
    #[error("stable_token takes POST")]
    StableTokenMethod,
    /// Two servers could see its end in two places.
    #[error("{0}")]
    Framing(&'static str),
}

/// Why a call is taken for a stranger's.
#[derive(Debug, thiserror::Error)]
pub enum Stranger {
    /// A tunnel would hide the calls in it.
    #[error("CONNECT is not for this proxy: call http://…, so that the token can be put in")]
    Connect,
    /// DNS rebinding, or a call for another server.
    #[error(
        "this sidecar calls WeChat only: Host must be a loopback name, one of WeChat's hosts, or allowed by --allow-host"
    )]
    Host,
    /// The command line's, at the wrong port.
    #[error("this port carries calls to WeChat; the question is for the admin port, see --admin")]
    ForAdmin,
    /// A page of anybody's.
    #[error("calls from a browser are not passed on")]
    Browser,
    /// Who sent it to the other proxy is not known.
    #[error(
        "this call was forwarded by another proxy, so it may be a stranger's; if that is wanted, see --allow-forwarded"
    )]
    Forwarded,
}

/// What the configuration keeps closed.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    /// `clear_quota/v2`.
    #[error(
        "clear_quota/v2 resets the whole account's quota, an operator's act; see --allow-clear-quota"
    )]
    QuotaReset,
    /// The logins of users, without an AppSecret.
    #[error(
        "a login takes the AppSecret, which this account has not: set its secret_file or secret"
    )]
    Login,
    /// The token endpoints.
    #[error(
        "the sidecar answers no token requests (--token-endpoint off): call the API without a token"
    )]
    TokenEndpoint,
}

/// Why the app's body is not there.
#[derive(Debug, thiserror::Error)]
pub enum BodyMissing {
    /// While it was sent to WeChat.
    #[error("it ended early")]
    Ended,
    /// While it was buffered.
    #[error("{0}")]
    Broken(#[source] BodyError),
}

/// What there was no room for.
#[derive(Debug, thiserror::Error)]
pub enum Crowded {
    /// A body that says which account is meant.
    #[error("no room for a token request")]
    TokenRequest,
    /// A body that must be held, for it leaves with a Content-Length.
    #[error("no room to hold a body without Content-Length")]
    Body,
    /// A connection to WeChat.
    #[error("{}", DialError::Crowded)]
    Connections,
}

/// Why a sending has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendFailure {
    /// Of the call.
    #[error("its target is too long")]
    TargetTooLong,
    /// No reply began.
    #[error("{0}")]
    NoReply(#[from] SendError),
    /// Nobody asked for that.
    #[error("WeChat switched protocols")]
    SwitchedProtocols,
    /// Nothing more came of a reply, whose beginning is read before any of it is passed on.
    #[error("WeChat's reply stopped: {0}")]
    ReplyStopped(#[source] BodyError),
    /// The same, of one that ended too early or made no sense.
    #[error("WeChat's reply broke off: {0}")]
    ReplyBroken(#[source] BodyError),
}

impl SendFailure {
    /// Whether WeChat cannot have seen the call.
    pub fn nothing_sent(&self) -> bool {
        match self {
            Self::TargetTooLong => true,
            Self::NoReply(error) => error.nothing_sent(),
            Self::SwitchedProtocols | Self::ReplyStopped(_) | Self::ReplyBroken(_) => false,
        }
    }
}

/// Of a reply's body.
impl From<BodyError> for SendFailure {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Idle(_) => Self::ReplyStopped(error),
            BodyError::Broken(_) | BodyError::Reply(_) => Self::ReplyBroken(error),
        }
    }
}
