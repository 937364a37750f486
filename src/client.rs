//! The HTTP/1.1 client that sends calls to WeChat, with one pool per worker. Errors never show a URL.

pub mod api;
mod chunked;
mod connection;
mod counted_connects;
mod early_response;
#[cfg(fuzzing)]
pub mod fuzz;
pub mod header_names;
mod pool;
pub mod pools;
mod request;
mod request_writer;
mod response_body;
mod response_head;
mod waiting;

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::{Context, Poll},
};

use http::Response;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Duration, timeout},
};

pub use request::{TargetError, UpstreamRequest};
pub use response_body::ResponseBody;
pub use waiting::Waited;

use crate::net::connector::{Connector, DialError};
use connection::Connection;
use pool::Pool;
use waiting::Waiting;

use crate::{
    metrics::{GaugeGuard, Metrics},
    net::connection_error::ConnectionError,
};

/// Options of a client.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The limit from the last byte of a call to the head of its reply.
    pub reply_timeout: Duration,
    /// The longest pause in a body, in either direction.
    pub idle_timeout: Duration,
    /// The most connections of this worker.
    pub max_connections: usize,
    /// How many connections are kept open while there are no calls.
    pub keep_warm: usize,
}

/// One worker's connections to one upstream.
#[derive(Debug)]
pub struct Upstream {
    connector: Arc<Connector>,
    options: Options,
    pool: Arc<Pool>,
    /// Permits for connections.
    connections: Arc<Semaphore>,
    /// Permits for connections that are being opened.
    dials: Semaphore,
    /// The last error of opening a connection, if none was open then.
    dial_failed: watch::Sender<Option<DialError>>,
    metrics: Arc<Metrics>,
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// There is no connection. Nothing of the call was sent.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Connections were closed before the call could be written. Nothing of it was sent.
    #[error("WeChat closed the connection before the call was sent")]
    Closed,
    /// WeChat did not answer in time. It may have acted on the call.
    #[error("WeChat did not answer within {0:?}")]
    TimedOut(Duration),
    /// WeChat took nothing of the call for too long. It may have acted on the part that it took.
    #[error("WeChat took nothing of the call for {0:?}")]
    Stalled(Duration),
    /// The connection broke. WeChat may have acted on the call.
    #[error("no reply came: {error}")]
    Broken {
        /// Why.
        error: ConnectionError,
        /// The connection was open before the call came, and broke within a second after the last byte was sent and
        /// without a byte of a reply. So WeChat was probably closing it when the call was sent.
        was_closing: bool,
    },
    /// The app's own body ended early.
    #[error("the app's body ended early")]
    AppBodyEnded,
}

impl SendError {
    /// Whether WeChat cannot have seen the call.
    pub fn nothing_sent(&self) -> bool {
        matches!(self, Self::Dial(_) | Self::Closed)
    }

    /// Its name in traces.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Dial(_) => "unreachable",
            Self::Closed => "closed",
            Self::TimedOut(_) => "timeout",
            Self::Stalled(_) => "stalled",
            Self::Broken { .. } => "broken",
            Self::AppBodyEnded => "app_body_ended",
        }
    }
}

/// The most connections that are opened at once. More would slow each other down until all time out. A call
/// that waits may get a connection that another call has finished with.
const MAX_DIALS: usize = 128;

/// How many new connections may be closed at once before the call fails.
const ATTEMPTS: usize = 4;

impl Upstream {
    /// A client without open connections.
    pub fn new(connector: Arc<Connector>, options: Options, metrics: Arc<Metrics>) -> Self {
        Self {
            connector,
            pool: Arc::default(),
            connections: Arc::new(Semaphore::new(options.max_connections.max(1))),
            dials: Semaphore::new(MAX_DIALS),
            dial_failed: watch::Sender::default(),
            options,
            metrics,
        }
    }

    /// Sends `call`, and returns when the head of the reply has arrived. With `fresh`, a new connection is
    /// opened. `observe` is told how the wait for the reply ended, also when this future is dropped.
    // Not an `async fn`, because those copy their arguments once more.
    #[allow(clippy::manual_async_fn)]
    pub fn send(
        &self,
        call: UpstreamRequest,
        fresh: bool,
        observe: impl FnOnce(Waited),
    ) -> impl Future<Output = Result<Response<ResponseBody>, SendError>> {
        async move {
            let idle = if fresh { None } else { self.pool.take().await };
            let (mut connection, reused) = match idle {
                Some(connection) => (connection, true),
                None => Box::pin(self.open(fresh)).await?,
            };
            let waiting = Waiting::new(&self.metrics, observe);
            connection.begin(call, reused);
            let reply = poll_fn(|cx| connection.poll_reply(&self.options, cx)).await;
            let given_up = matches!(reply, Err(SendError::TimedOut(_) | SendError::Stalled(_)));
            waiting.end(reply.is_ok() || given_up);
            let reply = reply?;
            let (idle, pool) = (self.options.idle_timeout, self.pool.clone());
            Ok(reply.map(|()| ResponseBody::new(connection, idle, pool)))
        }
    }

    /// Opens connections until `keep_warm` are open, and closes those that were idle for too long. The
    /// caller calls it again after `pause`.
    async fn maintain(&self, pause: Duration) {
        let pause = pause + self.connector.connect_timeout();
        let deficit = poll_fn(|cx| Poll::Ready(self.deficit(pause, cx))).await;
        for _ in 0..deficit {
            let permit = self.connections.clone().try_acquire_owned();
            let (Ok(_dial), Ok(permit)) = (self.dials.try_acquire(), permit) else {
                break;
            };
            match self.connect(permit).await {
                Ok(connection) => self.pool.put(connection),
                Err(error) => {
                    tracing::debug!(%error, "no connection to WeChat can be kept warm");
                    break;
                }
            }
        }
        self.pool.sweep();
    }

    /// Returns when fewer than `keep_warm` connections are open.
    async fn below_min_idle(&self) {
        poll_fn(|cx| match self.deficit(Duration::ZERO, cx) {
            0 => Poll::Pending,
            _ => Poll::Ready(()),
        })
        .await;
    }

    /// How many connections are missing, not counting idle ones that will be too old after `pause`. The
    /// task of `cx` is woken when one is closed.
    fn deficit(&self, pause: Duration, cx: &mut Context<'_>) -> usize {
        let keep_warm = self.options.keep_warm;
        if keep_warm == 0 {
            return 0;
        }
        let (idle, ready) = self.pool.evict_closed_and_count_ready(keep_warm, pause, cx);
        let open = self.options.max_connections.max(1) - self.connections.available_permits();
        keep_warm.saturating_sub(ready + open.saturating_sub(idle))
    }

    /// Returns a new connection that was not closed at once, or one that became free. The flag says whether
    /// it was used before.
    async fn open(&self, fresh: bool) -> Result<(Box<Connection>, bool), SendError> {
        for _ in 0..ATTEMPTS {
            let (mut connection, reused) = self.open_one(fresh).await?;
            if poll_fn(|cx| Poll::Ready(connection.check_open(cx))).await {
                return Ok((connection, reused));
            }
        }
        Err(SendError::Closed)
    }

    /// Opens a connection or, if there may be no more, waits for one that becomes free.
    async fn open_one(&self, fresh: bool) -> Result<(Box<Connection>, bool), SendError> {
        let mut dial_failed = self.dial_failed.subscribe();
        let acquired = async {
            let permit = async {
                let dial = self.dials.acquire().await.ok()?;
                Some((dial, self.connections.clone().acquire_owned().await.ok()?))
            };
            tokio::select! {
                biased;
                // This is always `Some`, because nobody closes the semaphores.
                permit = permit => permit.map(Acquired::New).ok_or(DialError::AtCapacity),
                connection = self.pool.wait(), if !fresh => Ok(Acquired::Used(connection)),
                // If no connection is open, the calls in the queue would wait for nothing. A change brings `Some`.
                _ = dial_failed.changed() => Err(dial_failed.borrow().clone().unwrap_or(DialError::AtCapacity)),
            }
        };
        match timeout(self.options.reply_timeout, acquired).await {
            Ok(Ok(Acquired::New((_dial, permit)))) => match self.connect(permit).await {
                Ok(connection) => Ok((connection, false)),
                Err(error) => {
                    if !self.has_connections() {
                        self.dial_failed.send_replace(Some(error.clone()));
                    }
                    Err(error.into())
                }
            },
            Ok(Ok(Acquired::Used(connection))) => Ok((connection, true)),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(DialError::AtCapacity.into()),
        }
    }

    /// Whether a connection is open, so that it may become free.
    fn has_connections(&self) -> bool {
        let dialing = MAX_DIALS - self.dials.available_permits();
        let all = self.options.max_connections.max(1);
        all - self.connections.available_permits() > dialing
    }

    async fn connect(&self, permit: OwnedSemaphorePermit) -> Result<Box<Connection>, DialError> {
        let dialed = self.connector.dial().await;
        self.metrics.connect(dialed.is_ok());
        let counted = GaugeGuard::new(self.metrics.clone(), |metrics| {
            &metrics.upstream_connections
        });
        Ok(Connection::new(dialed?, (permit, counted)))
    }
}

/// How a call gets its connection.
enum Acquired<T> {
    /// It may open one.
    New(T),
    /// Another call has finished with one.
    Used(Box<Connection>),
}
