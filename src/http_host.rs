//! A small HTTP/1 server for our own pages: the admin port, and the webhook.
//!
//! Its connections are bounded by a semaphore; the next one waits in the system's backlog. A peer cannot hold a
//! place for long: a connection that is idle is closed after a while, and soon while most places are taken.

use std::{
    convert::Infallible,
    future::Future,
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

use crate::server::Drain;

/// What is asked.
#[derive(Debug)]
pub struct HostRequest {
    /// Its head.
    pub head: Parts,
    /// Its body, which may still have to arrive.
    pub body: Incoming,
    /// From where it came.
    pub peer: SocketAddr,
}

/// What is answered.
pub type HostReply = Response<Full<Bytes>>;

/// Answers requests.
pub trait Service: Send + Sync + 'static {
    /// The reply to one request.
    fn answer(&self, request: HostRequest) -> impl Future<Output = HostReply> + Send;
}

/// What peers may take.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Connections at once.
    pub connections: usize,
    /// Bytes of a request's head.
    pub largest_head: usize,
    /// The time until the head of the first request is there, with the TLS handshake.
    pub first_request: Duration,
    /// The time between two requests, with the arrival of the second one's head.
    pub keep_alive: Duration,
    /// Both times while most places are taken.
    pub when_scarce: Duration,
    /// How long a connection lasts.
    pub visit: Option<Visit>,
    /// How long requests in flight may take after the drain has begun.
    pub grace: Duration,
}

/// How long a connection lasts.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    /// After so long the next reply is the last one, and says so.
    pub last_reply: Duration,
    /// It lasts no longer than this.
    pub longest: Duration,
}

/// How often it is looked whether a connection has been idle for too long.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// After an error of `accept`, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// All connections.
#[derive(Debug)]
struct HttpHost<S> {
    options: Options,
    service: S,
    places: Arc<Semaphore>,
    drain: Drain,
}

/// Since when a connection has been idle.
#[derive(Debug)]
struct Idle(Mutex<IdleState>);

#[derive(Clone, Copy, Debug)]
struct IdleState {
    /// `None` while a request is being answered.
    since: Option<Instant>,
    /// Whether a request ever came.
    is_used: bool,
}

/// Answers on `listener`, over TLS where there is an acceptor. Returns after the drain, when the last connection
/// is closed or the grace is over.
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
        drain,
    });
    loop {
        let next = async {
            let permit = host.places.clone().acquire_owned().await;
            (listener.accept().await, permit)
        };
        let next = tokio::select! {
            next = next => next,
            () = host.drain.drained() => break,
        };
        let (Ok((stream, peer)), Ok(permit)) = next else {
            sleep(PAUSE).await;
            continue;
        };
        let (host, tls) = (host.clone(), tls.clone());
        tokio::spawn(async move {
            host.connection(stream, tls, peer).await;
            drop(permit);
        });
    }
    drop(listener);
    let all = u32::try_from(options.connections).unwrap_or(u32::MAX);
    let _ = timeout(options.grace, host.places.acquire_many(all)).await;
}

impl<S: Service> HttpHost<S> {
    async fn connection(&self, stream: TcpStream, tls: Option<TlsAcceptor>, peer: SocketAddr) {
        let idle = Idle::new();
        let exchange = async {
            let Some(tls) = tls else {
                return self.converse(stream, peer, &idle).await;
            };
            // A peer that does not speak TLS, or distrusts the certificate, is told so by TLS.
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
            if last.is_some_and(|last| Instant::now() >= last) {
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
        // A peer that hangs up is nobody's business.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = self.drain.drained() => {}
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

    /// Whether three quarters of the places are taken.
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

/// A reply of one line, or some.
pub fn text(status: StatusCode, text: &str) -> HostReply {
    let mut reply = page("text/plain; charset=utf-8", format!("{text}\n"));
    *reply.status_mut() = status;
    reply
}

/// A reply with a body of this type.
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

    /// Waits until the peer is hung up on.
    async fn end(mut peer: TcpStream) {
        let mut rest = Vec::new();
        let ended = timeout(Duration::from_secs(20), peer.read_to_end(&mut rest));
        // A reset is an end, too.
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
