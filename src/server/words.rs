//! Words for what hyper answers in silence: a head that it cannot read.

use bytes::Bytes;
use serde_json::json;

/// WeChat's shape for a 4xx that has no body.
pub(super) fn reworded(bytes: &[u8]) -> Option<Bytes> {
    let head = std::str::from_utf8(bytes)
        .ok()?
        .strip_prefix("HTTP/1.1 4")?;
    if !head.ends_with("\r\n\r\n") || !head.contains("content-length: 0\r\n") {
        return None;
    }
    let (line, _) = head.split_once("\r\n")?;
    let reason = match line.get(..2)? {
        "14" | "31" => "its target or its headers are too long",
        _ => "it is not sound HTTP/1.1",
    };
    let body = json!({
        "errcode": 990_400,
        "errmsg": format!("wechat-sidecar: this call cannot be passed on: {reason}"),
    });
    let body = body.to_string();
    let length = body.len();
    Some(Bytes::from(format!(
        "HTTP/1.1 4{line}\r\ncontent-type: application/json; charset=utf-8\r\nx-wechat-sidecar: error\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hypers_silence_is_put_into_words() {
        let said = reworded(b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n");
        let said = String::from_utf8(said.unwrap().to_vec()).unwrap();
        assert!(
            said.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"),
            "{said}"
        );
        assert!(
            said.contains("990400") && said.contains("too long"),
            "{said}"
        );
        assert!(reworded(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_none());
        assert!(reworded(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}").is_none());
    }
}
