//! A request to WeChat: the bytes of its head, except for the headers that the connection adds, and its body.

use std::fmt;

use http::{HeaderName, HeaderValue, Method};
use http_body::Body;

use crate::body::{buffered::BufferedBody, request_body::RequestBody};

/// The initial capacity of a head.
const HEAD_CAPACITY: usize = 1024;

/// The longest target.
const MAX_TARGET: usize = 65_534;

/// Why a request cannot have a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It is longer than most servers accept.
    #[error("the target is too long")]
    TooLong,
    /// It is empty, or has a character that could end it.
    #[error("the target is not sound")]
    Malformed,
}

/// A request to WeChat.
pub struct UpstreamRequest {
    pub(super) head: Vec<u8>,
    /// Whether the method is HEAD, so that the reply has no body.
    pub(super) is_head: bool,
    pub(super) body: BufferedBody<RequestBody>,
    /// The length of the body.
    pub(super) length: u64,
}

impl fmt::Debug for UpstreamRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamRequest")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl UpstreamRequest {
    /// A request with a `body` of known length. `target` writes the path and query.
    pub fn new(
        method: &Method,
        body: BufferedBody<RequestBody>,
        target: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Self, TargetError> {
        let mut head = Vec::with_capacity(HEAD_CAPACITY);
        head.extend_from_slice(method.as_str().as_bytes());
        head.push(b' ');
        let before = head.len();
        target(&mut head);
        let written = &head[before..];
        // Checking all bytes is faster than stopping early, because it vectorizes.
        let valid =
            (written.iter()).fold(true, |valid, byte| valid & (*byte > b' ') & (*byte != 0x7f));
        if !valid || written.is_empty() {
            return Err(TargetError::Malformed);
        }
        if written.len() > MAX_TARGET {
            return Err(TargetError::TooLong);
        }
        head.extend_from_slice(b" HTTP/1.1\r\n");
        Ok(Self {
            head,
            is_head: method == Method::HEAD,
            length: body.size_hint().exact().unwrap_or_default(),
            body,
        })
    }

    /// The length of the body.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The head as far as it is written, for tests and benches. It may hold the token.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Adds a header. It must not be `Host`, which the connection adds.
    pub fn header(&mut self, name: &HeaderName, value: &HeaderValue) {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        for part in [name, b": ", value, b"\r\n"] {
            self.head.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_more_than_a_target_is_refused() {
        let call = |target: &[u8]| {
            let body = BufferedBody::ready("");
            UpstreamRequest::new(&Method::GET, body, |whole| whole.extend_from_slice(target))
        };
        let call_to = call(b"/x?y=\xc3\xa9").unwrap();
        assert_eq!(call_to.head(), b"GET /x?y=\xc3\xa9 HTTP/1.1\r\n");
        for target in [
            &b""[..],
            b"/x HTTP/1.1",
            b"/x\r\nX: 1",
            b"/\nx",
            b"/\tx",
            b"/\0",
            b"/\x7f",
        ] {
            let refused = call(target).unwrap_err();
            assert_eq!(refused, TargetError::Malformed, "{target:?}");
        }
        assert!(call(&[b'/'; MAX_TARGET]).is_ok());
        let refused = call(&[b'/'; MAX_TARGET + 1]).unwrap_err();
        assert_eq!(refused, TargetError::TooLong);
        // The token is in the head.
        assert!(!format!("{:?}", call(b"/TOK").unwrap()).contains("TOK"));
    }
}
