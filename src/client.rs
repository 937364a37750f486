//! Calls to WeChat over connections that one worker keeps; errors never show a URL.

mod chunked;
mod connection;
mod early_response;
mod pool;
pub mod pools;
mod request;
mod request_writer;
mod response_body;
mod response_head;

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

pub use request::UpstreamRequest;
pub use response_body::ResponseBody;

use crate::net::connector::{Connector, DialError};
use connection::{Connection, Error};
use pool::Pool;

use crate::{
    metrics::{GaugeGuard, Metrics},
    net::connection_error::ConnectionError,
    rt::clock::now,
};

/// What an upstream needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// From the last byte of a call to the head of its reply.
    pub reply_timeout: Duration,
    /// A pause in a body, either way.
    pub idle_timeout: Duration,
    /// Connections of this worker.
    pub max_connections: usize,
    /// How many of them are kept open though nobody calls.
    pub keep_warm: usize,
}

/// One worker's connections to WeChat by one way.
#[derive(Debug)]
pub struct Upstream {
    route: Arc<Connector>,
    options: Options,
    pool: Arc<Pool>,
    room: Arc<Semaphore>,
    /// Connections being opened.
    dials: Semaphore,
    /// The last one that could not be opened.
    failed: watch::Sender<Option<DialError>>,
    metrics: Arc<Metrics>,
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection: nothing of the call was sent.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Connections were closed before the call could be written: nothing of it was sent.
    #[error("WeChat closed the connection before the call was sent")]
    Closed,
    /// WeChat may or may not have acted on the call.
    #[error("WeChat did not answer within {0:?}")]
    TimedOut(Duration),
    /// WeChat may or may not have acted on the call.
    #[error("no reply came: {fault}")]
    Broken {
        /// Why.
        fault: ConnectionError,
        /// It had carried calls before, and ended at once and without a word: WeChat was closing it when the call came.
        was_closing: bool,
    },
    /// The app's own body ended early.
    #[error("the app's body ended early")]
    App,
}

impl SendError {
    /// Whether WeChat cannot have seen the call.
    pub fn nothing_sent(&self) -> bool {
        matches!(self, Self::Dial(_) | Self::Closed)
    }
}

/// Connections opened at once. More of them would take each other's time until none is open in time;
/// and a call that waits may get one that another has done with.
const MOST_DIALS: usize = 128;

/// How many new connections may turn out closed before a call is given up.
const ATTEMPTS: usize = 4;

impl Upstream {
    /// Connections by `route`, none of them open yet.
    pub fn new(route: Arc<Connector>, options: Options, metrics: Arc<Metrics>) -> Self {
        Self {
            route,
            pool: Arc::default(),
            room: Arc::new(Semaphore::new(options.max_connections.max(1))),
            dials: Semaphore::new(MOST_DIALS),
            failed: watch::Sender::default(),
            options,
            metrics,
        }
    }

    /// Sends `call`, and returns as soon as the head of the reply is here. A `fresh` connection carried no
    /// call yet.
    // Not an async fn: those copy what they are given once more.
    #[allow(clippy::manual_async_fn)]
    pub fn send(
        &self,
        call: UpstreamRequest,
        fresh: bool,
    ) -> impl Future<Output = Result<Response<ResponseBody>, SendError>> {
        async move {
            let idle = if fresh { None } else { self.pool.take().await };
            let (mut link, reused) = match idle {
                Some(link) => (link, true),
                None => Box::pin(self.open(fresh)).await?,
            };
            let started = now();
            link.begin(call);
            match poll_fn(|cx| link.poll_reply(&self.options, cx)).await {
                Ok(reply) => {
                    self.metrics.latency(now() - started);
                    let idle = self.options.idle_timeout;
                    let pool = self.pool.clone();
                    Ok(reply.map(|()| ResponseBody::new(link, idle, pool)))
                }
                Err(Error::TimedOut(after)) => Err(SendError::TimedOut(after)),
                Err(Error::Broken { fault, at_once }) => Err(SendError::Broken {
                    fault,
                    was_closing: reused && at_once,
                }),
                Err(Error::App) => Err(SendError::App),
            }
        }
    }

    /// Keeps as many connections open as are wanted though nobody calls, and closes those that have
    /// waited too long. It is asked again after `pause`.
    async fn maintain(&self, pause: Duration) {
        let pause = pause + self.route.connect_timeout();
        let missing = poll_fn(|cx| Poll::Ready(self.deficit(pause, cx))).await;
        for _ in 0..missing {
            let room = self.room.clone().try_acquire_owned();
            let (Ok(_dial), Ok(room)) = (self.dials.try_acquire(), room) else {
                break;
            };
            match self.connect(room).await {
                Ok(link) => self.pool.put(link),
                Err(error) => {
                    tracing::debug!(%error, "no connection to WeChat can be kept warm");
                    break;
                }
            }
        }
        self.pool.sweep();
    }

    /// Returns when fewer connections are open than are kept warm.
    async fn below_min_idle(&self) {
        poll_fn(|cx| match self.deficit(Duration::ZERO, cx) {
            0 => Poll::Pending,
            _ => Poll::Ready(()),
        })
        .await;
    }

    /// How many connections there should be more, since those that are idle will be too old after
    /// `pause`. The task of `cx` is woken when one is closed.
    fn deficit(&self, pause: Duration, cx: &mut Context<'_>) -> usize {
        let wanted = self.options.keep_warm;
        if wanted == 0 {
            return 0;
        }
        let (idle, ready) = self.pool.ready(wanted, pause, cx);
        let open = self.options.max_connections.max(1) - self.room.available_permits();
        wanted.saturating_sub(ready + open.saturating_sub(idle))
    }

    /// A new connection that was not closed at once, or one that became free, and whether it is that.
    async fn open(&self, fresh: bool) -> Result<(Box<Connection>, bool), SendError> {
        for _ in 0..ATTEMPTS {
            let (mut link, reused) = self.open_one(fresh).await?;
            if poll_fn(|cx| Poll::Ready(link.is_open(cx))).await {
                return Ok((link, reused));
            }
        }
        Err(SendError::Closed)
    }

    /// A new connection; where there may be no more, one that becomes free.
    async fn open_one(&self, fresh: bool) -> Result<(Box<Connection>, bool), SendError> {
        let mut failed = self.failed.subscribe();
        let room = async {
            let room = async {
                let dial = self.dials.acquire().await.ok()?;
                Some((dial, self.room.clone().acquire_owned().await.ok()?))
            };
            tokio::select! {
                biased;
                room = room => room.map(Acquired::New).ok_or(DialError::Crowded),
                link = self.pool.wait(), if !fresh => Ok(Acquired::Used(link)),
                // With no connection open, whoever waits behind it would wait in vain.
                _ = failed.changed() => Err(failed.borrow().clone().unwrap_or(DialError::Crowded)),
            }
        };
        match timeout(self.options.reply_timeout, room).await {
            Ok(Ok(Acquired::New((_dial, room)))) => match self.connect(room).await {
                Ok(link) => Ok((link, false)),
                Err(error) => {
                    if !self.has_connections() {
                        self.failed.send_replace(Some(error.clone()));
                    }
                    Err(error.into())
                }
            },
            Ok(Ok(Acquired::Used(link))) => Ok((link, true)),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(DialError::Crowded.into()),
        }
    }

    /// Whether a connection is open that somebody may be done with soon.
    fn has_connections(&self) -> bool {
        let dialing = MOST_DIALS - self.dials.available_permits();
        let all = self.options.max_connections.max(1);
        all - self.room.available_permits() > dialing
    }

    async fn connect(&self, room: OwnedSemaphorePermit) -> Result<Box<Connection>, DialError> {
        let dialed = self.route.dial().await;
        self.metrics.connect(dialed.is_ok());
        let counted = GaugeGuard::new(self.metrics.clone(), |metrics| {
            &metrics.upstream_connections
        });
        Ok(Connection::new(dialed?, (room, counted)))
    }
}

/// How a call gets its connection.
enum Acquired<T> {
    /// It opens one.
    New(T),
    /// Another has done with it.
    Used(Box<Connection>),
}
