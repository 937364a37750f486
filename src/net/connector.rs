//! The way to WeChat: which host, which address, through which proxy, under which certificate.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use http::HeaderValue;
use rustix::net::sockopt;
use rustls::pki_types::ServerName;
use tokio::{
    net::TcpStream,
    time::{Duration, Instant, timeout},
};
use tokio_rustls::TlsConnector;

use super::{
    dns::Resolver, egress::Egress, origin::Origin, read_ahead::ReadAhead, stream::Stream,
    tls::TlsRoots,
};

/// How the way to WeChat is found.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// The host, and the ones to use while it cannot be connected.
    pub origins: Vec<Origin>,
    /// Their addresses.
    pub names: Resolver,
    /// Whom to trust.
    pub tls: TlsRoots,
    /// A forward proxy with a fixed IP, for WeChat's whitelist.
    pub egress: Option<Egress>,
    /// For one address: TCP, proxy and TLS together.
    pub connect_timeout: Duration,
}

impl ConnectOptions {
    /// Whether it leads to the same place and trusts the same; the rest is one for all ways.
    pub fn same_target(&self, other: &Self) -> bool {
        self.origins == other.origins && self.tls == other.tls
    }
}

/// Why there is no connection. Nothing of the call was sent.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DialError {
    /// DNS.
    #[error("the name {host} cannot be resolved: {reason}")]
    Resolve {
        /// Which.
        host: String,
        /// In the resolver's words.
        reason: String,
    },
    /// TCP, or the egress proxy.
    #[error("{host} cannot be connected: {reason}")]
    Connect {
        /// Which.
        host: String,
        /// In the system's words.
        reason: String,
    },
    /// TLS.
    #[error("{host} has no certificate that can be trusted, or does not speak TLS: {reason}")]
    Tls {
        /// Which.
        host: String,
        /// In rustls' words.
        reason: String,
    },
    /// `max-upstream`.
    #[error("all connections to WeChat are busy; see --max-upstream")]
    Crowded,
}

/// The way to WeChat, shared by all workers.
pub struct Connector {
    options: ConnectOptions,
    hosts: Vec<Host>,
    tls: TlsConnector,
    made: Instant,
    /// Until when the first host is passed over, in milliseconds after `made`.
    first_is_down: AtomicU64,
}

#[derive(Debug)]
struct Host {
    origin: Origin,
    authority: HeaderValue,
    server_name: ServerName<'static>,
}

/// A connection ready for calls.
#[derive(Debug)]
pub(crate) struct Dialed {
    pub(crate) stream: Stream,
    /// What calls on it say as `Host`.
    pub(crate) authority: HeaderValue,
}

/// How much of an upload is encrypted before it is sent.
const LARGEST_WRITE: usize = 256 * 1024;

/// How long the first host is passed over once it could not be connected.
const DETOUR: Duration = Duration::from_secs(30);

impl Connector {
    /// A way by `options`. The first origin counts; a name that no certificate can have is an error.
    pub fn new(options: ConnectOptions) -> Result<Self, DialError> {
        let hosts = options
            .origins
            .iter()
            .map(Host::new)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            tls: TlsConnector::from(options.tls.config().clone()),
            options,
            hosts,
            made: Instant::now(),
            first_is_down: AtomicU64::new(0),
        })
    }

    /// What comes before every path.
    pub fn prefix(&self) -> &str {
        self.hosts.first().map_or("", |host| &host.origin.prefix)
    }

    /// How long one address may take to connect.
    pub(crate) fn patience(&self) -> Duration {
        self.options.connect_timeout
    }

    /// The origins in the order in which to try them now.
    pub fn origins(&self) -> Vec<&Origin> {
        self.order().map(|at| &self.hosts[at].origin).collect()
    }

    /// Notes whether the origin at the head of [`origins`](Self::origins) could be connected.
    pub(crate) fn note(&self, origin: &Origin, connected: bool) {
        if self.hosts.len() > 1 && self.hosts[0].origin == *origin {
            let until = if connected {
                Duration::ZERO
            } else {
                self.made.elapsed() + DETOUR
            };
            let millis = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
            self.first_is_down.store(millis, Ordering::Relaxed);
        }
    }

    /// Opens a connection: to the next address when one cannot be connected, then to the next host.
    pub(crate) async fn dial(&self) -> Result<Dialed, DialError> {
        // What is wrong with the host that was asked for says more than what is with its stand-in.
        let mut failure = None;
        for at in self.order() {
            let host = &self.hosts[at];
            let dialed = self.dial_host(host).await;
            let unreachable = matches!(
                dialed,
                Err(DialError::Connect { .. } | DialError::Resolve { .. })
            );
            self.note(&host.origin, !unreachable);
            match dialed {
                Err(error) if unreachable && (at == 0 || failure.is_none()) => {
                    failure = Some(error)
                }
                Err(_) if unreachable => {}
                other => return other,
            }
        }
        Err(failure.unwrap_or(DialError::Crowded))
    }

    fn order(&self) -> impl Iterator<Item = usize> {
        let down = u128::from(self.first_is_down.load(Ordering::Relaxed));
        let start = usize::from(self.hosts.len() > 1 && self.made.elapsed().as_millis() < down);
        let count = self.hosts.len();
        (0..count).map(move |at| (at + start) % count)
    }

    async fn dial_host(&self, host: &Host) -> Result<Dialed, DialError> {
        let addresses =
            match &self.options.egress {
                // The proxy resolves the name.
                Some(_) => vec![None],
                None => {
                    let name = &host.origin.host;
                    let found = self.options.names.resolve(name).await.map_err(|error| {
                        DialError::Resolve {
                            host: name.clone(),
                            reason: error.to_string(),
                        }
                    })?;
                    found
                        .iter()
                        .map(|ip| Some(SocketAddr::new(*ip, host.origin.port)))
                        .collect()
                }
            };
        let mut failure = DialError::Crowded;
        for address in addresses {
            let limit = self.options.connect_timeout;
            let slow = || host.failed(&format!("no answer within {limit:?}"));
            match timeout(limit, self.dial_address(host, address)).await {
                Ok(Ok(dialed)) => return Ok(dialed),
                Ok(Err(error @ DialError::Tls { .. })) => return Err(error),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = slow(),
            }
        }
        Err(failure)
    }

    async fn dial_address(
        &self,
        host: &Host,
        address: Option<SocketAddr>,
    ) -> Result<Dialed, DialError> {
        let stream = match (&self.options.egress, address) {
            (Some(egress), _) => {
                let Origin {
                    host: name, port, ..
                } = &host.origin;
                let through = egress.connect(name, *port).await;
                through.map_err(|reason| {
                    host.failed(&format!("the egress proxy {egress}: {reason}"))
                })?
            }
            (None, Some(address)) => TcpStream::connect(address)
                .await
                .map_err(|error| host.failed(&error.to_string()))?,
            (None, None) => return Err(host.failed("it has no address")),
        };
        prepare(&stream).map_err(|error| host.failed(&error.to_string()))?;
        let stream = if host.origin.tls {
            let connected = self
                .tls
                .connect(host.server_name.clone(), ReadAhead::new(stream));
            let mut secured = connected.await.map_err(|error| host.insecure(&error))?;
            secured.get_mut().1.set_buffer_limit(Some(LARGEST_WRITE));
            Stream::Tls(Box::new(secured))
        } else {
            Stream::Plain(stream)
        };
        Ok(Dialed {
            stream,
            authority: host.authority.clone(),
        })
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

impl Host {
    fn new(origin: &Origin) -> Result<Self, DialError> {
        let server_name =
            ServerName::try_from(origin.host.clone()).map_err(|_| DialError::Tls {
                host: origin.host.clone(),
                reason: "no certificate can have this name".to_owned(),
            })?;
        Ok(Self {
            origin: origin.clone(),
            authority: origin.authority(),
            server_name,
        })
    }

    fn failed(&self, reason: &str) -> DialError {
        DialError::Connect {
            host: self.origin.host.clone(),
            reason: reason.to_owned(),
        }
    }

    /// TLS that broke off is a connection that failed; a certificate that is wrong is not.
    fn insecure(&self, error: &io::Error) -> DialError {
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => DialError::Tls {
                host: self.origin.host.clone(),
                reason: error.to_string(),
            },
            _ => self.failed(&error.to_string()),
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(30))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::{
        net::TcpListener,
        time::{advance, pause},
    };

    use super::*;
    use crate::net::tls::load;

    async fn open_port() -> (TcpListener, Origin) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Origin::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        (listener, origin)
    }

    fn route(origins: Vec<Origin>) -> Connector {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Connector::new(ConnectOptions {
            origins,
            names: Resolver::new(None, Duration::from_secs(3)),
            tls: load(None).unwrap(),
            egress: None,
            connect_timeout: Duration::from_secs(3),
        })
        .unwrap()
    }

    #[tokio::test]
    async fn while_the_first_host_cannot_be_connected_the_next_one_is_used_and_then_the_first_again()
     {
        let (closed, first) = open_port().await;
        drop(closed);
        let (_open, second) = open_port().await;
        let route = route(vec![first.clone(), second.clone()]);
        assert_eq!(route.origins(), [&first, &second]);

        let dialed = route.dial().await.unwrap();
        assert_eq!(dialed.authority, second.authority());
        assert_eq!(route.origins(), [&second, &first]);

        pause();
        advance(DETOUR).await;
        assert_eq!(route.origins(), [&first, &second]);
        let _back = TcpListener::bind((first.host.as_str(), first.port))
            .await
            .unwrap();
        assert_eq!(route.dial().await.unwrap().authority, first.authority());
        assert_eq!(route.origins(), [&first, &second]);
    }

    #[tokio::test]
    async fn a_host_whose_certificate_is_wrong_is_no_reason_to_go_elsewhere() {
        let (listener, mut first) = open_port().await;
        first.tls = true;
        let (_open, second) = open_port().await;
        let route = route(vec![first, second]);
        let (nonsense, dialed) = tokio::join!(
            async {
                use tokio::io::AsyncWriteExt;
                let mut stream = listener.accept().await.unwrap().0;
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await
            },
            route.dial(),
        );
        nonsense.unwrap();
        assert!(matches!(dialed, Err(DialError::Tls { .. })), "{dialed:?}");
    }
}
