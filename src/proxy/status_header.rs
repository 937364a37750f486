//! The header on a reply that says what the sidecar did with the call.

use http::{HeaderName, HeaderValue};

use super::Reply;

/// The header on replies that says what the sidecar did.
pub const STATUS_HEADER: HeaderName = HeaderName::from_static("x-wechat-sidecar");

/// A value of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// WeChat refused the token, and the call was replayed.
    Replayed,
    /// The body was not buffered, so a refusal would reach the app.
    NotReplayable,
    /// The sidecar itself answered: a token endpoint, a ticket, or an unknown token.
    Local,
    /// WeChat's refusal of an earlier call, which no token can heal.
    Remembered,
    /// An error of the sidecar.
    Error,
}

impl Mark {
    /// All marks.
    pub const ALL: [Self; 5] = [
        Self::Replayed,
        Self::NotReplayable,
        Self::Local,
        Self::Remembered,
        Self::Error,
    ];

    /// The word in the header.
    pub fn word(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::NotReplayable => "not-replayable",
            Self::Local => "local",
            Self::Remembered => "remembered",
            Self::Error => "error",
        }
    }
}

/// Adds a mark to `reply`. Earlier marks stay.
pub(super) fn mark(reply: &mut Reply, mark: Mark) {
    reply
        .headers_mut()
        .append(STATUS_HEADER, HeaderValue::from_static(mark.word()));
}
