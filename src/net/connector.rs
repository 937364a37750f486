//! Opens connections to WeChat: it picks the host and the address, and handles the proxy and TLS.

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
    dns::{LookupError, Resolver},
    egress::Egress,
    origin::Origin,
    read_ahead::ReadAhead,
    stream::Stream,
    tls::{self, TlsRoots},
};

/// Options of a connector.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// The host, followed by its fallbacks for when it cannot be connected.
    pub origins: Vec<Origin>,
    /// Resolves the names of the hosts.
    pub dns: Resolver,
    /// The trusted roots.
    pub tls: TlsRoots,
    /// A forward proxy with a fixed IP, for WeChat's whitelist.
    pub egress: Option<Egress>,
    /// The limit for one address: TCP, proxy and TLS together.
    pub connect_timeout: Duration,
}

impl ConnectOptions {
    /// Whether it has the same hosts and trusted roots. All other options are common to all upstreams.
    pub fn same_target(&self, other: &Self) -> bool {
        self.origins == other.origins && self.tls == other.tls
    }
}

/// Why there is no connection. Nothing of the call was sent.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DialError {
    /// The name cannot be resolved.
    #[error("the name {host} cannot be resolved: {source}")]
    Resolve {
        /// The host.
        host: String,
        /// The resolver's error.
        #[source]
        source: LookupError,
    },
    /// TCP or the egress proxy failed.
    #[error("{host} cannot be connected: {reason}")]
    Connect {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
    /// The certificate is not valid, or the host does not speak TLS.
    #[error("TLS with {host} fails: {reason}")]
    Tls {
        /// The host.
        host: String,
        /// A sentence about the host.
        reason: String,
    },
    /// There is no host, or it has no address.
    #[error("there is no address to connect")]
    NoAddress,
    /// The limit `max-upstream` is reached.
    #[error("all connections to WeChat are busy; see --max-upstream")]
    AtCapacity,
}

/// Opens connections to one upstream. All workers share it.
pub struct Connector {
    options: ConnectOptions,
    hosts: Vec<Host>,
    created_at: Instant,
    /// Until when the first host is skipped, in milliseconds after `created_at`.
    first_down_until: AtomicU64,
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
    /// The `Host` header of calls on it.
    pub(crate) authority: HeaderValue,
}

/// How many bytes of an upload are encrypted before they are sent.
const MAX_WRITE: usize = 256 * 1024;

/// How long the first host is skipped after it could not be connected.
const FAILOVER_PERIOD: Duration = Duration::from_secs(30);

impl Connector {
    /// Checks the hosts of `options`. A name that no certificate can have is an error.
    pub fn new(options: ConnectOptions) -> Result<Self, DialError> {
        let hosts = options
            .origins
            .iter()
            .map(Host::new)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            options,
            hosts,
            created_at: Instant::now(),
            first_down_until: AtomicU64::new(0),
        })
    }

    /// The path prefix of the first host.
    pub fn prefix(&self) -> &str {
        self.hosts.first().map_or("", |host| &host.origin.prefix)
    }

    /// The limit for connecting to one address.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.options.connect_timeout
    }

    /// The origins, in the order in which to try them now.
    pub fn origins(&self) -> Vec<&Origin> {
        self.order().map(|at| &self.hosts[at].origin).collect()
    }

    /// Notes whether `origin` could be connected. It counts for the first host only.
    pub(crate) fn note(&self, origin: &Origin, connected: bool) {
        if self.hosts.len() > 1 && self.hosts[0].origin == *origin {
            let until = if connected {
                Duration::ZERO
            } else {
                self.created_at.elapsed() + FAILOVER_PERIOD
            };
            let millis = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
            self.first_down_until.store(millis, Ordering::Relaxed);
        }
    }

    /// Opens a connection. If an address cannot be connected, the next address is tried, then the next
    /// host.
    pub(crate) async fn dial(&self) -> Result<Dialed, DialError> {
        // The error of the first host says more than that of its fallback.
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
        Err(failure.unwrap_or(DialError::NoAddress))
    }

    fn order(&self) -> impl Iterator<Item = usize> {
        let down = u128::from(self.first_down_until.load(Ordering::Relaxed));
        let start =
            usize::from(self.hosts.len() > 1 && self.created_at.elapsed().as_millis() < down);
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
                    let found = self.options.dns.resolve(name).await.map_err(|error| {
                        DialError::Resolve {
                            host: name.clone(),
                            source: error,
                        }
                    })?;
                    found
                        .iter()
                        .map(|ip| Some(SocketAddr::new(*ip, host.origin.port)))
                        .collect()
                }
            };
        let mut failure = DialError::NoAddress;
        for address in addresses {
            let limit = self.options.connect_timeout;
            let timed_out = || host.connect_error(&format!("no answer within {limit:?}"));
            match timeout(limit, self.dial_address(host, address)).await {
                Ok(Ok(dialed)) => return Ok(dialed),
                Ok(Err(error @ DialError::Tls { .. })) => return Err(error),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = timed_out(),
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
                    host.connect_error(&format!("the egress proxy {egress}: {reason}"))
                })?
            }
            (None, Some(address)) => TcpStream::connect(address)
                .await
                .map_err(|error| host.connect_error(&error.to_string()))?,
            (None, None) => return Err(host.connect_error("it has no address")),
        };
        set_options(&stream).map_err(|error| host.connect_error(&error.to_string()))?;
        let stream = if host.origin.tls {
            let tls = TlsConnector::from(self.options.tls.config());
            let connected = tls.connect(host.server_name.clone(), ReadAhead::new(stream));
            let mut secured = connected.await.map_err(|error| host.tls_error(&error))?;
            secured.get_mut().1.set_buffer_limit(Some(MAX_WRITE));
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
        f.debug_struct("Connector")
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

    fn connect_error(&self, reason: &str) -> DialError {
        DialError::Connect {
            host: self.origin.host.clone(),
            reason: reason.to_owned(),
        }
    }

    /// An error of a TLS handshake. A connection that broke counts as one that could not be connected.
    fn tls_error(&self, error: &io::Error) -> DialError {
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => DialError::Tls {
                host: self.origin.host.clone(),
                reason: tls::reason(error),
            },
            _ => self.connect_error(&error.to_string()),
        }
    }
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
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

    fn connector(origins: Vec<Origin>) -> Connector {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Connector::new(ConnectOptions {
            origins,
            dns: Resolver::new(None, Duration::from_secs(3)),
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
        let connector = connector(vec![first.clone(), second.clone()]);
        assert_eq!(connector.origins(), [&first, &second]);

        let dialed = connector.dial().await.unwrap();
        assert_eq!(dialed.authority, second.authority());
        assert_eq!(connector.origins(), [&second, &first]);

        pause();
        advance(FAILOVER_PERIOD).await;
        assert_eq!(connector.origins(), [&first, &second]);
        let _back = TcpListener::bind((first.host.as_str(), first.port))
            .await
            .unwrap();
        assert_eq!(connector.dial().await.unwrap().authority, first.authority());
        assert_eq!(connector.origins(), [&first, &second]);
    }

    #[tokio::test]
    async fn a_host_whose_certificate_is_wrong_is_no_reason_to_go_elsewhere() {
        let (listener, mut first) = open_port().await;
        first.tls = true;
        let (_open, second) = open_port().await;
        let connector = connector(vec![first, second]);
        let (nonsense, dialed) = tokio::join!(
            async {
                use tokio::io::AsyncWriteExt;
                let mut stream = listener.accept().await.unwrap().0;
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await
            },
            connector.dial(),
        );
        nonsense.unwrap();
        assert!(matches!(dialed, Err(DialError::Tls { .. })), "{dialed:?}");
    }
}
