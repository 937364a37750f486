//! What the fuzzer of targets runs (see `fuzz/`).

use http::{HeaderMap, HeaderValue, header};
use percent_encoding::percent_decode;

use super::{
    cut_secrets::clean_reply,
    target::{Edit, write},
};
use crate::wechat::{api::Api, endpoint::Endpoint};

const TOKEN: &str = "TOKEN";

/// Reads `data` as a target, and puts our token into it.
pub fn target(data: &[u8]) {
    header(data);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    for api in [Api::Wechat, Api::Wecom] {
        if let Ok(endpoint) = Endpoint::of(api, path.as_bytes()) {
            // A canonical path is its own.
            let again = Endpoint::of(api, endpoint.path()).map(|endpoint| endpoint.row());
            let encoded = endpoint.path().contains(&b'%');
            assert!(encoded || again == Ok(endpoint.row()));
        }
    }
    let mut sent = Vec::new();
    write(&mut sent, "", path, query, Edit::Token(TOKEN));
    let sent = String::from_utf8(sent).expect("it was text");
    assert!(sent.starts_with(path));
    let (_, query) = sent.split_once('?').expect("a token");
    let names = query
        .split('&')
        .map(|parameter| parameter.split('=').next().unwrap_or_default());
    let tokens = names.filter(|name| percent_decode(name.as_bytes()).eq(*b"access_token"));
    assert_eq!(tokens.count(), 1, "{sent}");
}

/// Reads `data` as the value of a header.
fn header(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.append(header::LOCATION, value.clone());
    headers.append(header::LINK, value);
    clean_reply(&mut headers, "", &[TOKEN]);
    for left in headers.values() {
        let mut text = left.as_bytes().to_vec();
        for _ in 0..=3 {
            let found = text
                .windows(TOKEN.len())
                .any(|window| window == TOKEN.as_bytes());
            assert!(!found, "{left:?}");
            text = percent_decode(&text).collect();
        }
        let quotes = data.windows(2).any(|two| two == b"TO") || data.contains(&b'%');
        assert!(quotes || left.as_bytes() == data);
    }
}
