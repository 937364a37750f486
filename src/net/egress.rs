//! A forward proxy with a fixed IP, for WeChat's IP whitelist.

use std::{
    error::Error,
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, Uri};
use hyper_util::{
    client::legacy::connect::proxy::{SocksV5, Tunnel},
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower_service::Service;

use super::{
    dns::Resolver,
    origin::{OriginError, bracketed, parts},
    race,
};
use crate::secret::Secret;

/// Why a connection through the proxy failed.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// WeChat's host has a name that cannot be sent to a proxy.
    #[error("no such name")]
    Name,
    /// The proxy could not be connected or refused the tunnel.
    #[error(transparent)]
    Proxy(Box<dyn Error + Send + Sync>),
}

/// The protocol of the proxy. With both, the proxy resolves WeChat's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `http://`: CONNECT.
    Http,
    /// `socks5://`.
    Socks5,
}

/// The proxy's address and credentials.
#[derive(Clone)]
pub struct Egress {
    /// Its protocol.
    pub protocol: Protocol,
    /// A name or an address, without brackets.
    pub host: String,
    /// The port of the URL, or the protocol's default.
    pub port: u16,
    credentials: Option<(String, Secret)>,
}

impl Egress {
    /// Reads `http://host[:port]` or `socks5://host[:port]`.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        let (scheme, host, port) = parts(text)?;
        let (protocol, default) = match scheme.as_str() {
            "http" => (Protocol::Http, 80),
            "socks5" | "socks5h" => (Protocol::Socks5, 1080),
            _ => return Err(OriginError::Scheme),
        };
        Ok(Self {
            protocol,
            host,
            port: port.unwrap_or(default),
            credentials: None,
        })
    }

    /// Adds credentials, `user:password`. `None` if `text` has no colon.
    pub fn with_credentials(mut self, text: &Secret) -> Option<Self> {
        let (user, password) = text.expose().split_once(':')?;
        self.credentials = Some((user.to_owned(), Secret::new(password)));
        Some(self)
    }

    /// User and password.
    pub fn credentials(&self) -> Option<(&str, &str)> {
        let (user, password) = self.credentials.as_ref()?;
        Some((user, password.expose()))
    }

    /// The `Proxy-Authorization` header (RFC 7617).
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        let (user, password) = self.credentials()?;
        let text = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Connects to `host` through the proxy, which has these `addresses`.
    pub(super) async fn connect(
        &self,
        host: &str,
        port: u16,
        addresses: Vec<SocketAddr>,
        dns: &Resolver,
    ) -> Result<TcpStream, EgressError> {
        let target = format!("http://{}:{port}", bracketed(host));
        let target: Uri = target.parse().map_err(|_| EgressError::Name)?;
        let dns = dns.clone();
        let proxy = ProxyConnector { dns, addresses };
        let stream = match self.protocol {
            Protocol::Http => {
                let mut tunnel = Tunnel::new(self.uri(), proxy);
                if let Some(authorization) = self.authorization() {
                    tunnel = tunnel.with_auth(authorization);
                }
                let tunnel = tunnel.call(target).await;
                tunnel.map_err(|error| EgressError::Proxy(Box::new(error)))?
            }
            Protocol::Socks5 => {
                let mut socks = SocksV5::new(self.uri(), proxy);
                if let Some((user, password)) = self.credentials() {
                    socks = socks.with_auth(user.to_owned(), password.to_owned());
                }
                let tunnel = socks.call(target).await;
                tunnel.map_err(|error| EgressError::Proxy(Box::new(error)))?
            }
        };
        Ok(stream.into_inner())
    }

    /// The proxy as a URL without credentials.
    pub(super) fn uri(&self) -> Uri {
        self.to_string().parse().unwrap_or_default()
    }
}

impl fmt::Display for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.protocol {
            Protocol::Http => "http",
            Protocol::Socks5 => "socks5h",
        };
        write!(f, "{scheme}://{}:{}", bracketed(&self.host), self.port)
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Connects to the egress proxy, whatever the target is.
#[derive(Clone, Debug)]
struct ProxyConnector {
    dns: Resolver,
    addresses: Vec<SocketAddr>,
}

impl Service<Uri> for ProxyConnector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let proxy = self.clone();
        Box::pin(async move {
            let connected = race::connect(&proxy.dns, proxy.addresses).await;
            connected.map(TokioIo::new)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_sent_as_rfc_7617_says_and_never_shown() {
        let egress = Egress::parse("http://proxy:3128").unwrap();
        let egress = egress
            .with_credentials(&Secret::new("Aladdin:open sesame"))
            .unwrap();
        assert_eq!(
            egress.authorization().unwrap(),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        assert_eq!(
            format!("{egress:?} {egress}"),
            "http://proxy:3128 http://proxy:3128"
        );
    }
}
