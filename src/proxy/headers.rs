//! The headers of the request to WeChat and of the reply to the app.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::{
    guard::{APPID, KEY},
    private_headers::PrivateHeaders,
};
use crate::client::UpstreamRequest;

/// Adds the headers of a call to `sent`, without those that are `private` if it goes to a host of Tencent's. The
/// connection adds `Host`.
pub(super) fn request_headers(
    method: &Method,
    headers: &HeaderMap,
    private: Option<&PrivateHeaders>,
    sent: &mut UpstreamRequest,
) {
    let names_others = |value: &HeaderValue| !is_usual(value);
    let named = if (headers.get_all(header::CONNECTION).iter()).any(names_others) {
        connection_options(headers)
    } else {
        Vec::new()
    };
    let mut declared = None;
    for (name, value) in headers {
        match *name {
            header::HOST | header::ACCEPT_ENCODING | header::CONNECTION => {}
            header::CONTENT_LENGTH => declared = Some(value),
            _ if stays_here(name) || named.contains(name) => {}
            _ if private.is_some_and(|private| private.hold_back(name)) => {}
            _ => sent.header(name, value),
        }
    }
    // WeChat answers 412 to a request with a body and without Content-Length.
    let bodiless = matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE
    );
    let length = sent.length();
    if length > 0 || !bodiless || declared.is_some() {
        let same = declared.filter(|declared| is_number(declared.as_bytes(), length));
        match same {
            Some(same) => sent.header(&header::CONTENT_LENGTH, same),
            None => sent.header(&header::CONTENT_LENGTH, &HeaderValue::from(length)),
        }
    }
    // A compressed reply could not be checked for a refusal. Without this header, any coding would be allowed.
    sent.header(
        &header::ACCEPT_ENCODING,
        &HeaderValue::from_static("identity"),
    );
}

/// Whether `text` is `number` in its usual form.
fn is_number(text: &[u8], number: u64) -> bool {
    let digits = text.iter().all(u8::is_ascii_digit) && (1..=19).contains(&text.len());
    let leading_zero = text.len() > 1 && text[0] == b'0';
    let read = |sum: u64, digit: &u8| sum * 10 + u64::from(digit - b'0');
    digits && !leading_zero && text.iter().fold(0, read) == number
}

/// Removes the headers of a reply that concern one connection only, and those that only the sidecar may set. One pass
/// over the headers costs less than a lookup for each of them.
pub(super) fn reply_headers(headers: &mut HeaderMap) {
    let names_others = |(name, value): (&HeaderName, &HeaderValue)| {
        *name == header::CONNECTION && !is_usual(value)
    };
    if headers.iter().any(names_others) {
        for named in connection_options(headers) {
            headers.remove(named);
        }
    }
    while let Some(name) = headers.keys().find(|name| stays_with_us(name)).cloned() {
        headers.remove(name);
    }
}

/// Whether a header of a reply concerns one connection only (RFC 9110 §7.6.1), or may only be set by the sidecar.
fn stays_with_us(name: &HeaderName) -> bool {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    matches!(
        *name,
        header::CONNECTION
            | header::PROXY_AUTHENTICATE
            | header::TE
            | header::TRAILER
            | header::TRANSFER_ENCODING
            | header::UPGRADE
    ) || [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        super::STATUS_HEADER,
        super::error::WECHAT_ERRCODE,
    ]
    .contains(name)
}

/// Whether a header of a request is not sent on. Headers that are set anew are not among them.
fn stays_here(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::TE | header::TRAILER | header::TRANSFER_ENCODING | header::UPGRADE | header::EXPECT
    ) || matches!(name.as_str(), KEY | APPID | "keep-alive" | "http2-settings")
        || name.as_str().starts_with("proxy-")
}

/// Whether `Connection` has one of its usual values, which name no other header.
fn is_usual(connection: &HeaderValue) -> bool {
    connection == "keep-alive" || connection == "close"
}

/// The headers that `Connection` names, in all its lines. A caller cannot remove those that frame the message or name
/// the host.
fn connection_options(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter(|value| !is_usual(value))
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != header::CONTENT_LENGTH && *name != header::HOST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::buffered::BufferedBody;

    /// The headers that are sent, sorted.
    fn sent(method: &Method, headers: &HeaderMap, body: &'static str) -> Vec<String> {
        let body = BufferedBody::ready(body);
        let mut call = UpstreamRequest::new(method, body, |target| target.push(b'/')).unwrap();
        request_headers(method, headers, None, &mut call);
        let head = String::from_utf8(call.head().to_owned()).unwrap();
        let mut lines: Vec<_> = head.lines().skip(1).map(str::to_owned).collect();
        lines.sort();
        lines
    }

    #[test]
    fn what_concerns_one_connection_does_not_go_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "localhost"),
            ("connection", "keep-alive, X-Hop"),
            ("connection", "content-length, host, x-other"),
            ("x-hop", "1"),
            ("x-other", "1"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
            ("proxy-authorization", "Basic x"),
            ("proxy-anything", "x"),
            ("x-wechat-sidecar-key", "k"),
            ("x-wechat-appid", "wx1"),
            ("accept-encoding", "gzip"),
            ("content-length", "99"),
            ("x-kept", "1"),
            ("x-kept", "2"),
            ("content-type", "text/plain"),
        ] {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        assert_eq!(
            sent(&Method::POST, &headers, "12345"),
            [
                "accept-encoding: identity",
                "content-length: 5",
                "content-type: text/plain",
                "x-kept: 1",
                "x-kept: 2"
            ]
        );
        let empty = HeaderMap::new();
        let length = "content-length: 0".to_owned();
        assert!(sent(&Method::POST, &empty, "").contains(&length));
        assert!(!sent(&Method::GET, &empty, "").contains(&length));
    }
}
