//! Opens connections to WeChat. While the first host cannot be connected, the next one stands in for it.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::time::{Duration, Instant};
use tokio_rustls::TlsConnector;

pub(crate) use super::dial::Dialed;
pub use super::dial_error::DialError;
use super::{
    dial::{Dialer, Host},
    dns::Resolver,
    egress::Egress,
    origin::Origin,
    tls::TlsRoots,
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
    /// The limit for one host, when its addresses are known: TCP, proxy and TLS together.
    pub connect_timeout: Duration,
}

impl ConnectOptions {
    /// Whether it has the same hosts and trusted roots. All other options are common to all upstreams.
    pub fn same_target(&self, other: &Self) -> bool {
        self.origins == other.origins && self.tls == other.tls
    }
}

/// Opens connections to one upstream. All workers share it.
pub struct Connector {
    options: ConnectOptions,
    hosts: Vec<Host>,
    created_at: Instant,
    /// Until when the first host is skipped, in milliseconds after `created_at`.
    first_down_until: AtomicU64,
}

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

    /// The limit for connecting to one host.
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

    /// Resolves names as this connector does.
    pub(crate) fn dns(&self) -> &Resolver {
        &self.options.dns
    }

    /// Waits until the addresses of `origin`, or of the proxy in front of it, are known.
    pub(crate) async fn resolve(&self, origin: &Origin) -> Result<(), DialError> {
        let host = self.hosts.iter().find(|host| host.origin == *origin);
        let host = host.ok_or(DialError::NoAddress)?;
        self.dialer().resolve(host).await.map(drop)
    }

    /// Opens a connection. If a host cannot be connected, the next one is tried.
    pub(crate) async fn dial(&self) -> Result<Dialed, DialError> {
        // The error of the first host says more than that of its fallback.
        let mut failure = None;
        for at in self.order() {
            let host = &self.hosts[at];
            let dialed = self.dialer().dial(host).await;
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

    fn dialer(&self) -> Dialer<'_> {
        Dialer {
            dns: &self.options.dns,
            tls: TlsConnector::from(self.options.tls.config()),
            egress: self.options.egress.as_ref(),
            limit: self.options.connect_timeout,
        }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, net::SocketAddr};

    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpSocket, TcpStream},
        time::{advance, pause, timeout},
    };

    use super::*;
    use crate::net::{dns::fake::FakeSystem, tls::load};

    async fn open_port() -> (TcpListener, Origin) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Origin::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        (listener, origin)
    }

    fn connector(origins: Vec<Origin>) -> Connector {
        with(Resolver::new(None), origins)
    }

    fn with(dns: Resolver, origins: Vec<Origin>) -> Connector {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Connector::new(ConnectOptions {
            origins,
            dns,
            tls: load(None).unwrap(),
            egress: None,
            connect_timeout: Duration::from_secs(3),
        })
        .unwrap()
    }

    /// The host `a.test`, which the fake nameserver knows.
    fn named(port: u16) -> Origin {
        Origin::parse_private(&format!("http://a.test:{port}"), true).unwrap()
    }

    /// Listens on a port of `address`, and answers no attempt to connect, because its queue is full.
    async fn dead(address: &str, port: u16) -> (TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        let address = SocketAddr::new(address.parse().unwrap(), port);
        socket.bind(address).unwrap();
        let (listener, mut queue) = (socket.listen(1).unwrap(), Vec::new());
        let address = listener.local_addr().unwrap();
        let wait = Duration::from_millis(50);
        while let Ok(connected) = timeout(wait, TcpStream::connect(address)).await {
            queue.push(connected.unwrap());
        }
        (listener, queue)
    }

    #[tokio::test]
    async fn a_dead_address_costs_a_moment_once_and_comes_last_from_then_on() {
        let system = FakeSystem::start(1).await;
        system.servers[0].at("a.test.", &["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
        let live = TcpListener::bind("127.0.0.4:0").await.unwrap();
        let port = live.local_addr().unwrap().port();
        let _dead = (dead("127.0.0.2", port).await, dead("127.0.0.3", port).await);
        let connector = with(system.resolver(), vec![named(port)]);
        pause();
        let started = Instant::now();
        connector.dial().await.unwrap();
        assert!(
            started.elapsed() < Duration::from_millis(550),
            "{:?}",
            started.elapsed()
        );
        let order = connector.dns().resolve("a.test").await.unwrap();
        let order: Vec<_> = order.iter().map(ToString::to_string).collect();
        assert_eq!(order, ["127.0.0.4", "127.0.0.2", "127.0.0.3"]);
        let started = Instant::now();
        connector.dial().await.unwrap();
        assert!(
            started.elapsed() < Duration::from_millis(100),
            "{:?}",
            started.elapsed()
        );
    }

    #[tokio::test]
    async fn the_time_limit_is_for_all_addresses_of_a_host_together() {
        let system = FakeSystem::start(1).await;
        system.servers[0].at("a.test.", &["127.0.0.2", "127.0.0.3"]);
        system.servers[0].delay(Duration::from_secs(4));
        let one = dead("127.0.0.2", 0).await;
        let port = one.0.local_addr().unwrap().port();
        let _other = dead("127.0.0.3", port).await;
        let connector = with(system.resolver(), vec![named(port)]);
        pause();
        let started = Instant::now();
        let error = connector.dial().await.unwrap_err().to_string();
        assert!(error.contains("no answer within 3s"), "{error}");
        // The look-up of the name has its own.
        let (took, seven) = (started.elapsed(), Duration::from_secs(7));
        assert!(
            took >= seven && took < seven + Duration::from_millis(500),
            "{took:?}"
        );
    }

    #[tokio::test]
    async fn the_ipv6_address_is_reached_though_there_are_ten_ipv4_ones() {
        let system = FakeSystem::start(1).await;
        let v4: Vec<String> = (2..12).map(|n| format!("127.0.0.{n}")).collect();
        let all: Vec<&str> = v4.iter().map(String::as_str).chain(["::1"]).collect();
        system.servers[0].at("a.test.", &all);
        let live = TcpListener::bind("[::1]:0").await.unwrap();
        let port = live.local_addr().unwrap().port();
        let connector = with(system.resolver(), vec![named(port)]);
        connector.dial().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_has_moved_is_found_by_the_first_call() {
        let system = FakeSystem::start(1).await;
        system.servers[0].at("a.test.", &["127.0.0.2"]);
        let live = TcpListener::bind("127.0.0.3:0").await.unwrap();
        let connector = with(
            system.resolver(),
            vec![named(live.local_addr().unwrap().port())],
        );
        let refused = connector.dial().await.unwrap_err();
        assert!(matches!(refused, DialError::Connect { .. }), "{refused}");
        system.servers[0].at("a.test.", &["127.0.0.3"]);
        advance(Duration::from_secs(3600)).await;
        connector.dial().await.unwrap();
    }

    #[tokio::test]
    async fn an_address_that_is_silent_in_the_handshake_is_not_waited_for_alone() {
        let system = FakeSystem::start(1).await;
        system.servers[0].at("a.test.", &["127.0.0.2", "127.0.0.3"]);
        let silent = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let other = TcpListener::bind(("127.0.0.3", port)).await.unwrap();
        let mut origin = named(port);
        origin.tls = true;
        let connector = with(system.resolver(), vec![origin]);
        pause();
        let started = Instant::now();
        let answering = async {
            let mut stream = other.accept().await.unwrap().0;
            let answer = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            answer.await.unwrap();
            pending::<()>().await
        };
        let dialed = tokio::select! {
            dialed = connector.dial() => dialed,
            () = answering => unreachable!(),
        };
        assert!(matches!(dialed, Err(DialError::Tls { .. })), "{dialed:?}");
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "{:?}",
            started.elapsed()
        );
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
                let mut stream = listener.accept().await.unwrap().0;
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await
            },
            connector.dial(),
        );
        nonsense.unwrap();
        assert!(matches!(dialed, Err(DialError::Tls { .. })), "{dialed:?}");
    }
}
