//! The status page: one document in the binary, without any other file.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, header};
use ring::digest::{SHA256, digest};

use crate::http_host::{HostReply, page};

/// The document, with one style and one script in it.
const PAGE: &str = include_str!("page.html");

/// Browsers run the script and use the style of these very bytes, and fetch nothing but the data.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |tag: &str| {
        let text = inner(tag).unwrap_or_default();
        STANDARD.encode(digest(&SHA256, text.as_bytes()))
    };
    let policy = format!(
        "default-src 'none'; connect-src 'self'; img-src data:; style-src 'sha256-{}'; script-src 'sha256-{}'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("style"),
        hash("script")
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// The content of the element.
fn inner(tag: &str) -> Option<&'static str> {
    let (_, rest) = PAGE.split_once(&format!("<{tag}>"))?;
    Some(rest.split_once(&format!("</{tag}>"))?.0)
}

/// Whether the client is a browser that shows pages.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(header::ACCEPT);
    let mut accept = accept.iter().filter_map(|value| value.to_str().ok());
    accept.any(|value| value.contains("text/html"))
}

/// The page.
pub(super) fn answer() -> HostReply {
    let mut reply = page("text/html; charset=utf-8", PAGE);
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_style_and_one_script_and_nothing_from_elsewhere() {
        for tag in ["style", "script"] {
            assert_eq!(PAGE.matches(&format!("<{tag}")).count(), 1, "{tag}");
            assert!(inner(tag).is_some_and(|text| text.len() > 100), "{tag}");
        }
        for foreign in [" src=", "@import", "url(http", " style=\"", " onclick="] {
            assert!(!PAGE.contains(foreign), "{foreign}");
        }
        assert!(POLICY.to_str().unwrap().matches("sha256-").count() == 2);
    }
}
