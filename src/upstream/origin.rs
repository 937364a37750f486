//! Where WeChat is: scheme, host and port.

use std::{fmt, net::IpAddr};

use http::{HeaderValue, Uri, uri::Scheme};

/// The default host (developers.weixin.qq.com/miniprogram/dev/OpenApiDoc).
pub const DEFAULT: &str = "https://api.weixin.qq.com";

/// The general disaster-recovery host, for when the default one cannot be connected.
pub const FALLBACK: &str = "https://api2.weixin.qq.com";

/// A base address without path, query or credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whether it is https.
    pub tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// Explicit or the scheme's own.
    pub port: u16,
}

/// Why a text is no origin. It does not repeat the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Not a URL at all.
    #[error("it is not a URL like https://api.weixin.qq.com")]
    NotAUrl,
    /// `user:password@`.
    #[error("a URL takes no user or password here")]
    UserInfo,
    /// A path or a query.
    #[error("it takes scheme, host and port only, no path and no query")]
    Path,
    /// Not a scheme that is spoken here.
    #[error("the scheme is none of those accepted here")]
    Scheme,
    /// Calls carry a token.
    #[error("plain http is accepted for a loopback address only, since calls carry a token")]
    PlainHttp,
}

impl Origin {
    /// Reads `https://host[:port]`, or `http://` with a loopback host.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        let (scheme, host, port) = parts(text)?;
        let tls = match scheme.as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(OriginError::Scheme),
        };
        if !tls && !is_loopback(&host) {
            return Err(OriginError::PlainHttp);
        }
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { tls, host, port })
    }

    /// What a `Host` header says.
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
        write!(f, "{scheme}://{}:{}", bracketed(&self.host), self.port)
    }
}

/// Scheme, host and port of a URL that has nothing else.
pub(super) fn parts(text: &str) -> Result<(String, String, Option<u16>), OriginError> {
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
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(OriginError::Path);
    }
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let port_is_sane = authority.port_u16().is_some() || !has_port(authority.as_str());
    if host.is_empty() || !port_is_sane {
        return Err(OriginError::NotAUrl);
    }
    Ok((scheme, host.to_ascii_lowercase(), authority.port_u16()))
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
