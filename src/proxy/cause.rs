//! What was wrong with a call, with its body, or with WeChat's reply: the causes of a [`ProxyError`].
//!
//! [`ProxyError`]: super::error::ProxyError

use crate::{
    body::error::BodyError, client::SendError, net::connector::DialError,
    wechat::endpoint::PathError,
};

/// Why a call cannot be passed on as it is.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// The target does not fit into a request to WeChat.
    #[error("its target is too long")]
    TargetTooLong,
    /// The call has two different tokens, and nothing says which one is meant.
    #[error("it carries the sidecar's access_token and another: send one")]
    TwoTokens,
    /// Two servers could interpret the path differently.
    #[error("{0}")]
    Path(#[from] PathError),
    /// The target is neither a path nor a URL of HTTP.
    #[error(
        "its target is no path and no http URL: call /cgi-bin/… or http://api.weixin.qq.com/cgi-bin/…"
    )]
    Target,
    /// The reply to TRACE contains the call, and with it the token.
    #[error("TRACE and TRACK could quote the token to the app")]
    Trace,
    /// The call has no Host header, or several.
    #[error("it needs one Host header")]
    Host,
    /// The body is larger than any token request.
    #[error("a token request is not that long")]
    LongTokenRequest,
    /// The parameters of stable_token are in its body, which only a POST has.
    #[error("stable_token takes POST")]
    StableTokenMethod,
    /// Two servers could disagree about the end of the body.
    #[error("{0}")]
    Framing(&'static str),
    /// The head cannot be parsed.
    #[error("{0}")]
    Head(#[from] HeadFault),
}

/// Why the head of a call cannot be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// It is not HTTP, and nothing tells what it is.
    #[error("it is not sound HTTP/1.1")]
    Unsound,
    /// A part of it is too long, or says that the body is.
    #[error("its target or its headers are too long, or its Content-Length is too large")]
    TooLong,
    /// The target has a byte that may not stand there as it is.
    #[error("its target has the raw byte 0x{0:02X}: percent-encode it, as %{0:02X}")]
    RawByte(u8),
    /// It is the beginning of HTTP/2.
    #[error(
        "it is HTTP/2, and this port speaks HTTP/1.1: tell the client to begin with HTTP/1.1, without prior knowledge of HTTP/2"
    )]
    Http2,
    /// It is the beginning of TLS.
    #[error(
        "it is TLS, and this port speaks plain HTTP: call http://… instead of https://…, or see --tls-listen"
    )]
    Tls,
    /// It is not TLS.
    #[error("it is plain HTTP, and this port speaks TLS: call https://… instead of http://…")]
    NotTls,
}

/// Why a call may come from a stranger.
#[derive(Debug, thiserror::Error)]
pub enum Stranger {
    /// The sidecar cannot see the calls in a tunnel, unless it has certificates.
    #[error(
        "CONNECT is for https, and this listener has no certificates: call http://…, so that the token can be put in, or see --tls-listen and --trust-dir"
    )]
    Connect,
    /// A tunnel leads nowhere else.
    #[error(
        "this sidecar calls WeChat only, and CONNECT is for WeChat's hosts at port 443: name the other hosts in NO_PROXY, or set HTTPS_PROXY for calls to WeChat alone"
    )]
    Tunnel,
    /// The Host header names another server. A browser sends such a call when a web page uses DNS rebinding.
    #[error(
        "this sidecar calls WeChat only: Host must be a loopback name, one of WeChat's hosts, or allowed by --allow-host"
    )]
    Host,
    /// A command such as `health` was sent to the wrong port.
    #[error("this port carries calls to WeChat; the question is for the admin port, see --admin")]
    ForAdmin,
    /// The headers are those of a browser, so a web page sent the call.
    #[error(
        "calls from a browser are not passed on (Origin or Sec-Fetch-Site says that this is one); if an app sent it, it copies the headers of its own callers: send none of those"
    )]
    Browser,
    /// Another proxy forwarded the call, and may have received it from anybody.
    #[error(
        "this call was forwarded by another proxy, so it may be a stranger's; if that is wanted, see --allow-forwarded"
    )]
    Forwarded,
}

/// Why the configuration forbids a call.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    /// The call is `clear_quota/v2`.
    #[error(
        "clear_quota/v2 resets the whole account's quota, an operator's act; see --allow-clear-quota"
    )]
    QuotaReset,
    /// The call is the login of a user, and the account has no AppSecret.
    #[error(
        "a login takes the AppSecret, which this account has not: set its secret_file or secret"
    )]
    Login,
    /// The call is a token request.
    #[error(
        "the sidecar answers no token requests (--token-endpoint off): call the API without a token"
    )]
    TokenEndpoint,
}

/// Why the app's body is incomplete.
#[derive(Debug, thiserror::Error)]
pub enum BodyMissing {
    /// The body ended while it was sent to WeChat.
    #[error("it ended early")]
    Ended,
    /// The body ended while it was buffered.
    #[error("{0}")]
    Broken(#[source] BodyError),
}

/// The limit that was reached.
#[derive(Debug, thiserror::Error)]
pub enum Crowded {
    /// The budget has no room for a token request, whose body says which account is meant.
    #[error("no room for a token request")]
    TokenRequest,
    /// The budget has no room for a body that must be buffered, because WeChat needs a Content-Length.
    #[error("no room to hold a body without Content-Length")]
    Body,
    /// All connections to WeChat that may be open are busy.
    #[error("{}", DialError::AtCapacity)]
    Connections,
}

/// Why a send has no reply.
#[derive(Debug, thiserror::Error)]
pub enum SendFailure {
    /// The target of the call is too long.
    #[error("its target is too long")]
    TargetTooLong,
    /// No reply arrived.
    #[error("{0}")]
    NoReply(#[from] SendError),
    /// WeChat switched protocols, which the app did not ask for.
    #[error("WeChat switched protocols")]
    SwitchedProtocols,
    /// The reply stopped while its beginning was read, before any of it was passed on.
    #[error("WeChat's reply stopped: {0}")]
    ReplyStopped(#[source] BodyError),
    /// The reply broke off, or was malformed, while its beginning was read.
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

/// An error in the body of a reply.
impl From<BodyError> for SendFailure {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Idle(_) => Self::ReplyStopped(error),
            BodyError::App(_) | BodyError::Upstream(_) => Self::ReplyBroken(error),
        }
    }
}
