//! One connection to WeChat, driven by the call that it carries: no task of its own, no queue between.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use tokio::{sync::OwnedSemaphorePermit, task::coop::has_budget_remaining, time::Duration};

use super::{
    Options,
    route::Dialed,
    wire::{Progress, Wire},
};
use crate::{
    bell::Rings,
    body::{BodyError, Inbound},
    captured::Captured,
    clock::now,
    metrics::{Counted, Metrics},
    task::{self, Clock, known, on_behalf},
};

/// How far the buffer grows while a large reply comes; and so how long its head may be.
const LARGEST_READ: usize = 256 * 1024;

/// How often hyper is asked again at once before others get a turn.
const TURNS: u32 = 16;

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    sender: http1::SendRequest<Outgoing>,
    /// hyper's half of it. None once it is closed, or goes on by itself.
    connection: Option<(Connection, Held)>,
    progress: Arc<Progress>,
    /// What hyper's channels ring.
    rings: Arc<Rings>,
    /// The same.
    waker: Waker,
    /// What calls on it say as `Host`.
    pub(super) authority: HeaderValue,
    /// How long something may be waited for.
    clock: Clock,
}

type Connection = http1::Connection<TokioIo<Wire>, Outgoing>;

/// Counts a connection for as long as it is one.
pub(super) type Held = (OwnedSemaphorePermit, Counted<Arc<Metrics>>);

/// What hyper says of a call.
type Sent = Result<Response<Incoming>, TrySendError<Outbound>>;

/// Why a call has no reply.
pub(super) enum Failed {
    /// Nothing of it was sent.
    Unsent(Box<Outbound>),
    TimedOut(Duration),
    Broken(hyper::Error),
}

impl Link {
    /// Speaks HTTP on a new connection.
    pub(super) async fn new(dialed: Dialed, held: Held) -> hyper::Result<Box<Self>> {
        let (progress, rings) = (Progress::new(), Arc::<Rings>::default());
        let wire = Wire::new(dialed.stream, progress.clone());
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(LARGEST_READ)
            .handshake(TokioIo::new(wire))
            .await?;
        Ok(Box::new(Self {
            sender,
            connection: Some((connection, held)),
            waker: Waker::from(rings.clone()),
            rings,
            progress,
            authority: dialed.authority,
            clock: Clock::default(),
        }))
    }

    /// Hands `call` over; nothing is sent yet.
    pub(super) fn begin(&mut self, mut call: Outbound) -> impl Future<Output = Sent> + use<> {
        self.clock.stop();
        call.body_mut().begin(&self.progress);
        self.sender.try_send_request(call)
    }

    /// The head of the reply to what has begun.
    pub(super) fn poll_reply(
        &mut self,
        mut reply: Pin<&mut impl Future<Output = Sent>>,
        options: &Options,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<Incoming>, Failed>> {
        // Taken where it is: an error has room for the whole call, and so has all that could be one.
        let mut sent = None;
        let _ = self.drive(cx, |cx| {
            reply.as_mut().poll(cx).map(|reply| sent = Some(reply))
        });
        match sent {
            Some(Ok(reply)) => {
                if !self.progress.is_body_sent() {
                    self.set_off();
                }
                Poll::Ready(Ok(reply))
            }
            Some(Err(mut error)) => Poll::Ready(Err(match error.take_message() {
                Some(call) => Failed::Unsent(Box::new(call)),
                None => Failed::Broken(error.into_error()),
            })),
            None if self.is_overdue(options, cx) => {
                Poll::Ready(Err(Failed::TimedOut(options.reply_timeout)))
            }
            None => Poll::Pending,
        }
    }

    /// Whether the reply does not come in time. The clock stays wound up between calls; only where
    /// it runs out is it asked how late it is.
    fn is_overdue(&mut self, options: &Options, cx: &mut Context<'_>) -> bool {
        let mut limit = options.reply_timeout.min(options.idle_timeout);
        while self.clock.runs_out(limit, cx) {
            let due = self
                .progress
                .deadline(options.reply_timeout, options.idle_timeout);
            limit = due.saturating_duration_since(now());
            if limit.is_zero() {
                return true;
            }
            self.clock.stop();
        }
        false
    }

    /// The next of a reply's body, which may pause for `idle`.
    pub(super) fn poll_frame(
        &mut self,
        body: &mut Incoming,
        idle: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // It may have come with what was read last.
        let mut quiet = Context::from_waker(&self.waker);
        let mut polled = match &self.connection {
            Some(_) => Pin::new(&mut *body).poll_frame(&mut quiet),
            None => Poll::Pending,
        };
        if polled.is_pending() {
            polled = self.drive(cx, |cx| Pin::new(&mut *body).poll_frame(cx));
        }
        match polled {
            Poll::Ready(frame) => {
                self.clock.stop();
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)))
            }
            Poll::Pending if self.clock.runs_out(idle, cx) => {
                Poll::Ready(Some(Err(BodyError::Idle(idle))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Lets hyper do what it can, and asks `wanted` what has come of it.
    ///
    /// hyper's channels wake nobody: whatever they bring is looked at here. The socket and the app's body
    /// wake the task of `cx`.
    fn drive<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut wanted: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let Some((connection, _)) = &mut self.connection else {
            return wanted(cx);
        };
        let mut quiet = Context::from_waker(&self.waker);
        for _ in 0..TURNS {
            self.rings.forget();
            let polled = on_behalf(cx, || Pin::new(&mut *connection).poll(&mut quiet));
            if let Poll::Ready(ended) = polled {
                note(ended);
                self.connection = None;
                return wanted(cx);
            }
            let polled = wanted(&mut quiet);
            if polled.is_ready() {
                return polled;
            }
            // Without it hyper's channels say that they are pending and ring later, when nobody looks.
            if !has_budget_remaining() {
                break;
            }
            if !self.rings.any() {
                return polled;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Lets it go on by itself: WeChat answered before it had all of the call, and an app that still
    /// sends may not read yet.
    fn set_off(&mut self) {
        let Some((connection, held)) = self.connection.take() else {
            return;
        };
        tokio::spawn(async move {
            note(known(connection).await);
            drop(held);
        });
    }

    /// Whether it can take another call.
    pub(super) fn is_free(&self) -> bool {
        self.connection.is_some() && self.progress.is_through() && self.sender.is_ready()
    }

    /// Whether it was not found closed yet.
    pub(super) fn is_there(&self) -> bool {
        self.connection.is_some()
    }

    /// Whether WeChat has not closed it, as far as the runtime has heard. If not, the task of `cx` is
    /// woken when it does.
    pub(super) fn is_open(&mut self, cx: &mut Context<'_>) -> bool {
        let _ = self.drive(cx, |_| Poll::Ready(()));
        self.connection.is_some()
    }
}

fn note(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(error = blame(&error), "a connection to WeChat ended early");
    }
}

/// What went wrong, in hyper's fixed words: its Display may quote what was on the wire.
fn blame(error: &hyper::Error) -> &'static str {
    match error {
        error if error.is_timeout() => "timeout",
        error if error.is_parse() => "not HTTP",
        error if error.is_incomplete_message() => "closed in the middle",
        error if error.is_canceled() => "given up",
        error if error.is_user() => "the body ended early",
        _ => "broken",
    }
}

/// A call on its way out.
pub type Outbound = Request<Outgoing>;

/// Its body, which notes when it is through.
#[derive(Debug)]
pub struct Outgoing {
    body: Captured<Inbound>,
    /// Of the connection that it goes out on, if it has more to say than that all is on its way.
    progress: Option<Arc<Progress>>,
}

impl Outgoing {
    /// For [`Upstream::send`](super::Upstream::send).
    pub fn new(body: Captured<Inbound>) -> Self {
        let progress = None;
        Self { body, progress }
    }

    /// Goes out on the connection of `progress`.
    fn begin(&mut self, progress: &Arc<Progress>) {
        progress.begin();
        self.progress = match self.body {
            // hyper takes it at once.
            Captured::Whole(_) => {
                progress.end_of_body();
                None
            }
            Captured::Partial { .. } => Some(progress.clone()),
        };
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { body, progress } = self.get_mut();
        let Some(progress) = progress else {
            return Pin::new(body).poll_frame(cx);
        };
        // The app's side wakes the task itself.
        let waker = task::waker();
        let waker = waker.as_ref().unwrap_or(Waker::noop());
        let polled = Pin::new(&mut *body).poll_frame(&mut Context::from_waker(waker));
        if body.is_end_stream() {
            progress.end_of_body();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
