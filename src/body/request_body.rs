//! The body of an app's request, and the timeout that ends a body which stopped moving.

use std::{
    fmt,
    future::poll_fn,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{
    runtime::Handle,
    time::{Duration, timeout},
};

use crate::{net::connection_error::ConnectionError, rt::task::Deadline};

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// No byte arrived for this long.
    #[error("nothing came for {0:?}")]
    Idle(Duration),
    /// The app hung up, or sent a malformed body.
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
    /// The same on the side of WeChat.
    #[error("{0}")]
    Reply(ConnectionError),
}

/// Ends a body that pauses for too long. It costs nothing while bytes arrive.
#[derive(Debug)]
pub struct IdleTimeout {
    limit: Duration,
    deadline: Deadline,
}

impl IdleTimeout {
    /// A timeout that allows pauses of `limit`.
    pub fn new(limit: Duration) -> Self {
        let deadline = Deadline::default();
        Self { limit, deadline }
    }

    /// Returns `polled`, or an error if the pause has become too long.
    pub fn watch<T>(
        &mut self,
        polled: Poll<Option<Result<T, hyper::Error>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<T, BodyError>>> {
        match polled {
            Poll::Ready(frame) => {
                self.deadline.stop();
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)))
            }
            Poll::Pending if self.deadline.poll_elapsed(self.limit, cx) => {
                Poll::Ready(Some(Err(BodyError::Idle(self.limit))))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The app's connection, as the guards of its calls use it.
pub trait CallOwner: fmt::Debug + Send + Sync {
    /// A guard of the call with this number was dropped.
    fn release(&self, call: u64);
}

/// Keeps a call in progress until it is dropped.
#[derive(Debug)]
pub struct CallGuard {
    owner: Arc<dyn CallOwner>,
    call: u64,
}

impl CallGuard {
    /// Only `owner` calls this, because it counts the guards.
    pub fn new(owner: Arc<dyn CallOwner>, call: u64) -> Self {
        Self { owner, call }
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.owner.release(self.call);
    }
}

/// The body of an app's request. If it is dropped before its end, the rest is read for a while and discarded. So the
/// app can finish sending, and then read why the call was rejected.
#[derive(Debug)]
pub struct RequestBody {
    /// Only `drop` takes it.
    body: Option<Incoming>,
    idle: IdleTimeout,
    /// The app waits for '100 Continue', which is sent when the body is first polled.
    awaits_continue: bool,
    /// Bytes that arrived with the head.
    prefix: Bytes,
    ended: bool,
    /// Dropped when the body has ended.
    guard: Option<CallGuard>,
}

impl RequestBody {
    /// The body of a call, with pauses of at most `idle`. `guard` keeps the call in progress until the body has
    /// ended.
    pub fn new(body: Incoming, idle: Duration, awaits_continue: bool, guard: CallGuard) -> Self {
        Self {
            ended: body.is_end_stream(),
            body: Some(body),
            idle: IdleTimeout::new(idle),
            awaits_continue,
            prefix: Bytes::new(),
            guard: Some(guard),
        }
    }
}

impl RequestBody {
    /// A body that arrived with its head.
    pub fn whole(prefix: Bytes) -> Self {
        Self {
            ended: true,
            body: None,
            idle: IdleTimeout::new(Duration::ZERO),
            awaits_continue: false,
            prefix,
            guard: None,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if !this.prefix.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(mem::take(&mut this.prefix)))));
        }
        this.awaits_continue = false;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        let polled = this.idle.watch(polled, cx);
        if !matches!(polled, Poll::Pending | Poll::Ready(Some(Ok(_)))) || body.is_end_stream() {
            this.ended = true;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.prefix.is_empty() && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(self.prefix.len() as u64),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if self.ended || self.awaits_continue {
            return;
        }
        if let (Some(body), Ok(runtime)) = (self.body.take(), Handle::try_current()) {
            let guard = self.guard.take();
            runtime.spawn(async move {
                let mut body = body;
                let more = |frame| matches!(frame, Some(Ok(_)));
                linger(|cx| Pin::new(&mut body).poll_frame(cx).map(more)).await;
                drop(guard);
            });
        }
    }
}

/// How long a discarded body is read, in all and without a byte.
const LINGER: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(5));

/// Reads on for a while. `poll_next` reads, and returns whether there may be more. An app may read the reply only
/// after it has sent everything. If the connection were closed before, it would lose the reply.
pub async fn linger(mut poll_next: impl FnMut(&mut Context<'_>) -> Poll<bool>) {
    let until_it_ends =
        async { while let Ok(true) = timeout(LINGER.1, poll_fn(&mut poll_next)).await {} };
    // The result does not matter, because the connection ends anyway.
    let _ = timeout(LINGER.0, until_it_ends).await;
}
