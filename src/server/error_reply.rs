//! The error reply to a head that hyper cannot parse, in place of hyper's, which has no body.

use bytes::Bytes;
use serde_json::json;

/// The error reply, in WeChat's shape, that replaces hyper's 4xx in `bytes`. Returns `None` if `bytes` are not such
/// a reply. With `as_200` it has status 200, for SDKs that ignore the body of others.
pub(super) fn with_body(bytes: &[u8], as_200: bool) -> Option<Bytes> {
    let head = std::str::from_utf8(bytes)
        .ok()?
        .strip_prefix("HTTP/1.1 4")?;
    if !head.ends_with("\r\n\r\n") || !head.contains("content-length: 0\r\n") {
        return None;
    }
    let (line, _) = head.split_once("\r\n")?;
    let reason = match line.get(..2)? {
        "14" | "31" => "its target or its headers are too long, or its Content-Length is too large",
        _ => "it is not sound HTTP/1.1",
    };
    let body = json!({
        "errcode": 990_400,
        "errmsg": format!("wechat-sidecar: this call cannot be passed on: {reason}"),
    });
    let body = body.to_string();
    let status = if as_200 {
        "200 OK".to_owned()
    } else {
        format!("4{line}")
    };
    let length = body.len();
    Some(Bytes::from(format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json; charset=utf-8\r\nx-wechat-sidecar: error\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_4xx_without_a_body_gets_one() {
        let empty = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        for (as_200, line) in [
            (false, "HTTP/1.1 431 Request Header Fields Too Large\r\n"),
            (true, "HTTP/1.1 200 OK\r\n"),
        ] {
            let said = String::from_utf8(with_body(empty, as_200).unwrap().to_vec()).unwrap();
            assert!(said.starts_with(line), "{said}");
            assert!(
                said.contains("990400") && said.contains("too long"),
                "{said}"
            );
        }
        for other in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
        ] {
            assert!(with_body(other.as_bytes(), false).is_none());
        }
    }
}
