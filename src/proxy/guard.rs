//! Only the app beside the sidecar may call, and nobody may call through it.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method, Version, header, request::Parts, uri::Authority};

use super::{
    GuardOptions, STATUS_HEADER,
    cause::{Malformed, Stranger},
    error::ProxyError,
};
use crate::net::origin::is_loopback;

/// The kind of listener that a call came in at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// A loopback address.
    Loopback,
    /// An address that other machines reach.
    Open,
    /// A socket in the file system.
    Unix,
    /// The admin port, which takes no calls.
    Admin,
}

/// The listener that a call came in at.
#[derive(Clone, Debug)]
pub struct ListenerInfo {
    /// Its kind.
    pub exposure: Exposure,
    /// The account whose calls come in there, if the listener belongs to one.
    pub account: Option<Arc<str>>,
}

/// The header with the caller's key.
pub const KEY: &str = "x-wechat-sidecar-key";

/// The header that names the account, by AppID or name.
pub const APPID: &str = "x-wechat-appid";

/// The value of [`STATUS_HEADER`] on a request to the admin port. A port for calls rejects such a request.
pub const FOR_ADMIN: &str = "for-admin";

/// The hosts of WeChat: the default one, the one for disaster recovery, the regional ones, and one that old SDKs use.
const WECHAT_HOSTS: [&str; 6] = [
    "api.weixin.qq.com",
    "api2.weixin.qq.com",
    "sh.api.weixin.qq.com",
    "sz.api.weixin.qq.com",
    "hk.api.weixin.qq.com",
    "file.api.weixin.qq.com",
];

impl GuardOptions {
    /// Checks whether the call is accepted. `is_upstream` says whether an account's calls go to a host of this name.
    pub fn check(
        &self,
        head: &Parts,
        exposure: Exposure,
        is_upstream: &impl Fn(&str) -> bool,
    ) -> Result<(), ProxyError> {
        check_method(&head.method)?;
        self.check_key(&head.headers)?;
        self.check_host(head, exposure, is_upstream)?;
        self.check_origin(&head.headers, exposure)
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), ProxyError> {
        let Some(key) = &self.caller_key else {
            return Ok(());
        };
        let mut shown = headers.get_all(KEY).iter();
        match (shown.next(), shown.next()) {
            (Some(shown), None) if key.held().matches(shown.as_bytes()) => Ok(()),
            _ => Err(ProxyError::CallerKey),
        }
    }

    /// A page in a browser can make any name point to 127.0.0.1 (DNS rebinding), but it cannot
    /// change the name in `Host`.
    fn check_host(
        &self,
        head: &Parts,
        exposure: Exposure,
        is_upstream: &impl Fn(&str) -> bool,
    ) -> Result<(), ProxyError> {
        // One pass over the headers costs less than a lookup.
        let mut hosts = head
            .headers
            .iter()
            .filter(|(name, _)| **name == header::HOST);
        let host = match (hosts.next(), hosts.next()) {
            (Some((_, host)), None) => Some(host.as_bytes()),
            (None, _) if head.version < Version::HTTP_11 => None,
            _ => return Err(Malformed::Host.into()),
        };
        let knows = |authority| self.knows(authority, is_upstream);
        if let Some(authority) = head.uri.authority() {
            if !matches!(head.uri.scheme_str(), Some("http" | "https")) {
                return Err(Malformed::Target.into());
            }
            if !knows(authority.as_str().as_bytes()) {
                return Err(Stranger::Host.into());
            }
        }
        match (exposure, host) {
            (Exposure::Loopback | Exposure::Admin, Some(host)) if !knows(host) => {
                Err(Stranger::Host.into())
            }
            _ => Ok(()),
        }
    }

    fn knows(&self, authority: &[u8], is_upstream: &impl Fn(&str) -> bool) -> bool {
        if is_usual(authority) {
            return true;
        }
        let Ok(authority) = Authority::try_from(authority) else {
            return false;
        };
        if authority.as_str().contains('@') {
            return false;
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        let host = host.strip_suffix('.').unwrap_or(host);
        is_loopback(host)
            || WECHAT_HOSTS
                .iter()
                .any(|known| host.eq_ignore_ascii_case(known))
            || self
                .allow_hosts
                .iter()
                .any(|known| host.eq_ignore_ascii_case(known))
            || is_upstream(host)
    }

    fn check_origin(&self, headers: &HeaderMap, exposure: Exposure) -> Result<(), ProxyError> {
        // Usually none of them is there. One pass over the names costs less than five lookups.
        if !headers.keys().any(tells_origin) {
            return Ok(());
        }
        let is_for_admin = headers
            .get_all(STATUS_HEADER)
            .iter()
            .any(|said| said == FOR_ADMIN);
        if is_for_admin && exposure != Exposure::Admin {
            return Err(Stranger::ForAdmin.into());
        }
        let site = headers
            .get("sec-fetch-site")
            .map(http::HeaderValue::as_bytes);
        let strange_site = site.is_some_and(|site| !matches!(site, b"none" | b"same-origin"));
        if headers.contains_key(header::ORIGIN) || strange_site {
            return Err(Stranger::Browser.into());
        }
        let forwarded =
            headers.contains_key("x-forwarded-for") || headers.contains_key(header::FORWARDED);
        if forwarded && !self.allow_forwarded {
            return Err(Stranger::Forwarded.into());
        }
        Ok(())
    }
}

/// Refuses methods that are not for this proxy. Some servers take their names in any case.
fn check_method(method: &Method) -> Result<(), ProxyError> {
    if matches!(
        *method,
        Method::GET | Method::POST | Method::PUT | Method::DELETE
    ) {
        return Ok(());
    }
    let is = |name: &str| method.as_str().eq_ignore_ascii_case(name);
    if is("CONNECT") {
        return Err(Stranger::Connect.into());
    }
    // Microsoft's servers call it TRACK.
    if is("TRACE") || is("TRACK") {
        return Err(Malformed::Trace.into());
    }
    Ok(())
}

/// Whether it is one of the usual values, byte for byte. They need no parser.
fn is_usual(authority: &[u8]) -> bool {
    let digits = authority
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_digit());
    let host = match authority.split_at(authority.len() - digits.count()) {
        (_, []) => authority,
        (host, _) => host.strip_suffix(b":").unwrap_or(authority),
    };
    host == b"localhost" || host == b"127.0.0.1" || host == WECHAT_HOSTS[0].as_bytes()
}

/// Whether this header tells that a call came from a browser, through another proxy, or for the admin port.
fn tells_origin(name: &HeaderName) -> bool {
    const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    matches!(*name, header::ORIGIN | header::FORWARDED)
        || [SITE, FORWARDED_FOR, STATUS_HEADER].contains(name)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn check(
        guard: &GuardOptions,
        exposure: Exposure,
        uri: &str,
        headers: &[(&str, &str)],
    ) -> bool {
        let mut call = Request::builder().uri(uri);
        for (name, value) in headers {
            call = call.header(*name, *value);
        }
        guard
            .check(&call.body(()).unwrap().into_parts().0, exposure, &|_| false)
            .is_ok()
    }

    #[test]
    fn a_name_that_a_page_made_up_is_no_host() {
        let guard = GuardOptions::default();
        for host in [
            "localhost",
            "LOCALHOST:7080",
            "127.0.0.1:7080",
            "[::1]:7080",
            "api.weixin.qq.com",
            "api.weixin.qq.com.",
            "127.9.9.9",
        ] {
            assert!(
                check(&guard, Exposure::Loopback, "/x", &[("host", host)]),
                "{host}"
            );
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "",
            "10.0.0.1",
            "a b",
        ] {
            assert!(
                !check(&guard, Exposure::Loopback, "/x", &[("host", host)]),
                "{host}"
            );
            assert!(
                !check(
                    &guard,
                    Exposure::Open,
                    &format!("http://{}/x", host.replace([' ', '@'], "-") + "z"),
                    &[("host", host)]
                ),
                "{host}"
            );
        }
        assert!(!check(&guard, Exposure::Loopback, "/x", &[]));
        assert!(!check(
            &guard,
            Exposure::Loopback,
            "/x",
            &[("host", "localhost"), ("host", "localhost")]
        ));
        assert!(check(
            &guard,
            Exposure::Open,
            "/x",
            &[("host", "sidecar.internal")]
        ));
        let allowed = GuardOptions {
            allow_hosts: vec!["sidecar.internal".into()],
            ..guard
        };
        assert!(check(
            &allowed,
            Exposure::Loopback,
            "/x",
            &[("host", "sidecar.internal:80")]
        ));
    }

    #[test]
    fn the_whole_url_may_name_wechat_and_nobody_else() {
        let guard = GuardOptions::default();
        for (url, fine) in [
            ("http://api.weixin.qq.com/x", true),
            ("http://file.api.weixin.qq.com/x", true),
            ("https://api2.weixin.qq.com/x", true),
            ("http://localhost:7080/x", true),
            ("http://api.weixin.qq.com.evil.example/x", false),
            ("http://qyapi.weixin.qq.com/x", false),
            ("http://169.254.169.254/x", false),
        ] {
            assert_eq!(
                check(
                    &guard,
                    Exposure::Unix,
                    url,
                    &[("host", "api.weixin.qq.com")]
                ),
                fine,
                "{url}"
            );
        }
    }

    #[test]
    fn a_method_that_could_quote_the_token_is_refused() {
        for (method, is_trace) in [
            ("TRACE", true),
            ("trace", true),
            ("TRACK", true),
            ("Track", true),
            ("TRACKS", false),
            ("get", false),
            ("PATCH", false),
        ] {
            let call = Request::builder().method(method).uri("/x");
            let call = call.header("host", "localhost").body(());
            let (head, ()) = call.unwrap().into_parts();
            let checked = GuardOptions::default().check(&head, Exposure::Loopback, &|_| false);
            let refused = matches!(checked, Err(ProxyError::Malformed(Malformed::Trace)));
            assert_eq!(refused, is_trace, "{method}");
            assert_eq!(checked.is_ok(), !is_trace, "{method}");
        }
    }

    #[test]
    fn a_target_is_a_path_or_a_whole_url_of_http() {
        let guard = GuardOptions::default();
        for (target, fine) in [
            ("http://localhost/x", true),
            ("HTTPS://localhost", true),
            ("localhost:7080", false),
            ("localhost", false),
            ("ftp://localhost/x", false),
            ("ws://localhost/x", false),
        ] {
            let call = Request::builder().uri(target).header("host", "localhost");
            let (head, ()) = call.body(()).unwrap().into_parts();
            let checked = guard.check(&head, Exposure::Loopback, &|_| false);
            let refused = matches!(checked, Err(ProxyError::Malformed(Malformed::Target)));
            assert_eq!((checked.is_ok(), refused), (fine, !fine), "{target}");
        }
    }

    #[test]
    fn what_is_meant_for_the_admin_port_is_no_call() {
        let guard = GuardOptions {
            allow_forwarded: true,
            ..GuardOptions::default()
        };
        let host = ("host", "localhost");
        for (said, on_a_port_for_calls) in [
            (&["for-admin"][..], false),
            (&["replayed", "for-admin"], false),
            // An app may send back the header of a reply.
            (&["replayed"], true),
        ] {
            let said = said.iter().map(|said| ("x-wechat-sidecar", *said));
            let headers: Vec<_> = [host].into_iter().chain(said).collect();
            for exposure in [Exposure::Loopback, Exposure::Open, Exposure::Unix] {
                let passes = check(&guard, exposure, "/livez", &headers);
                assert_eq!(passes, on_a_port_for_calls, "{headers:?}");
            }
            assert!(check(&guard, Exposure::Admin, "/livez", &headers));
        }
        assert!(!check(
            &guard,
            Exposure::Admin,
            "/livez",
            &[("host", "a.example")]
        ));
    }

    #[test]
    fn browsers_and_other_proxies_are_turned_away() {
        let guard = GuardOptions::default();
        let host = ("host", "localhost");
        for (header, fine) in [
            (("origin", "https://evil.example"), false),
            (("origin", "null"), false),
            (("sec-fetch-site", "cross-site"), false),
            (("sec-fetch-site", "same-site"), false),
            (("sec-fetch-site", "none"), true),
            (("x-forwarded-for", "1.2.3.4"), false),
            (("forwarded", "for=1.2.3.4"), false),
            (("x-real-ip", "1.2.3.4"), true),
        ] {
            for exposure in [Exposure::Loopback, Exposure::Open, Exposure::Unix] {
                assert_eq!(
                    check(&guard, exposure, "/x", &[host, header]),
                    fine,
                    "{header:?}"
                );
            }
        }
        let behind = GuardOptions {
            allow_forwarded: true,
            ..guard
        };
        assert!(check(
            &behind,
            Exposure::Open,
            "/x",
            &[host, ("x-forwarded-for", "1.2.3.4")]
        ));
    }
}
