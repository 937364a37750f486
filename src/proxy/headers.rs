//! The headers of the request to WeChat and of the reply to the app.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::{
    guard::{APPID, KEY},
    target::named,
};
use crate::client::UpstreamRequest;

/// Adds the headers of a call to `sent`. The connection adds `Host`.
pub(super) fn request_headers(method: &Method, headers: &HeaderMap, sent: &mut UpstreamRequest) {
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

/// Removes `secrets` from the headers that an app follows or logs. Also removes `prefix` from a path, because the
/// sidecar adds it again when the app follows.
pub(super) fn clean_location(headers: &mut HeaderMap, prefix: &str, secrets: &[&str]) {
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        if !headers.keys().any(|known| *known == name) {
            continue;
        }
        let Some(value) = headers.get(&name) else {
            continue;
        };
        let mut text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        if let Some((base, query)) = text.split_once('?') {
            let (query, fragment) = query
                .split_once('#')
                .map_or((query, None), |(q, f)| (q, Some(f)));
            let kept: Vec<_> = query
                .split('&')
                .filter(|parameter| {
                    let name = parameter.split('=').next().unwrap_or_default();
                    !named(name, "access_token") && !named(name, "secret")
                })
                .collect();
            let mark = if kept.is_empty() { "" } else { "?" };
            let fragment = fragment
                .map(|fragment| format!("#{fragment}"))
                .unwrap_or_default();
            text = format!("{base}{mark}{}{fragment}", kept.join("&"));
        }
        let behind = text.strip_prefix(prefix).filter(|_| !prefix.is_empty());
        // Two slashes would begin another host.
        let is_path = |behind: &&str| behind.starts_with('/') && !behind.starts_with("//");
        if let Some(behind) = behind.filter(is_path) {
            text = behind.to_owned();
        }
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            text = text.replace(secret, "");
        }
        match HeaderValue::try_from(text) {
            Ok(clean) => headers.insert(name, clean),
            Err(_) => headers.remove(name),
        };
    }
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
        request_headers(method, headers, &mut call);
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

    #[test]
    fn a_location_tells_no_secret() {
        for (came, returned) in [
            (
                "https://h/x?a=1&access_token=TOK&b=2#f",
                "https://h/x?a=1&b=2#f",
            ),
            ("/x?%61ccess_token=TOK", "/x"),
            ("/x/TOK/y?z=TOK", "/x//y?z="),
            ("/x?secret=SEC", "/x"),
            ("/plain", "/plain"),
            ("/wx/plain?a=1", "/plain?a=1"),
            ("/wxplain", "/wxplain"),
            ("/wx//host/plain", "/wx//host/plain"),
            ("https://h/wx/plain", "https://h/wx/plain"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, HeaderValue::from_static(came));
            clean_location(&mut headers, "/wx", &["TOK", "SEC"]);
            assert_eq!(headers[header::LOCATION], returned);
        }
    }
}
