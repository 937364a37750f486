//! A call as it goes out: its head in bytes, but for what is the connection's to say, and its body.

use std::fmt;

use http::{HeaderName, HeaderValue, Method};
use http_body::Body;

use crate::body::{buffered::BufferedBody, request_body::RequestBody};

/// How much room a head is given at first.
const USUAL_HEAD: usize = 1024;

/// How long a target may be.
const LONGEST_TARGET: usize = 65_534;

/// A call on its way out.
pub struct UpstreamRequest {
    pub(super) head: Vec<u8>,
    /// Its reply has a head only.
    pub(super) is_head: bool,
    pub(super) body: BufferedBody<RequestBody>,
    /// How many bytes of it there are.
    pub(super) length: u64,
}

impl fmt::Debug for UpstreamRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl UpstreamRequest {
    /// A call with a `body` of known length, to what `target` writes: a path and query. `None` if that is
    /// too long, or could be read as more than a target.
    pub fn new(
        method: &Method,
        body: BufferedBody<RequestBody>,
        target: impl FnOnce(&mut Vec<u8>),
    ) -> Option<Self> {
        let mut head = Vec::with_capacity(USUAL_HEAD);
        head.extend_from_slice(method.as_str().as_bytes());
        head.push(b' ');
        let before = head.len();
        target(&mut head);
        let written = &head[before..];
        // All of it is looked at in any case, which is quicker than to stop early.
        let sound =
            (written.iter()).fold(true, |sound, byte| sound & (*byte > b' ') & (*byte != 0x7f));
        if !sound || !(1..=LONGEST_TARGET).contains(&written.len()) {
            return None;
        }
        head.extend_from_slice(b" HTTP/1.1\r\n");
        Some(Self {
            head,
            is_head: method == Method::HEAD,
            length: body.size_hint().exact().unwrap_or_default(),
            body,
        })
    }

    /// How many bytes its body has.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What has been written of its head, with the token in it.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Adds a header. `Host` is added by the connection, and nobody else may.
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
    fn what_could_be_more_than_a_target_is_none() {
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
            assert!(call(target).is_none(), "{target:?}");
        }
        assert!(call(&[b'/'; LONGEST_TARGET]).is_some());
        assert!(call(&[b'/'; LONGEST_TARGET + 1]).is_none());
        // The token is in the head.
        assert!(!format!("{:?}", call(b"/TOK").unwrap()).contains("TOK"));
    }
}
