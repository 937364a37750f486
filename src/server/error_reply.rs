//! The error reply to a head that hyper cannot parse, in place of hyper's, which has no body.

use crate::{client::header_names::write_usual, proxy::Reply};

/// The status of hyper's reply to a head that it cannot parse. `None` if `bytes` are not such a reply.
pub(super) fn status_of(bytes: &[u8]) -> Option<u16> {
    let head = std::str::from_utf8(bytes).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    let ends = head.ends_with("\r\n\r\n");
    let is_refusal = status.starts_with('4') && ends && head.contains("Content-Length: 0\r\n");
    is_refusal.then(|| status.parse().ok()).flatten()
}

/// The bytes of the last reply on a connection, whose body is whole.
pub(super) fn encode(reply: &Reply) -> Vec<u8> {
    let status = reply.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for (name, value) in reply.headers() {
        write_usual(&mut bytes, name.as_str());
        for part in [b": ", value.as_bytes(), b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    }
    let body = reply.body().start();
    let end = format!(
        "Connection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    bytes.extend_from_slice(end.as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::body::buffered::BufferedBody;

    #[test]
    fn only_a_refusal_without_a_body_is_taken_for_hypers() {
        let empty = "HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\nDate: x\r\n\r\n";
        assert_eq!(status_of(empty.as_bytes()), Some(431));
        for other in [
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}",
            &empty[..empty.len() - 2],
        ] {
            assert_eq!(status_of(other.as_bytes()), None);
        }
    }

    #[test]
    fn a_reply_is_written_with_its_length_and_the_end_of_the_connection() {
        let mut reply = Reply::new(BufferedBody::ready("{}"));
        let value = HeaderValue::from_static("error");
        reply.headers_mut().insert("x-wechat-sidecar", value);
        let written = String::from_utf8(encode(&reply)).unwrap();
        assert_eq!(
            written,
            "HTTP/1.1 200 OK\r\nX-Wechat-Sidecar: error\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
        );
    }
}
