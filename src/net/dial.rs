//! Opens a connection to one host: through its addresses or a proxy, and with TLS.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use http::HeaderValue;
use rustix::net::sockopt;
use rustls::pki_types::ServerName;
use tokio::{
    net::TcpStream,
    time::{Duration, Instant, sleep_until, timeout},
};
use tokio_rustls::TlsConnector;

use super::{
    dial_error::DialError,
    dns::Resolver,
    egress::Egress,
    origin::Origin,
    race::{Race, attempt},
    read_ahead::ReadAhead,
    stream::Stream,
    tls::{self, TlsRoots},
};
use crate::os::set_keepalive_idle;

/// How many bytes of an upload are encrypted before they are sent.
const MAX_WRITE: usize = 256 * 1024;

/// How long a TLS handshake may take before another address is tried beside it.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_secs(1);

/// One host, and the names by which it is spoken to.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) origin: Origin,
    authority: HeaderValue,
    server_name: ServerName<'static>,
}

/// How hosts are connected.
pub(super) struct Dialer<'a> {
    pub(super) dns: &'a Resolver,
    pub(super) tls: &'a TlsRoots,
    pub(super) egress: Option<&'a Egress>,
    /// The limit for all addresses of a host together. It begins when they are known.
    pub(super) limit: Duration,
}

/// A connection ready for calls.
#[derive(Debug)]
pub(crate) struct Dialed {
    pub(crate) stream: Stream,
    /// The `Host` header of calls on it.
    pub(crate) authority: HeaderValue,
}

impl Dialer<'_> {
    /// Opens a connection to `host`.
    pub(super) async fn dial(&self, host: &Host) -> Result<Dialed, DialError> {
        let addresses = self.resolve(host).await?;
        if let Some(egress) = self.egress {
            let dialed = timeout(self.limit, self.through(egress, host, addresses)).await;
            return dialed.unwrap_or_else(|_| Err(self.timed_out(host)));
        }
        let started = Instant::now();
        let dialed = self.race(host, &addresses, self.limit).await;
        let left = self.limit.saturating_sub(started.elapsed());
        if !matches!(dialed, Err(DialError::Connect { .. })) || left.is_zero() {
            return dialed;
        }
        // The addresses may be old, and the host elsewhere by now.
        let name = &host.origin.host;
        match self.dns.resolve_fresh(name, left).await {
            Ok(newer) if !newer.iter().all(|address| addresses.contains(address)) => {
                let left = self.limit.saturating_sub(started.elapsed());
                self.race(host, &newer, left).await
            }
            _ => dialed,
        }
    }

    /// The addresses of `host`, or those of the proxy, which resolves the name itself.
    pub(super) async fn resolve(&self, host: &Host) -> Result<Vec<IpAddr>, DialError> {
        if let Some(egress) = self.egress {
            let found = self.dns.nearby().resolve(&egress.host).await;
            return found.map_err(|error| {
                let name = &egress.host;
                let reason = format!(
                    "the egress proxy {egress}: the name {name} cannot be resolved: {error}"
                );
                host.connect_error(&reason)
            });
        }
        let name = &host.origin.host;
        let found = self.dns.resolve(name).await;
        found.map_err(|source| DialError::Resolve {
            host: name.clone(),
            source,
        })
    }

    async fn race(
        &self,
        host: &Host,
        addresses: &[IpAddr],
        limit: Duration,
    ) -> Result<Dialed, DialError> {
        let port = host.origin.port;
        let addresses = addresses.iter().map(|ip| SocketAddr::new(*ip, port));
        let mut race = Race::new(self.dns, addresses.collect(), attempt);
        // The addresses whose handshake has not ended.
        let mut handshakes = Vec::new();
        let first = self.first(host, &mut race, &mut handshakes);
        match timeout(limit, first).await {
            Ok(dialed) => dialed,
            Err(_) => {
                race.timed_out();
                for address in handshakes {
                    self.dns.note(address, false);
                }
                Err(self.timed_out(host))
            }
        }
    }

    /// The first connection that is ready for calls. While one is in its handshake, no other address is tried for a
    /// moment.
    async fn first<C, A>(
        &self,
        host: &Host,
        race: &mut Race<'_, C, A>,
        shaking: &mut Vec<IpAddr>,
    ) -> Result<Dialed, DialError>
    where
        C: Fn(SocketAddr) -> A,
        A: Future<Output = (SocketAddr, io::Result<TcpStream>)>,
    {
        let mut handshakes = FuturesUnordered::new();
        let (mut all_tried, mut next_at) = (false, Instant::now());
        let mut failure = None;
        loop {
            let try_more = !all_tried && (handshakes.is_empty() || Instant::now() >= next_at);
            tokio::select! {
                biased;
                Some((ip, ended)) = handshakes.next() => {
                    let at = shaking.iter().position(|shaking| *shaking == ip).unwrap_or(0);
                    let broke = matches!(ended, Err(DialError::Connect { .. }));
                    self.dns.note(ip, !broke);
                    if !broke {
                        shaking.drain(..at).for_each(|slower| self.dns.note(slower, false));
                        return ended;
                    }
                    shaking.remove(at);
                    failure = ended.err();
                }
                connected = race.next(), if try_more => match connected {
                    Ok((address, stream)) => {
                        let ip = address.ip();
                        shaking.push(ip);
                        handshakes.push(async move { (ip, self.secure(host, stream).await) });
                        next_at = Instant::now() + NEXT_ADDRESS_AFTER;
                    }
                    Err(error) => {
                        all_tried = true;
                        failure = failure.or(Some(host.connect_error(&error.to_string())));
                    }
                },
                () = sleep_until(next_at), if !try_more && !all_tried => {}
                else => return Err(failure.unwrap_or(DialError::NoAddress)),
            }
        }
    }

    async fn through(
        &self,
        egress: &Egress,
        host: &Host,
        addresses: Vec<IpAddr>,
    ) -> Result<Dialed, DialError> {
        let addresses = addresses.iter().map(|ip| SocketAddr::new(*ip, egress.port));
        let (name, port) = (&host.origin.host, host.origin.port);
        let through = egress
            .connect(name, port, addresses.collect(), self.dns)
            .await;
        let stream = through.map_err(|reason| {
            host.connect_error(&format!("the egress proxy {egress}: {reason}"))
        })?;
        self.secure(host, stream).await
    }

    /// Makes a new connection to `host` ready for calls.
    async fn secure(&self, host: &Host, stream: TcpStream) -> Result<Dialed, DialError> {
        set_options(&stream).map_err(|error| host.connect_error(&error.to_string()))?;
        let stream = if host.origin.tls {
            let tls = TlsConnector::from(self.tls.config());
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

    fn timed_out(&self, host: &Host) -> DialError {
        host.connect_error(&format!("no answer within {:?}", self.limit))
    }
}

impl Host {
    /// The host of `origin`. A name that no certificate can have is an error.
    pub(super) fn new(origin: &Origin) -> Result<Self, DialError> {
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
    set_keepalive_idle(stream, Duration::from_secs(30))
}
