//! The head to send, and the head to return.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header, uri::PathAndQuery};
use percent_encoding::percent_decode;

use super::guard::KEY;

/// What is done to a query.
#[derive(Clone, Copy)]
pub(super) enum Edit<'a> {
    /// Nothing.
    Keep,
    /// The caller's token is removed.
    Without,
    /// The caller's token is replaced; this one is ready for a query.
    Token(&'a str),
    /// The caller's token and secret are removed, ours is put in.
    Secret {
        /// When the caller gave none.
        appid: Option<&'a str>,
        /// Ready for a query.
        secret: &'a str,
    },
}

/// The target to send: byte for byte what came, less what `edit` removes, and then what it adds.
/// `None` if that is no target.
pub(super) fn target(path: &str, query: Option<&str>, edit: Edit<'_>) -> Option<Uri> {
    if let Edit::Keep = edit {
        let whole = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        return parse(whole);
    }
    let mut whole = String::with_capacity(path.len() + query.map_or(0, str::len) + 640);
    whole.push_str(path);
    let mut mark = '?';
    let mut add = |parts: &[&str]| {
        whole.push(mark);
        mark = '&';
        parts.iter().for_each(|part| whole.push_str(part));
    };
    for parameter in query
        .filter(|query| !query.is_empty())
        .into_iter()
        .flat_map(|query| query.split('&'))
    {
        if !is_removed(parameter, edit) {
            add(&[parameter]);
        }
    }
    match edit {
        Edit::Keep | Edit::Without => {}
        Edit::Token(token) => add(&["access_token=", token]),
        Edit::Secret { appid, secret } => {
            if let Some(appid) = appid {
                add(&["appid=", appid]);
            }
            add(&["secret=", secret]);
        }
    }
    parse(whole)
}

fn is_removed(parameter: &str, edit: Edit<'_>) -> bool {
    let name = parameter.split('=').next().unwrap_or_default();
    if named(name, "access_token") {
        return true;
    }
    let Edit::Secret { appid, .. } = edit else {
        return false;
    };
    named(name, "secret") || (appid.is_some() && named(name, "appid"))
}

fn parse(whole: String) -> Option<Uri> {
    PathAndQuery::from_maybe_shared(Bytes::from(whole))
        .ok()
        .map(Uri::from)
}

/// Whether the raw `name` decodes to `wanted`.
pub(super) fn named(name: &str, wanted: &str) -> bool {
    name == wanted || (name.contains('%') && percent_decode(name.as_bytes()).eq(wanted.bytes()))
}

/// The decoded values of every parameter that is called `wanted`.
pub(super) fn values<'a>(query: Option<&'a str>, wanted: &'a str) -> impl Iterator<Item = String> {
    let parameters = query.into_iter().flat_map(|query| query.split('&'));
    parameters.filter_map(move |parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = || {
            percent_decode(value.as_bytes())
                .decode_utf8_lossy()
                .into_owned()
        };
        named(name, wanted).then(value)
    })
}

/// The headers to send with a body of `length` bytes. `Host` is the connection's to say.
pub(super) fn request_headers(method: &Method, headers: &HeaderMap, length: u64) -> HeaderMap {
    let named = connection_options(headers);
    let mut sent = HeaderMap::with_capacity(headers.len() + 2);
    for (name, value) in headers {
        if !stays_here(name) && !named.contains(name) {
            sent.append(name.clone(), value.clone());
        }
    }
    // WeChat answers 412 to what has a body and no Content-Length.
    let bodiless = matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE
    );
    if length > 0 || !bodiless || headers.contains_key(header::CONTENT_LENGTH) {
        sent.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    // A compressed reply could not be read for a refusal; and an absent header allows any coding.
    sent.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    sent
}

/// Takes from a reply's head what concerns one connection only, and what only we may say.
pub(super) fn reply_headers(headers: &mut HeaderMap) {
    // Of two lengths the chunks are right (RFC 9112 §6.3).
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    for name in connection_options(headers) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove("x-wechat-sidecar");
    headers.remove("x-wechat-sidecar-errcode");
}

/// Cuts `secrets` out of the headers that an app follows or logs.
pub(super) fn clean_location(headers: &mut HeaderMap, secrets: &[&str]) {
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
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
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            text = text.replace(secret, "");
        }
        match HeaderValue::try_from(text) {
            Ok(clean) => headers.insert(name, clean),
            Err(_) => headers.remove(name),
        };
    }
}

/// Headers that concern one connection only (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Whether a request header is not sent on as it is.
fn stays_here(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::HOST
            | header::CONTENT_LENGTH
            | header::ACCEPT_ENCODING
            | header::CONNECTION
            | header::TE
            | header::TRAILER
            | header::TRANSFER_ENCODING
            | header::UPGRADE
            | header::EXPECT
    ) || matches!(name.as_str(), KEY | "keep-alive" | "http2-settings")
        || name.as_str().starts_with("proxy-")
}

/// What `Connection` names, on as many lines as it stands. A caller cannot name away what frames
/// a message or says whose it is.
fn connection_options(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != header::CONTENT_LENGTH && *name != header::HOST)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with_token(target_in: &str) -> String {
        let (path, query) = target_in
            .split_once('?')
            .map_or((target_in, None), |(p, q)| (p, Some(q)));
        target(path, query, Edit::Token("T")).unwrap().to_string()
    }

    #[test]
    fn the_token_is_put_in_and_the_rest_stays_byte_for_byte() {
        for (came, sent) in [
            ("/x", "/x?access_token=T"),
            ("/x?", "/x?access_token=T"),
            ("/x?a=1", "/x?a=1&access_token=T"),
            ("/x?a=1&", "/x?a=1&&access_token=T"),
            ("/x?access_token=old", "/x?access_token=T"),
            ("/x?access_token=old&a=1", "/x?a=1&access_token=T"),
            (
                "/x?a=1&access_token=old&access_token=older&b",
                "/x?a=1&b&access_token=T",
            ),
            ("/x?access_token", "/x?access_token=T"),
            ("/x?%61ccess%5Ftoken=old", "/x?access_token=T"),
            (
                "/x?access_tokens=1&xaccess_token=2",
                "/x?access_tokens=1&xaccess_token=2&access_token=T",
            ),
            (
                "/x?b=%2B+%e4%bd&&a=&a=",
                "/x?b=%2B+%e4%bd&&a=&a=&access_token=T",
            ),
            ("/%61/b?q=a?b", "/%61/b?q=a?b&access_token=T"),
        ] {
            assert_eq!(with_token(came), sent, "{came}");
        }
    }

    #[test]
    fn a_login_gets_our_secret_and_loses_the_callers() {
        let edit = |appid| Edit::Secret { appid, secret: "S" };
        let sent = |query, appid| {
            target("/sns/jscode2session", Some(query), edit(appid))
                .unwrap()
                .to_string()
        };
        assert_eq!(
            sent("js_code=1", Some("wx1")),
            "/sns/jscode2session?js_code=1&appid=wx1&secret=S"
        );
        assert_eq!(
            sent(
                "appid=wx1&%73ecret=x&access_token=y&js_code=1&secret=z",
                None
            ),
            "/sns/jscode2session?appid=wx1&js_code=1&secret=S"
        );
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
        let sent = request_headers(&Method::POST, &headers, 5);
        let mut names: Vec<_> = sent
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "accept-encoding: identity",
                "content-length: 5",
                "content-type: text/plain",
                "x-kept: 1",
                "x-kept: 2"
            ]
        );
        let empty = HeaderMap::new();
        assert!(request_headers(&Method::POST, &empty, 0).contains_key(header::CONTENT_LENGTH));
        assert!(!request_headers(&Method::GET, &empty, 0).contains_key(header::CONTENT_LENGTH));
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
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, HeaderValue::from_static(came));
            clean_location(&mut headers, &["TOK", "SEC"]);
            assert_eq!(headers[header::LOCATION], returned);
        }
    }

    proptest! {
        #[test]
        fn rewriting_agrees_with_a_plain_reference(
            parts in prop::collection::vec(
                prop_oneof![
                    Just("access_token=x".to_owned()),
                    Just("%61ccess_token".to_owned()),
                    Just("access%5ftoken=%26".to_owned()),
                    Just(String::new()),
                    "[a-z%+_.~=]{0,8}",
                ],
                0..6,
            ),
        ) {
            let query = parts.join("&");
            let kept: Vec<&str> = query
                .split('&')
                .filter(|part| {
                    let name = part.split('=').next().unwrap();
                    percent_decode(name.as_bytes()).collect::<Vec<u8>>() != b"access_token"
                })
                .chain(["access_token=T"])
                .collect();
            let expected = if query.is_empty() { "/x?access_token=T".to_owned() } else { format!("/x?{}", kept.join("&")) };
            prop_assert_eq!(with_token(&format!("/x?{query}")), expected);
        }
    }
}
