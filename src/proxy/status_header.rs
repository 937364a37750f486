//! The header on a reply that says what the sidecar did.

use http::{HeaderName, HeaderValue};

use super::Reply;

/// The header on replies that says what the sidecar did.
pub const HEADER: HeaderName = HeaderName::from_static("x-wechat-sidecar");

/// What it can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// WeChat refused the token, and the call was sent once more.
    Replayed,
    /// The body was not held: a refusal would reach the app.
    NotReplayable,
    /// Answered by the sidecar: a token endpoint, a ticket, or a token that nobody knows.
    Local,
    /// WeChat's refusal of an earlier call, which no token heals.
    Remembered,
    /// An error of the sidecar's.
    Error,
}

impl Mark {
    /// All of them.
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

/// Adds to `reply` what was done; earlier marks stay.
pub(super) fn mark(reply: &mut Reply, mark: Mark) {
    reply
        .headers_mut()
        .append(HEADER, HeaderValue::from_static(mark.word()));
}
