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
    /// Nothing came for this long.
    #[error("nothing came for {0:?}")]
    Idle(Duration),
    /// The app hung up, or sent nonsense.
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
    /// WeChat did, or it cannot be reached any more.
    #[error("{0}")]
    Reply(ConnectionError),
}

/// Ends a body that is waited for too long. It costs nothing while the body keeps coming.
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

    /// Passes on what `polled` says, and the pause that has become too long.
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

/// The app's connection, as a call's body and reply see it.
pub trait CallOwner: fmt::Debug + Send + Sync {
    /// One of those who keep the call with this number busy is gone.
    fn release(&self, call: u64);
}

/// Keeps a call busy for as long as it lives.
#[derive(Debug)]
pub struct CallGuard {
    owner: Arc<dyn CallOwner>,
    call: u64,
}

impl CallGuard {
    /// For `owner` to make, and to count.
    pub fn new(owner: Arc<dyn CallOwner>, call: u64) -> Self {
        Self { owner, call }
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.owner.release(self.call);
    }
}

/// What an app sends. Dropped before its end, it is read on for a while and thrown away, so that
/// the app can finish sending and then read why it was turned down.
#[derive(Debug)]
pub struct RequestBody {
    /// Taken only by `drop`.
    body: Option<Incoming>,
    idle: IdleTimeout,
    /// The app waits for '100 Continue', which goes out with the first look at the body.
    awaits_continue: bool,
    /// What came with the head.
    prefix: Bytes,
    ended: bool,
    /// Dropped when the body is through.
    guard: Option<CallGuard>,
}

impl RequestBody {
    /// The body of a call, with pauses of at most `idle`; `guard` keeps the call busy until it is through.
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
    /// A body that came with its head.
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

/// How long what nobody wants is read, in all and without a byte.
const LINGER: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(5));

/// Reads on for a while: `poll_next` reads, and says whether there may be more. An app that still sends may
/// read the answer only then, and loses it when the connection is closed before.
pub async fn linger(mut poll_next: impl FnMut(&mut Context<'_>) -> Poll<bool>) {
    let until_it_ends =
        async { while let Ok(true) = timeout(LINGER.1, poll_fn(&mut poll_next)).await {} };
    // Either way there is nothing more to do for this app.
    let _ = timeout(LINGER.0, until_it_ends).await;
}
