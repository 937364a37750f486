//! Only the app beside the sidecar may call, and nobody may call through it.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version, header, request::Parts, uri::Authority,
};

use super::{
    GuardOptions, STATUS_HEADER,
    cause::{Malformed, Stranger},
    error::ProxyError,
};
use crate::{net::origin::is_loopback, wechat::hosts};

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
    /// Whether the call came over TLS.
    pub tls: AppTls,
}

/// Whether a connection of an app has TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppTls {
    /// It has none, and there are no certificates to begin it.
    Absent,
    /// It has none, but CONNECT begins it.
    Offered,
    /// It has, for this name of a host if the app asked for one.
    Present(Option<Arc<str>>),
}

/// The header with the caller's key.
pub const KEY: &str = "x-wechat-sidecar-key";

/// The header that names the account, by AppID or name.
pub const APPID: &str = "x-wechat-appid";

/// The value of [`STATUS_HEADER`] on a request to the admin port. A port for calls rejects such a request.
pub const FOR_ADMIN: &str = "for-admin";

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

    /// Checks a call against the TLS of its connection: it must be for the host whose certificate the app was shown.
    pub fn check_tls(&self, head: &Parts, tls: &AppTls) -> Result<(), ProxyError> {
        let name = match tls {
            AppTls::Absent => return Ok(()),
            AppTls::Offered | AppTls::Present(_) if head.method == Method::CONNECT => {
                return Err(Stranger::Tunnel.into());
            }
            AppTls::Offered | AppTls::Present(None) => return Ok(()),
            AppTls::Present(Some(name)) => name,
        };
        let hosts = head.headers.get_all(header::HOST).iter();
        let target = head
            .uri
            .authority()
            .map(|target| target.as_str().as_bytes());
        let is_other = |authority: &[u8]| !is_host(authority, name.as_bytes());
        let mut all = hosts.map(HeaderValue::as_bytes).chain(target);
        match all.any(is_other) {
            true => Err(ProxyError::Misdirected),
            false => Ok(()),
        }
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
            || hosts::WECHAT
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
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
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

/// Whether `authority` is the host `name`, with any port or none.
fn is_host(authority: &[u8], name: &[u8]) -> bool {
    let Some((host, rest)) = authority.split_at_checked(name.len()) else {
        return false;
    };
    let rest = rest.strip_prefix(b".").unwrap_or(rest);
    let port = rest.strip_prefix(b":").unwrap_or(rest);
    let is_port =
        rest.is_empty() || (port.len() < rest.len() && port.iter().all(u8::is_ascii_digit));
    host.eq_ignore_ascii_case(name) && is_port
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
    host == b"localhost" || host == b"127.0.0.1" || host == hosts::WECHAT[0].as_bytes()
}

/// Whether this header tells that a call came from a browser, through another proxy, or for the admin port.
fn tells_origin(name: &HeaderName) -> bool {
    const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    matches!(*name, header::ORIGIN | header::FORWARDED)
        || [SITE, FORWARDED_FOR, STATUS_HEADER].contains(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
