//! Sends the spans of calls to a trace collector, on the control runtime: no call waits for it.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Duration, sleep, timeout},
};

use crate::{
    client::api::{self, ApiResponse, Client, ClientError},
    metrics::Metrics,
    net::{dns::Resolver, tls::TlsRoots},
    os,
    problems::{Kind, Occurrence, Standing},
    record::{Tracer, otlp},
    secret::{Secret, SecretSource},
};

/// How long spans wait for others.
const INTERVAL: Duration = Duration::from_secs(1);

/// The time limit of a request, and that of connecting.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait before spans are sent again to a collector that cannot take them now; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long the end of the process waits for the last spans.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// How much of a reply is read.
const LONGEST_REPLY: usize = 64 << 10;

/// The collector.
#[derive(Clone)]
pub struct Options {
    /// The URL to POST to. It may hold a key, and is never shown.
    pub url: Secret,
    /// Lines `Name: value` to send along.
    pub headers: Option<Arc<SecretSource>>,
    /// The trusted roots.
    pub tls: TlsRoots,
}

/// An exporter that runs until this is dropped.
#[derive(Debug)]
pub struct TraceExport {
    /// The queue that it empties.
    pub tracer: Tracer,
    closing: watch::Sender<bool>,
    task: JoinSet<()>,
}

struct Exporter {
    client: Client,
    options: Options,
    host_name: String,
    tracer: Tracer,
    /// How many calls the tracer had dropped when the collector last took spans.
    dropped: u64,
    /// Whether the collector did not take the last request.
    is_refused: bool,
    metrics: Arc<Metrics>,
    closing: watch::Receiver<bool>,
}

/// Why the collector did not take spans. It holds neither its URL nor anything of its reply.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("otlp-headers-file {0}")]
    Headers(&'static str),
    #[error("the collector could not be reached: {0}")]
    Unreachable(#[from] api::Error),
    #[error("the collector answered HTTP status {0}")]
    Status(StatusCode),
}

impl ExportError {
    /// Whether the same spans may be taken later (OTLP/HTTP, "Retryable Response Codes").
    fn is_passing(&self) -> bool {
        match self {
            Self::Headers(_) | Self::Unreachable(_) => true,
            Self::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").finish_non_exhaustive()
    }
}

impl TraceExport {
    /// Starts the exporter on the current runtime. The collector's name is resolved by `dns`.
    pub fn start(
        options: Options,
        dns: Resolver,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ClientError> {
        let tls = options.tls.following();
        let client = Client::near(tls, dns, REQUEST_TIMEOUT / 2, REQUEST_TIMEOUT)?;
        let (closing, is_closing) = watch::channel(false);
        let tracer = Tracer::default();
        let exporter = Exporter {
            client,
            options,
            host_name: os::host_name(),
            tracer: tracer.clone(),
            dropped: 0,
            is_refused: false,
            metrics,
            closing: is_closing,
        };
        let mut task = JoinSet::new();
        task.spawn(exporter.run());
        Ok(Self {
            tracer,
            closing,
            task,
        })
    }

    /// Sends the last spans, and gives those up that are not taken in time.
    pub async fn finish(mut self) {
        self.closing.send_replace(true);
        let _ = timeout(LAST_SPANS, self.task.join_next()).await;
    }
}

impl Exporter {
    async fn run(mut self) {
        while !self.is_closing() {
            tokio::select! {
                () = sleep(INTERVAL) => {}
                () = self.tracer.batch_ready() => {}
                _ = self.closing.changed() => {}
            }
            while let Some(batch) = self.tracer.take_batch() {
                let request = otlp::request(&batch, &self.host_name);
                // The request alone is kept while the collector is away.
                drop(batch);
                self.deliver(request).await;
            }
            // Whether it is over is known when there are spans again.
            if self.is_refused {
                let problems = &self.metrics.nobody.problems;
                problems.observe(Kind::TracesLost, Standing::Stays);
            }
        }
    }

    fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Sends a request until the collector has taken it or does not want it. At the end it is sent once.
    async fn deliver(&mut self, request: Bytes) {
        let mut pause = FIRST_PAUSE;
        loop {
            let is_last = self.is_closing();
            let sent = self.send(request.clone()).await;
            self.note(&sent);
            match sent {
                Err(error) if error.is_passing() && !is_last => {}
                _ => return,
            }
            let _ = timeout(pause, self.closing.changed()).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Sends a request once. Returns how many of its spans were rejected.
    async fn send(&self, request: Bytes) -> Result<u64, ExportError> {
        let mut post = self.client.post(self.options.url.expose());
        if let Some(file) = &self.options.headers {
            for (name, value) in headers(&file.held()).map_err(ExportError::Headers)? {
                post = post.header(name, value);
            }
        }
        let reply = post.protobuf(request).send().await?;
        match reply.status() {
            status if status.is_success() => Ok(rejected(reply).await),
            status => Err(ExportError::Status(status)),
        }
    }

    /// Tells the problems of the process what came of a request.
    fn note(&mut self, sent: &Result<u64, ExportError>) {
        let problems = &self.metrics.nobody.problems;
        self.is_refused = sent.is_err();
        let rejected = match sent {
            Ok(rejected) => *rejected,
            Err(error) => return problems.observe(Kind::TracesLost, Standing::There(error)),
        };
        let dropped = self.tracer.dropped() - self.dropped;
        self.dropped += dropped;
        let (times, cause): (u64, &dyn fmt::Display) = match (rejected, dropped) {
            (0, 0) => return problems.observe(Kind::TracesLost, Standing::Gone),
            (0, _) => (
                dropped,
                &"calls ended faster than the collector took their spans",
            ),
            _ => (rejected, &"the collector rejected spans that it had read"),
        };
        let cause = Some(cause);
        problems.occurred_times(
            Kind::TracesLost,
            times,
            Occurrence {
                cause,
                ..Occurrence::default()
            },
        );
    }
}

/// How many spans a collector rejected that took the others.
async fn rejected(reply: ApiResponse) -> u64 {
    let body = reply.body(LONGEST_REPLY).await;
    body.map_or(0, |body| otlp::rejected(&body))
}

/// Reads headers from lines `Name: value`. The error is a phrase that repeats nothing of them.
pub fn headers(lines: &Secret) -> Result<Vec<(HeaderName, HeaderValue)>, &'static str> {
    const WRONG: &str = "does not hold lines like Authorization: Bearer …";
    let lines = lines
        .expose()
        .lines()
        .filter(|line| !line.trim().is_empty());
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').ok_or(WRONG)?;
        let name: HeaderName = name.trim().parse().map_err(|_| WRONG)?;
        let mut value: HeaderValue = value.trim().parse().map_err(|_| WRONG)?;
        value.set_sensitive(true);
        Ok((name, value))
    });
    headers.collect()
}
