//! The injector in the cluster: the API server asks it, over TLS, about each pod that is created.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>

pub mod bootstrap;
mod certificate;
pub mod cluster;
mod figures;
mod review;
mod validity;

use std::{convert::Infallible, io, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, watch},
    time::{Duration, Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::inject::Injector;
use certificate::Certificate;
use cluster::Cluster;
use figures::{Figures, Reviewed};
use review::Answer;

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
    figures: Figures,
    farewell: watch::Sender<Farewell>,
}

/// How far the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Farewell {
    Serving,
    Leaving,
    Draining,
}

type Reply = Response<Full<Bytes>>;

/// Connections at once; an API server keeps a few.
const MOST_PEERS: usize = 512;

/// How long a peer may take for anything: longer than the API server waits.
const PATIENCE: Duration = Duration::from_secs(15);

/// The API server takes objects of 3 MiB, and a review holds more than the object.
const LARGEST_BODY: usize = 16 << 20;

/// How long reviews in flight may take when the process ends.
const GRACE: Duration = Duration::from_secs(10);

/// Serves until a signal: the first drains, a second one ends at once.
pub async fn serve(options: Options) -> ExitCode {
    match start(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            tracing::error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

async fn start(options: Options) -> Result<(), String> {
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
        figures: Figures::default(),
        farewell: watch::Sender::new(Farewell::Serving),
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
        webhook.farewell.send_replace(Farewell::Leaving);
        sleep(options.shutdown_delay).await;
        webhook.farewell.send_replace(Farewell::Draining);
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
        let room = Arc::new(Semaphore::new(MOST_PEERS));
        let acceptor = TlsAcceptor::from(self.certificate.server());
        let mut farewell = self.farewell.subscribe();
        loop {
            let next = async { (listener.accept().await, room.clone().acquire_owned().await) };
            let (accepted, permit) = tokio::select! {
                next = next => next,
                _ = farewell.wait_for(|farewell| *farewell == Farewell::Draining) => break,
            };
            let (Ok((stream, _)), Ok(permit)) = (accepted, permit) else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (webhook, acceptor) = (self.clone(), acceptor.clone());
            tokio::spawn(async move {
                webhook.converse(stream, acceptor).await;
                drop(permit);
            });
        }
        drop(listener);
        let all = u32::try_from(MOST_PEERS).unwrap_or(u32::MAX);
        let _ = timeout(GRACE, room.acquire_many(all)).await;
    }

    async fn converse(self: Arc<Self>, stream: TcpStream, acceptor: TlsAcceptor) {
        // Who does not speak TLS, or distrusts the certificate, is told so by TLS.
        let Ok(Ok(stream)) = timeout(PATIENCE, acceptor.accept(stream)).await else {
            tracing::debug!("a TLS handshake failed");
            return;
        };
        let service = service_fn(|request: Request<Incoming>| {
            let webhook = self.clone();
            async move { Ok::<_, Infallible>(webhook.answer(request).await) }
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(120));
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut farewell = self.farewell.subscribe();
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = farewell.wait_for(|farewell| *farewell == Farewell::Draining) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let path = request.uri().path().to_owned();
        match (path.as_str(), request.method()) {
            ("/inject", &Method::POST) => self.inject(request).await,
            ("/inject", _) => text(StatusCode::METHOD_NOT_ALLOWED, "POST an AdmissionReview"),
            ("/livez" | "/healthz", _) => text(StatusCode::OK, "ok"),
            ("/readyz", _) if *self.farewell.borrow() > Farewell::Serving => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the process is about to end",
            ),
            ("/readyz", _) => text(StatusCode::OK, "ok"),
            ("/metrics", _) => {
                let page = self.figures.page(self.certificate.remaining());
                let mut reply = text(StatusCode::OK, page.trim_end());
                let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                reply.headers_mut().insert(header::CONTENT_TYPE, kind);
                reply
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "POST /inject, GET /livez, /readyz, /metrics",
            ),
        }
    }

    async fn inject(&self, request: Request<Incoming>) -> Reply {
        let started = Instant::now();

        match self.review(request).await {
            Ok(Answer { body, reviewed }) => {
                self.figures.count(reviewed, started.elapsed());
                let mut reply = Response::new(Full::from(body));
                let kind = HeaderValue::from_static("application/json");
                reply.headers_mut().insert(header::CONTENT_TYPE, kind);
                reply
            }
            Err((status, problem)) => {
                tracing::warn!(%status, problem, "a review cannot be answered");
                self.figures.count(Reviewed::Malformed, started.elapsed());
                text(status, &problem)
            }
        }
    }

    async fn review(&self, request: Request<Incoming>) -> Result<Answer, (StatusCode, String)> {
        let body = read(request).await?;
        let malformed = |problem| (StatusCode::BAD_REQUEST, problem);
        let review = review::Review::parse(&body).map_err(malformed)?;
        drop(body);
        let namespace = match review.namespace() {
            Some(name) if self.namespaces => {
                let found = self.cluster.namespace(name).await;
                // Settings that cannot be read are not guessed: failurePolicy decides.
                found.map_err(|problem| (StatusCode::INTERNAL_SERVER_ERROR, problem))?
            }
            _ => Arc::default(),
        };
        let mut injector = self.injector.clone();
        injector.cluster = self.cluster.version();
        Ok(review.answer(&injector, &namespace))
    }
}

/// The body of a review, all of it before anything is said: who still sends does not listen.
async fn read(request: Request<Incoming>) -> Result<Bytes, (StatusCode, String)> {
    let (head, body) = request.into_parts();
    let body = timeout(PATIENCE, Limited::new(body, LARGEST_BODY).collect());
    let body = match body.await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let problem = format!("the body is larger than {LARGEST_BODY} bytes");
            return Err((StatusCode::PAYLOAD_TOO_LARGE, problem));
        }
        Ok(Err(_)) | Err(_) => {
            let problem = "the body did not arrive".to_owned();
            return Err((StatusCode::BAD_REQUEST, problem));
        }
    };
    let kind = head.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        let problem = "the Content-Type is not application/json".to_owned();
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, problem));
    }
    Ok(body)
}

fn text(status: StatusCode, text: &str) -> Reply {
    let mut reply = Response::new(Full::from(format!("{text}\n")));
    *reply.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    reply
}
