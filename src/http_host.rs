//! A small HTTP/1 server for our own pages: the admin port, and the webhook.
//!
//! A semaphore limits its connections, and more of them wait in the system's backlog. A peer cannot keep a connection
//! for long: an idle one is closed after a while, and sooner if most connections are in use.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Duration, Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{rt::spare_files::SpareFiles, server::Drain};

/// A request.
#[derive(Debug)]
pub struct HostRequest {
    /// Its head.
    pub head: Parts,
    /// Its body, which may still be arriving.
    pub body: Incoming,
    /// The address of the peer.
    pub peer: SocketAddr,
}

/// A reply.
pub type HostReply = Response<Full<Bytes>>;

/// Answers requests.
pub trait Service: Send + Sync + 'static {
    /// The reply to one request.
    fn answer(&self, request: HostRequest) -> impl Future<Output = HostReply> + Send;
}

/// The limits for peers.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many connections there may be at once.
    pub connections: usize,
    /// The largest head of a request, in bytes.
    pub largest_head: usize,
    /// The time until the head of the first request has arrived, including the TLS handshake.
    pub first_request: Duration,
    /// The time between two requests, including the arrival of the second head.
    pub keep_alive: Duration,
    /// Replaces both times while most connections are in use.
    pub when_scarce: Duration,
    /// How long a connection lasts.
    pub visit: Option<Visit>,
    /// How long requests in flight may take after the drain has begun.
    pub grace: Duration,
}

/// How long a connection lasts.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    /// After this time, the next reply is the last one, and announces that.
    pub last_reply: Duration,
    /// The longest time that a connection lasts.
    pub longest: Duration,
}

/// How often idle connections are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How many files are kept for peers that come when no more may be opened.
const SPARE_FILES: usize = 4;

/// The pause after an error of `accept`, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// The server.
#[derive(Debug)]
struct HttpHost<S> {
    options: Options,
    service: S,
    places: Arc<Semaphore>,
    /// For peers that come when no more files may be opened.
    spare: SpareFiles,
    drain: Drain,
}

/// The time since which a connection has been idle.
#[derive(Debug)]
struct Idle(Mutex<IdleState>);

#[derive(Clone, Copy, Debug)]
struct IdleState {
    /// `None` while a request is being answered.
    since: Option<Instant>,
    /// Whether a request has arrived.
    is_used: bool,
}

/// Serves `listener`, over TLS if there is an acceptor. Returns after the drain, when all connections are closed or
/// the grace period has ended.
pub async fn serve<S: Service>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    service: S,
    options: Options,
    drain: Drain,
) {
    let places = Arc::new(Semaphore::new(options.connections));
    let host = Arc::new(HttpHost {
        options,
        service,
        places,
        spare: SpareFiles::new(SPARE_FILES),
        drain,
    });
    loop {
        let next = async {
            let permit = host.places.clone().acquire_owned().await;
            (host.accept(&listener).await, permit)
        };
        let next = tokio::select! {
            next = next => next,
            () = host.drain.drain_started() => break,
        };
        let (Ok((stream, peer)), Ok(permit)) = next else {
            sleep(PAUSE).await;
            continue;
        };
        let (host, tls) = (host.clone(), tls.clone());
        tokio::spawn(async move {
            host.connection(stream, tls, peer).await;
            host.spare.refill();
            drop(permit);
        });
    }
    drop(listener);
    let all = u32::try_from(options.connections).unwrap_or(u32::MAX);
    let _ = timeout(options.grace, host.places.acquire_many(all)).await;
}

impl<S: Service> HttpHost<S> {
    /// Accepts a connection, with a spare file if no more may be opened.
    async fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            match listener.accept().await {
                Err(error) if self.spare.give_way(&error) => {}
                accepted => return accepted,
            }
        }
    }

    async fn connection(&self, stream: TcpStream, tls: Option<TlsAcceptor>, peer: SocketAddr) {
        let idle = Idle::new();
        let exchange = async {
            let Some(tls) = tls else {
                return self.converse(stream, peer, &idle).await;
            };
            // If the peer does not speak TLS, or distrusts the certificate, TLS tells it so.
            match tls.accept(stream).await {
                Ok(stream) => self.converse(stream, peer, &idle).await,
                Err(_) => tracing::debug!("a TLS handshake failed"),
            }
        };
        tokio::select! {
            () = exchange => {}
            () = self.is_idle_for_long(&idle) => {}
            () = self.outlasts_its_visit() => {}
        }
    }

    async fn converse<T>(&self, stream: T, peer: SocketAddr, idle: &Idle)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let last = self.options.visit.map(|visit| visit.last_reply);
        let last = last.map(|last| Instant::now() + last);
        let service = service_fn(|request: Request<Incoming>| async move {
            idle.ends();
            let (head, body) = request.into_parts();
            let request = HostRequest { head, body, peer };
            let mut reply = self.service.answer(request).await;
            idle.begins();
            if last.is_some_and(|last| Instant::now() >= last) || self.spare.is_short() {
                let close = HeaderValue::from_static("close");
                reply.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(reply)
        });
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            .max_buf_size(self.options.largest_head)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        // It does not matter if the peer has hung up.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = self.drain.drain_started() => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }

    /// Returns when the connection has been idle for longer than it may.
    async fn is_idle_for_long(&self, idle: &Idle) {
        loop {
            sleep(CHECK_INTERVAL).await;
            let IdleState { since, is_used } = idle.get();
            let limit = match is_used {
                _ if self.is_scarce() => self.options.when_scarce,
                true => self.options.keep_alive,
                false => self.options.first_request,
            };
            if since.is_some_and(|since| since.elapsed() >= limit) {
                return;
            }
        }
    }

    async fn outlasts_its_visit(&self) {
        match self.options.visit {
            Some(visit) => sleep(visit.longest).await,
            None => std::future::pending().await,
        }
    }

    /// Whether three quarters of the connections are in use.
    fn is_scarce(&self) -> bool {
        self.places.available_permits() <= self.options.connections / 4
    }
}

impl Idle {
    fn new() -> Self {
        Self(Mutex::new(IdleState {
            since: Some(Instant::now()),
            is_used: false,
        }))
    }

    fn get(&self) -> IdleState {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, since: Option<Instant>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = IdleState {
            since,
            is_used: true,
        };
    }

    fn ends(&self) {
        self.set(None);
    }

    fn begins(&self) {
        self.set(Some(Instant::now()));
    }
}

/// A text reply of one or more lines.
pub fn text(status: StatusCode, text: &str) -> HostReply {
    let mut reply = page("text/plain; charset=utf-8", format!("{text}\n"));
    *reply.status_mut() = status;
    reply
}

/// A reply with a body of this content type.
pub fn page(content_type: &'static str, body: impl Into<Bytes>) -> HostReply {
    let mut reply = HostReply::new(Full::new(body.into()));
    let content_type = HeaderValue::from_static(content_type);
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    reply
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    const OPTIONS: Options = Options {
        connections: 4,
        largest_head: 16 * 1024,
        first_request: LONG,
        keep_alive: LONG,
        when_scarce: Duration::ZERO,
        visit: None,
        grace: LONG,
    };

    struct Ok200;

    impl Service for Ok200 {
        async fn answer(&self, _: HostRequest) -> HostReply {
            text(StatusCode::OK, "ok")
        }
    }

    async fn start(options: Options, drain: &Drain) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = serve(listener, None, Ok200, options, drain.clone());
        (address, tokio::spawn(serving))
    }

    async fn ask(peer: &mut TcpStream) {
        let call = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        peer.write_all(call).await.unwrap();
        let mut reply = Vec::new();
        while !reply.ends_with(b"\r\n\r\nok\n") {
            assert_ne!(peer.read_buf(&mut reply).await.unwrap(), 0);
        }
    }

    /// Waits until the server closes the connection.
    async fn end(mut peer: TcpStream) {
        let mut rest = Vec::new();
        let ended = timeout(Duration::from_secs(20), peer.read_to_end(&mut rest));
        // A reset also counts as an end.
        let _ = ended.await.expect("it stays");
    }

    #[tokio::test]
    async fn idle_connections_make_room_while_places_are_scarce_whether_they_asked_or_not() {
        let (address, _serving) = start(OPTIONS, &Drain::default()).await;
        let mut peers = Vec::new();
        for at in 0..8 {
            let mut peer = TcpStream::connect(address).await.unwrap();
            if at == 0 {
                ask(&mut peer).await;
            }
            peers.push(peer);
        }
        let mut last = TcpStream::connect(address).await.unwrap();
        timeout(Duration::from_secs(20), ask(&mut last))
            .await
            .expect("no place");
        end(peers.remove(0)).await;
        end(peers.remove(0)).await;
    }

    #[tokio::test]
    async fn a_connection_that_asks_nothing_ends() {
        let options = Options {
            first_request: Duration::ZERO,
            ..OPTIONS
        };
        let (address, _serving) = start(options, &Drain::default()).await;
        end(TcpStream::connect(address).await.unwrap()).await;
    }

    #[tokio::test]
    async fn the_drain_ends_idle_connections_and_the_host() {
        let drain = Drain::default();
        let (address, serving) = start(OPTIONS, &drain).await;
        let mut peer = TcpStream::connect(address).await.unwrap();
        ask(&mut peer).await;
        drain.drain();
        end(peer).await;
        let ended = timeout(Duration::from_secs(20), serving).await;
        ended.expect("it goes on").unwrap();
    }
}
