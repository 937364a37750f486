//! What can be wrong with a connection to WeChat, in words that quote nothing of what came on it.

use std::io;

/// Why a reply has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// In the middle of a reply, or before there was one.
    #[error("WeChat closed the connection too early")]
    Ended,
    /// The system, or TLS.
    #[error("the connection to WeChat broke ({0})")]
    Io(io::ErrorKind),
    /// RFC 9112 §4 and §5.
    #[error("WeChat's reply has a head that is not HTTP/1.1")]
    Head,
    /// More than is read of it.
    #[error("WeChat's reply has too large a head")]
    LargeHead,
    /// RFC 9112 §6.3.
    #[error("WeChat's reply has a length that is none, or two of them")]
    Length,
    /// Nobody here could undo another.
    #[error("WeChat's reply has a transfer coding other than chunked")]
    Coding,
    /// RFC 9112 §7.1.
    #[error("WeChat's reply has a broken chunk")]
    Chunk,
}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // TLS says so of an end that nobody announced.
            io::ErrorKind::UnexpectedEof => Self::Ended,
            kind => Self::Io(kind),
        }
    }
}
