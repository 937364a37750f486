//! The base URL of WeChat or WeCom: scheme, host and port, and perhaps a path prefix.

use std::{fmt, net::IpAddr};

use http::{HeaderValue, Uri, uri::Scheme};

/// The default host (developers.weixin.qq.com/miniprogram/dev/OpenApiDoc).
pub const DEFAULT: &str = "https://api.weixin.qq.com";

/// The general disaster-recovery host, for when the default one cannot be connected.
pub const FALLBACK: &str = "https://api2.weixin.qq.com";

/// WeCom's. It has no fallback.
pub const WECOM: &str = "https://qyapi.weixin.qq.com";

/// The domains of Tencent's APIs.
const TENCENTS: [&str; 3] = ["qq.com", "tencent.com", "wechat.com"];

/// A base URL without query or credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whether it is https.
    pub tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// The port of the URL, or the scheme's default.
    pub port: u16,
    /// The path prefix, such as `/wx`; usually empty.
    pub prefix: String,
}

/// Why a text is not a valid origin. It does not repeat the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// The text is not a URL.
    #[error("it is not a URL like https://api.weixin.qq.com")]
    NotAUrl,
    /// It has credentials.
    #[error("a URL takes no user or password here")]
    UserInfo,
    /// It has a path or a query.
    #[error("it takes scheme, host and port only, no path and no query")]
    Path,
    /// Its path is not usable as a prefix, or it has a query.
    #[error("a path in it is made of plain segments, as in /wx/api, and has no query")]
    Prefix,
    /// Its scheme is not supported.
    #[error("the scheme is none of those accepted here")]
    Scheme,
    /// It is plain http to another machine, although calls carry a token.
    #[error("plain http is accepted for a loopback address only, since calls carry a token")]
    PlainHttp,
    /// The same for a private deployment, where the operator may allow it.
    #[error(
        "plain http shows the token to everybody on the way: use https, or say upstream_plain_http = true if that network is yours alone"
    )]
    PrivateHttp,
}

impl Origin {
    /// Reads `https://host[:port]`, or `http://` with a loopback host.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        let origin = Self::of(parts(text)?)?;
        if !origin.tls && !is_loopback(&origin.host) {
            return Err(OriginError::PlainHttp);
        }
        Ok(origin)
    }

    /// Reads the address of a private deployment. It may have a path and, with `plain_http`, be `http://`
    /// with any host.
    pub fn parse_private(text: &str, plain_http: bool) -> Result<Self, OriginError> {
        let (scheme, host, port, path) = split(text)?;
        let mut origin = Self::of((scheme, host, port))?;
        if !origin.tls && !plain_http && !is_loopback(&origin.host) {
            return Err(OriginError::PrivateHttp);
        }
        origin.prefix = prefix(&path)?;
        Ok(origin)
    }

    fn of((scheme, host, port): (String, String, Option<u16>)) -> Result<Self, OriginError> {
        let tls = match scheme.as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(OriginError::Scheme),
        };
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        let prefix = String::new();
        Ok(Self {
            tls,
            host,
            port,
            prefix,
        })
    }

    /// Whether its host belongs to Tencent.
    pub fn is_tencents(&self) -> bool {
        let host = self.host.strip_suffix('.').unwrap_or(&self.host);
        TENCENTS.iter().any(|domain| {
            let below = host.strip_suffix(domain);
            below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
        })
    }

    /// The value of the `Host` header.
    pub fn authority(&self) -> HeaderValue {
        let default = if self.tls { 443 } else { 80 };
        let host = bracketed(&self.host);
        let text = if self.port == default {
            host
        } else {
            format!("{host}:{}", self.port)
        };
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("api.weixin.qq.com"))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let (host, prefix) = (bracketed(&self.host), &self.prefix);
        write!(f, "{scheme}://{host}:{}{prefix}", self.port)
    }
}

/// Splits a URL that has only scheme, host and port.
pub(super) fn parts(text: &str) -> Result<(String, String, Option<u16>), OriginError> {
    let (scheme, host, port, path) = split(text)?;
    if !matches!(path.as_str(), "" | "/") {
        return Err(OriginError::Path);
    }
    Ok((scheme, host, port))
}

/// Reads `path` as a prefix: without a slash at its end, and without anything that two servers could
/// interpret differently.
fn prefix(path: &str) -> Result<String, OriginError> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let plain = |segment: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
        !segment.is_empty() && !matches!(segment, "." | "..") && segment.bytes().all(plain)
    };
    let mut segments = path.split('/').skip(1);
    if !segments.all(plain) {
        return Err(OriginError::Prefix);
    }
    Ok(path.to_owned())
}

/// Splits a URL into scheme, host, port, and path with query.
fn split(text: &str) -> Result<(String, String, Option<u16>, String), OriginError> {
    let uri: Uri = text.parse().map_err(|_| OriginError::NotAUrl)?;
    let scheme = uri
        .scheme()
        .map(Scheme::as_str)
        .ok_or(OriginError::NotAUrl)?
        .to_owned();
    let authority = uri.authority().ok_or(OriginError::NotAUrl)?;
    if authority.as_str().contains('@') {
        return Err(OriginError::UserInfo);
    }
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let port_is_sane = authority.port_u16().is_some() || !has_port(authority.as_str());
    if host.is_empty() || !port_is_sane {
        return Err(OriginError::NotAUrl);
    }
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let (host, port) = (host.to_ascii_lowercase(), authority.port_u16());
    Ok((scheme, host, port, path.to_owned()))
}

fn has_port(authority: &str) -> bool {
    authority
        .rsplit(']')
        .next()
        .is_some_and(|rest| rest.contains(':'))
}

/// Whether `host` can only be this machine.
pub fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

pub(super) fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (text, shown, host) in [
            (
                "https://api.weixin.qq.com",
                "https://api.weixin.qq.com:443",
                "api.weixin.qq.com",
            ),
            (
                "https://API.weixin.qq.com/",
                "https://api.weixin.qq.com:443",
                "api.weixin.qq.com",
            ),
            ("http://127.0.0.1:80", "http://127.0.0.1:80", "127.0.0.1"),
            ("http://[::1]:8080", "http://[::1]:8080", "[::1]:8080"),
            ("http://localhost:9", "http://localhost:9", "localhost:9"),
        ] {
            let origin = Origin::parse(text).unwrap();
            assert_eq!(
                (
                    origin.to_string().as_str(),
                    origin.authority().to_str().unwrap()
                ),
                (shown, host)
            );
        }
    }

    #[test]
    fn a_private_deployment_may_have_a_path_and_plain_http_where_that_is_wanted() {
        for (text, plain_http, shown) in [
            ("https://qyapi.corp", false, "https://qyapi.corp:443"),
            ("https://qyapi.corp/", false, "https://qyapi.corp:443"),
            (
                "http://qyapi.corp:18888/wx/",
                true,
                "http://qyapi.corp:18888/wx",
            ),
            ("https://h:8443/a-b/c.d", false, "https://h:8443/a-b/c.d"),
            ("http://127.0.0.1:1/wx", false, "http://127.0.0.1:1/wx"),
        ] {
            let origin = Origin::parse_private(text, plain_http).unwrap();
            assert_eq!(origin.to_string(), shown);
        }
        use OriginError::{NotAUrl, Prefix, PrivateHttp, Scheme, UserInfo};
        for (text, plain_http, error) in [
            ("http://qyapi.corp:18888/wx", false, PrivateHttp),
            ("ftp://qyapi.corp", true, Scheme),
            ("http://user@qyapi.corp", true, UserInfo),
            ("https://qyapi.corp/a//b", false, Prefix),
            ("https://qyapi.corp/a/../b", false, Prefix),
            ("https://qyapi.corp/a%2fb", false, Prefix),
            ("https://qyapi.corp/a?b", false, Prefix),
            ("https://qyapi.corp//", false, Prefix),
            ("qyapi.corp", true, NotAUrl),
        ] {
            let refused = Origin::parse_private(text, plain_http).unwrap_err();
            assert_eq!(refused, error, "{text}");
        }
    }

    #[test]
    fn hosts_of_tencents_are_known_by_their_domain() {
        for (url, is_tencents) in [
            (DEFAULT, true),
            (FALLBACK, true),
            (WECOM, true),
            ("https://API.weixin.qq.com.", true),
            ("https://qq.com", true),
            ("https://api.wechat.com:8443", true),
            ("https://notqq.com", false),
            ("https://qq.com.example", false),
            ("https://qyapi.corp", false),
            ("http://127.0.0.1:1", false),
        ] {
            assert_eq!(
                Origin::parse(url).unwrap().is_tencents(),
                is_tencents,
                "{url}"
            );
        }
    }

    #[test]
    fn what_could_leak_or_mislead_is_refused() {
        use OriginError::{NotAUrl, Path, PlainHttp, Scheme, UserInfo};
        for (text, error) in [
            ("https://user:pass@host", UserInfo),
            ("https://@host", UserInfo),
            ("http://api.weixin.qq.com", PlainHttp),
            ("http://127.0.0.1.nip.io", PlainHttp),
            ("https://host/path", Path),
            ("https://host?x=1", Path),
            ("ftp://host", Scheme),
            ("host", NotAUrl),
            ("https://host:99999", NotAUrl),
            ("https://host:", NotAUrl),
            ("", NotAUrl),
        ] {
            assert_eq!(Origin::parse(text).unwrap_err(), error, "{text}");
        }
    }
}
