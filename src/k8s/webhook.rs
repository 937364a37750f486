//! The injector in the cluster. The API server asks it, over TLS, about each pod that is created.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>

pub mod bootstrap;
mod ca_bundle;
mod certificate;
pub mod cluster;
mod error;
#[cfg(fuzzing)]
pub mod fuzz;
mod metrics;
mod patch;
mod review;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use tokio::{
    net::TcpListener,
    time::{Duration, Instant, sleep, timeout_at},
};
use tokio_rustls::TlsAcceptor;

use super::inject::Injector;
use crate::{
    body::budget::{ByteBudget, Reservation},
    http_host::{self, HostReply, HostRequest, Service, page, text},
    log::Log,
    metrics::CONTENT_TYPE,
    rt::signals::{Signals, StopSignals},
    server::Drain,
};
use certificate::Certificate;
use cluster::Cluster;
use error::{ClusterError, MalformedReview, ServeError};
use metrics::{Reviewed, WebhookMetrics};
use review::{NamespaceLabel, ReviewReply};

/// The options of the webhook.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address that the API server connects to.
    pub listen: SocketAddr,
    /// A PEM file with the certificate and its chain.
    pub certificate: PathBuf,
    /// A PEM file with its key.
    pub key: PathBuf,
    /// The options of injection.
    pub injector: Injector,
    /// The API server.
    pub cluster: cluster::Options,
    /// Whether annotations of the pod's namespace count.
    pub namespaces: bool,
    /// When told to stop: how long to go on accepting reviews, while not ready.
    pub shutdown_delay: Duration,
}

/// The running webhook.
#[derive(Debug)]
struct Webhook {
    injector: Injector,
    cluster: Cluster,
    namespaces: bool,
    certificate: Arc<Certificate>,
    metrics: WebhookMetrics,
    log: Log,
    /// Limits the bodies of all reviews in flight.
    bodies: &'static ByteBudget,
    drain: Drain,
}

/// Why a review has no answer. Then failurePolicy decides.
#[derive(Debug, thiserror::Error)]
enum ReviewError {
    /// The request is no review.
    #[error(transparent)]
    Malformed(#[from] MalformedReview),
    /// The settings of the namespace cannot be read, and are not guessed.
    #[error(transparent)]
    Namespace(#[from] ClusterError),
}

impl ReviewError {
    fn reviewed(&self) -> Reviewed {
        match self {
            Self::Malformed(_) => Reviewed::Malformed,
            Self::Namespace(_) => Reviewed::Failed,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(MalformedReview::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Malformed(MalformedReview::TooMany) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Malformed(MalformedReview::ContentType) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Namespace(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The path for pods of namespaces whose label is neither of the two words. Only the API server's selectors know that.
const UNCLEAR_NAMESPACE: &str = "/inject/unclear-namespace";

/// How long the body of a review may take. The API server does not wait that long for the answer.
const PATIENCE: Duration = Duration::from_secs(6);

/// The API server accepts objects of 3 MiB, and a review contains more than the object.
const LARGEST_BODY: usize = 6 << 20;

/// The memory for the bodies of all reviews in flight together.
const BODIES: usize = 32 << 20;

/// An API server keeps a few connections open. It sends a request on a new connection at once, and closes idle ones
/// after 90 s. That is before we would, so we never close one on which a review is arriving.
const HOST: http_host::Options = http_host::Options {
    connections: 512,
    largest_head: 64 * 1024,
    first_request: Duration::from_secs(10),
    keep_alive: Duration::from_secs(120),
    when_scarce: Duration::from_secs(2),
    visit: None,
    grace: Duration::from_secs(10),
};

/// Serves until a signal. The first one drains, and a second one ends the process at once.
pub async fn serve(options: Options, log: Log, signals: Signals) -> ExitCode {
    match start(options, log, signals.stop).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn start(options: Options, log: Log, mut stop: StopSignals) -> Result<(), ServeError> {
    let certificate = Certificate::load(&options.certificate, &options.key)?;
    let certificate = Arc::new(certificate);
    let listener = TcpListener::bind(options.listen).await;
    let listener = listener.map_err(|error| ServeError::Listen {
        address: options.listen,
        error,
    })?;
    let address = listener.local_addr().map_err(ServeError::System)?;
    let drain = Drain::default();
    let webhook = Arc::new(Webhook {
        injector: options.injector,
        cluster: Cluster::new(options.cluster),
        namespaces: options.namespaces,
        certificate: certificate.clone(),
        metrics: WebhookMetrics::default(),
        log,
        bodies: ByteBudget::new(BODIES),
        drain: drain.clone(),
    });
    tokio::spawn(certificate.clone().watch());
    let learning = webhook.clone();
    tokio::spawn(async move { learning.cluster.learn_version().await });
    tracing::info!(%address, "listening");
    let tls = TlsAcceptor::from(certificate.server());
    let serving = http_host::serve(listener, Some(tls), webhook, HOST, drain.clone());
    let serving = tokio::spawn(serving);
    stop.recv().await;
    let delay_seconds = options.shutdown_delay.as_secs_f64();
    tracing::info!(delay_seconds, "stopping");
    let end = async {
        drain.leave();
        sleep(options.shutdown_delay).await;
        drain.drain();
        serving.await.map_err(ServeError::Panicked)
    };
    tokio::select! {
        ended = end => ended,
        () = stop.recv() => Err(ServeError::SecondSignal),
    }
}

impl Service for Arc<Webhook> {
    async fn answer(&self, request: HostRequest) -> HostReply {
        let mut reply = self.dispatch(request).await;
        // The next review should go to a replica that continues.
        if self.drain.is_leaving() {
            let close = HeaderValue::from_static("close");
            reply.headers_mut().insert(header::CONNECTION, close);
        }
        reply
    }
}

impl Webhook {
    async fn dispatch(&self, request: HostRequest) -> HostReply {
        let (path, method) = (request.head.uri.path(), &request.head.method);
        match (path, method) {
            ("/inject", &Method::POST) => self.inject(request, NamespaceLabel::Clear).await,
            (UNCLEAR_NAMESPACE, &Method::POST) => {
                self.inject(request, NamespaceLabel::Unclear).await
            }
            ("/inject" | UNCLEAR_NAMESPACE, _) => {
                text(StatusCode::METHOD_NOT_ALLOWED, "POST an AdmissionReview")
            }
            ("/livez" | "/healthz", _) => text(StatusCode::OK, "ok"),
            ("/readyz", _) if self.drain.is_leaving() => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the process is about to end",
            ),
            ("/readyz", _) => text(StatusCode::OK, "ok"),
            ("/metrics", _) => {
                let dropped = self.log.dropped_lines();
                let certificate = self.certificate.remaining();
                page(CONTENT_TYPE, self.metrics.page(certificate, dropped))
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "POST /inject, GET /livez, /readyz, /metrics",
            ),
        }
    }

    async fn inject(&self, request: HostRequest, label: NamespaceLabel) -> HostReply {
        let started = Instant::now();
        match self.review(request, label).await {
            Ok(ReviewReply { body, reviewed }) => {
                self.metrics.count(reviewed, started.elapsed());
                page("application/json", body)
            }
            Err(error) => {
                let (status, problem) = (error.status(), error.to_string());
                tracing::warn!(%status, problem, "a review cannot be answered");
                self.metrics.count(error.reviewed(), started.elapsed());
                text(status, &problem)
            }
        }
    }

    async fn review(
        &self,
        request: HostRequest,
        label: NamespaceLabel,
    ) -> Result<ReviewReply, ReviewError> {
        let (body, _reservation) = self.read(request).await?;
        let review = review::Review::parse(&body)?;
        drop(body);
        let namespace = match review.namespace() {
            Some(name) if self.namespaces && review.is_for_us() => {
                self.cluster.namespace(name).await?
            }
            _ => Arc::default(),
        };
        let mut injector = self.injector.clone();
        injector.cluster = self.cluster.version();
        Ok(review.answer(&injector, &namespace, label))
    }

    /// Reads all of the body before the review is answered, because a peer that still sends may not read.
    async fn read(
        &self,
        request: HostRequest,
    ) -> Result<(Vec<u8>, Option<Reservation>), MalformedReview> {
        let HostRequest { head, mut body, .. } = request;
        let (mut bytes, mut reservation) = (Vec::new(), self.bodies.reserve(0));
        let end = Instant::now() + PATIENCE;
        loop {
            let frame = match timeout_at(end, body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(_))) | Err(_) => return Err(MalformedReview::NoBody),
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if bytes.len() + data.len() > LARGEST_BODY {
                return Err(MalformedReview::TooLarge);
            }
            if !reservation
                .as_mut()
                .is_some_and(|held| held.grow(data.len()))
            {
                return Err(MalformedReview::TooMany);
            }
            bytes.extend_from_slice(&data);
        }
        let kind = head.headers.get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.split(';').next().map(str::trim) != Some("application/json") {
            return Err(MalformedReview::ContentType);
        }
        Ok((bytes, reservation))
    }
}
