//! Errors of a connection to WeChat. Their texts quote nothing that was received.

use std::io;

/// Why a reply could not be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// The connection was closed before a reply or in the middle of it.
    #[error("WeChat closed the connection too early")]
    ClosedEarly,
    /// The system or TLS reported an error.
    #[error("the connection to WeChat broke ({0})")]
    Io(io::ErrorKind),
    /// The head is malformed (RFC 9112 §4 and §5).
    #[error("WeChat's reply has a head that is not HTTP/1.1")]
    Head,
    /// The head exceeds the limit.
    #[error("WeChat's reply has too large a head")]
    LargeHead,
    /// `Content-Length` is malformed or ambiguous (RFC 9112 §6.3).
    #[error("WeChat's reply has a length that is none, or two of them")]
    Length,
    /// The transfer coding is not supported.
    #[error("WeChat's reply has a transfer coding other than chunked")]
    Coding,
    /// A chunk is malformed (RFC 9112 §7.1).
    #[error("WeChat's reply has a broken chunk")]
    Chunk,
}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // TLS reports a close without `close_notify` in this way.
            io::ErrorKind::UnexpectedEof => Self::ClosedEarly,
            kind => Self::Io(kind),
        }
    }
}
