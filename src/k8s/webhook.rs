//! The injector in the cluster: the API server asks it, over TLS, about each pod that is created.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>

pub mod bootstrap;
mod ca_bundle;
mod certificate;
pub mod cluster;
mod connections;
mod metrics;
mod patch;
mod review;

use std::{
    convert::Infallible, future::pending, io, net::SocketAddr, path::PathBuf, pin::pin,
    process::ExitCode, sync::Arc,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::{SemaphorePermit, watch},
    time::{Duration, Instant, sleep, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;

use super::inject::Injector;
use crate::{log::Log, metrics::CONTENT_TYPE};
use certificate::Certificate;
use cluster::Cluster;
use connections::{Connections, Slot};
use metrics::{Reviewed, WebhookMetrics};
use review::ReviewReply;

/// How the webhook runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the API server connects to.
    pub listen: SocketAddr,
    /// A PEM file with the certificate and its chain.
    pub certificate: PathBuf,
    /// A PEM file with its key.
    pub key: PathBuf,
    /// What decides about all pods.
    pub injector: Injector,
    /// The API server.
    pub cluster: cluster::Options,
    /// Whether the annotations of a pod's namespace are asked for.
    pub namespaces: bool,
    /// How long to go on accepting reviews, not ready any more, when told to stop.
    pub shutdown_delay: Duration,
}

/// The webhook while it serves.
#[derive(Debug)]
struct Webhook {
    injector: Injector,
    cluster: Cluster,
    namespaces: bool,
    certificate: Arc<Certificate>,
    figures: WebhookMetrics,
    log: Log,
    peers: Arc<Connections>,
    farewell: watch::Sender<Shutdown>,
}

/// How far the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shutdown {
    Serving,
    Leaving,
    Draining,
}

type WebhookReply = Response<Full<Bytes>>;

/// Why there is no answer to a review: failurePolicy decides.
struct ReviewError(Reviewed, StatusCode, String);

/// How long a peer may take for a handshake, or for the rest of a review: longer than the API server
/// waits for its answer.
const PATIENCE: Duration = Duration::from_secs(6);

/// How long a connection may stay without ever having asked anything.
const UNUSED: Duration = Duration::from_secs(10);

/// How long a connection is kept between two requests: longer than the API server keeps it, so that
/// none is closed on a review that is just coming.
const KEPT_ALIVE: Duration = Duration::from_secs(120);

/// The API server takes objects of 3 MiB, and a review holds more than the object.
const LARGEST_BODY: usize = 6 << 20;

/// The head of a request.
const LARGEST_HEAD: usize = 64 * 1024;

/// How long reviews in flight may take when the process ends.
const GRACE: Duration = Duration::from_secs(10);

/// Serves until a signal: the first drains, a second one ends at once.
pub async fn serve(options: Options, log: Log) -> ExitCode {
    match start(options, log).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            tracing::error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

async fn start(options: Options, log: Log) -> Result<(), String> {
    let certificate = Certificate::load(&options.certificate, &options.key)?;
    let certificate = Arc::new(certificate);
    let listener = TcpListener::bind(options.listen).await;
    let listener = listener.map_err(|error| format!("--listen: {}: {error}", options.listen))?;
    let at = |error: io::Error| error.to_string();
    let address = listener.local_addr().map_err(at)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(at)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(at)?;
    let webhook = Arc::new(Webhook {
        injector: options.injector,
        cluster: Cluster::new(options.cluster),
        namespaces: options.namespaces,
        certificate: certificate.clone(),
        figures: WebhookMetrics::default(),
        log,
        peers: Connections::new(),
        farewell: watch::Sender::new(Shutdown::Serving),
    });
    tokio::spawn(certificate.clone().watch());
    let learning = webhook.clone();
    tokio::spawn(async move { learning.cluster.learn_version().await });
    tracing::info!(%address, "listening");
    let serving = tokio::spawn(webhook.clone().accept(listener));
    let mut signalled = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    signalled().await;
    tracing::info!(delay = ?options.shutdown_delay, "stopping");
    let end = async {
        webhook.farewell.send_replace(Shutdown::Leaving);
        sleep(options.shutdown_delay).await;
        webhook.farewell.send_replace(Shutdown::Draining);
        serving.await.map_err(|error| error.to_string())
    };
    tokio::select! {
        ended = end => ended,
        () = signalled() => Err("a second signal: ending at once".to_owned()),
    }
}

impl Webhook {
    /// Accepts until the end, and returns when the last connection is closed, or the grace is over.
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let acceptor = TlsAcceptor::from(self.certificate.server());
        let mut farewell = self.farewell.subscribe();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = farewell.wait_for(|farewell| *farewell == Shutdown::Draining) => break,
            };
            let Ok((stream, _)) = accepted else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (webhook, acceptor) = (self.clone(), acceptor.clone());
            let seat = self.peers.seat();
            tokio::spawn(async move {
                tokio::select! {
                    () = webhook.converse(stream, acceptor, &seat) => {}
                    () = seat.is_needed() => tracing::debug!("a connection made room"),
                }
            });
        }
        drop(listener);
        let _ = timeout(GRACE, self.peers.all_left()).await;
    }

    async fn converse(&self, stream: TcpStream, acceptor: TlsAcceptor, seat: &Slot) {
        // Who does not speak TLS, or distrusts the certificate, is told so by TLS.
        let Ok(Ok(stream)) = timeout(PATIENCE, acceptor.accept(stream)).await else {
            tracing::debug!("a TLS handshake failed");
            return;
        };
        let service = service_fn(|request: Request<Incoming>| async move {
            let _busy = seat.busy();
            let mut reply = self.answer(request).await;
            // The next review had better go to a replica that stays.
            if *self.farewell.borrow() > Shutdown::Serving {
                let close = HeaderValue::from_static("close");
                reply.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(reply)
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(KEPT_ALIVE)
            .max_buf_size(LARGEST_HEAD);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let mut farewell = self.farewell.subscribe();
        let unused = async {
            sleep(UNUSED).await;
            if seat.is_used() {
                pending::<()>().await;
            }
        };
        tokio::select! {
            _ = connection.as_mut() => return,
            () = unused => return,
            _ = farewell.wait_for(|farewell| *farewell == Shutdown::Draining) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }

    async fn answer(&self, request: Request<Incoming>) -> WebhookReply {
        let path = request.uri().path().to_owned();
        match (path.as_str(), request.method()) {
            ("/inject", &Method::POST) => self.inject(request).await,
            ("/inject", _) => text(StatusCode::METHOD_NOT_ALLOWED, "POST an AdmissionReview"),
            ("/livez" | "/healthz", _) => text(StatusCode::OK, "ok"),
            ("/readyz", _) if *self.farewell.borrow() > Shutdown::Serving => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the process is about to end",
            ),
            ("/readyz", _) => text(StatusCode::OK, "ok"),
            ("/metrics", _) => {
                let dropped = self.log.dropped_lines();
                let page = self.figures.page(self.certificate.remaining(), dropped);
                let mut reply = text(StatusCode::OK, page.trim_end());
                reply
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
                reply
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "POST /inject, GET /livez, /readyz, /metrics",
            ),
        }
    }

    async fn inject(&self, request: Request<Incoming>) -> WebhookReply {
        let started = Instant::now();

        match self.review(request).await {
            Ok(ReviewReply { body, reviewed }) => {
                self.figures.count(reviewed, started.elapsed());
                let mut reply = Response::new(Full::from(body));
                let kind = HeaderValue::from_static("application/json");
                reply.headers_mut().insert(header::CONTENT_TYPE, kind);
                reply
            }
            Err(ReviewError(reviewed, status, problem)) => {
                tracing::warn!(%status, problem, "a review cannot be answered");
                self.figures.count(reviewed, started.elapsed());
                text(status, &problem)
            }
        }
    }

    async fn review(&self, request: Request<Incoming>) -> Result<ReviewReply, ReviewError> {
        let (body, _room) = self.read(request).await?;
        let malformed =
            |problem| ReviewError(Reviewed::Malformed, StatusCode::BAD_REQUEST, problem);
        let review = review::Review::parse(&body).map_err(malformed)?;
        drop(body);
        let namespace = match review.namespace() {
            Some(name) if self.namespaces && review.is_for_us() => {
                let found = self.cluster.namespace(name).await;
                // Settings that cannot be read are not guessed: failurePolicy decides.
                found.map_err(|problem| {
                    ReviewError(Reviewed::Failed, StatusCode::INTERNAL_SERVER_ERROR, problem)
                })?
            }
            _ => Arc::default(),
        };
        let mut injector = self.injector.clone();
        injector.cluster = self.cluster.version();
        Ok(review.answer(&injector, &namespace))
    }

    /// The body of a review, all of it before anything is said: who still sends does not listen.
    async fn read(
        &self,
        request: Request<Incoming>,
    ) -> Result<(Vec<u8>, Vec<SemaphorePermit<'_>>), ReviewError> {
        let wrong =
            |status, problem: &str| ReviewError(Reviewed::Malformed, status, problem.to_owned());
        let (head, mut body) = request.into_parts();
        let (mut bytes, mut room) = (Vec::new(), Vec::new());
        let end = Instant::now() + PATIENCE;
        loop {
            let frame = match timeout_at(end, body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(_))) | Err(_) => {
                    return Err(wrong(StatusCode::BAD_REQUEST, "the body did not arrive"));
                }
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if bytes.len() + data.len() > LARGEST_BODY {
                return Err(wrong(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "the body is larger than 6 MiB",
                ));
            }
            let full = || wrong(StatusCode::SERVICE_UNAVAILABLE, "too many reviews at once");
            room.push(self.peers.room(data.len()).ok_or_else(full)?);
            bytes.extend_from_slice(&data);
        }
        let kind = head.headers.get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.split(';').next().map(str::trim) != Some("application/json") {
            let problem = "the Content-Type is not application/json";
            return Err(wrong(StatusCode::UNSUPPORTED_MEDIA_TYPE, problem));
        }
        Ok((bytes, room))
    }
}

fn text(status: StatusCode, text: &str) -> WebhookReply {
    let mut reply = Response::new(Full::from(format!("{text}\n")));
    *reply.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    reply
}
