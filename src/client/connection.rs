//! One connection to WeChat and the call on it: no task of its own, no queue between.
//!
//! It carries one call at a time, and takes the next only when the last byte of the one before has left and
//! the last byte of its reply has come: so a reply cannot reach another call.

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response};
use tokio::{sync::OwnedSemaphorePermit, task::coop::has_budget_remaining, time::Duration};

use super::{
    Options,
    chunked::{ChunkedDecoder, take},
    request::UpstreamRequest,
    request_writer::{self, RequestWriter},
    response_head::{Framing, LARGEST_HEAD, ResponseHead, parse},
};
use crate::{
    body::request_body::BodyError,
    metrics::{GaugeGuard, Metrics},
    net::{
        connection_error::ConnectionError,
        connector::Dialed,
        stream::{BufStream, LITTLE},
    },
    rt::task::Deadline,
};

/// A connection that ends so soon after a call was sent was being closed when that came.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How much is read at once of a large reply.
const LARGEST_READ: usize = 256 * 1024;

/// One connection.
pub(super) struct Connection {
    wire: BufStream,
    sending: RequestWriter,
    /// What stopped it.
    broken: Option<ConnectionError>,
    /// What came and was not understood yet.
    input: BytesMut,
    /// How much of a reply to read at once.
    step: usize,
    /// The call is HEAD.
    to_head: bool,
    /// Something of its reply has come.
    answered: bool,
    /// What is left of the reply.
    framing: Framing,
    keep_alive: bool,
    /// What calls on it say as `Host`.
    authority: HeaderValue,
    /// How long something may be waited for.
    clock: Deadline,
    _held: Permits,
}

/// Counts a connection for as long as it is one.
pub(super) type Permits = (OwnedSemaphorePermit, GaugeGuard<Arc<Metrics>>);

/// Why a call has no reply.
#[derive(Debug)]
pub(super) enum Error {
    TimedOut(Duration),
    App,
    Broken {
        fault: ConnectionError,
        /// Nothing of a reply came, and no time for one had passed since the call left.
        at_once: bool,
    },
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nothing of what came.
        f.debug_struct("Link")
            .field("sending", &self.sending)
            .field("framing", &self.framing)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Speaks HTTP on a new connection.
    pub(super) fn new(dialed: Dialed, held: Permits) -> Box<Self> {
        Box::new(Self {
            wire: BufStream::new(dialed.stream),
            sending: RequestWriter::nothing(),
            broken: None,
            input: BytesMut::new(),
            step: LITTLE,
            to_head: false,
            answered: false,
            framing: Framing::Ended,
            keep_alive: true,
            authority: dialed.authority,
            clock: Deadline::default(),
            _held: held,
        })
    }

    /// `call` is the one that it carries; nothing is sent yet.
    pub(super) fn begin(&mut self, call: UpstreamRequest) {
        self.clock.stop();
        self.to_head = call.is_head;
        self.answered = false;
        self.step = LITTLE;
        // Until the reply has said otherwise.
        self.keep_alive = false;
        self.sending.begin(call, &self.authority);
    }

    /// The head of the reply to what has begun.
    pub(super) fn poll_reply(
        &mut self,
        options: &Options,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<()>, Error>> {
        if self.poll_send(cx) == Poll::Ready(false) {
            return Poll::Ready(Err(Error::App));
        }
        // An answer may have come before the connection broke: a broken one has something to read, if only that.
        match self.poll_head(cx) {
            Poll::Ready(Ok(head)) => {
                self.framing = head.framing;
                self.keep_alive = head.keep_alive && self.broken.is_none();
                self.end_if_it_has();
                self.clock.stop();
                Poll::Ready(Ok(head.head))
            }
            Poll::Ready(Err(fault)) => {
                let fault = self.broken.unwrap_or(fault);
                let at_once = !self.answered && self.sending.last_write().elapsed() < AT_ONCE;
                Poll::Ready(Err(Error::Broken { fault, at_once }))
            }
            Poll::Pending => {
                let (reply, idle) = (options.reply_timeout, options.idle_timeout);
                let due = self.sending.deadline(reply, idle);
                if self.clock.poll_due(due, cx) {
                    Poll::Ready(Err(Error::TimedOut(options.reply_timeout)))
                } else {
                    Poll::Pending
                }
            }
        }
    }

    /// Sends on; ready when there is no more to do, which is false if the app is to blame.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.sending.is_through() {
            return Poll::Ready(true);
        }
        match ready!(self.sending.poll(&mut self.wire, cx)) {
            Ok(()) => Poll::Ready(true),
            Err(stopped) => {
                self.sending.give_up();
                self.keep_alive = false;
                match stopped {
                    request_writer::Error::App => Poll::Ready(false),
                    request_writer::Error::Wire(fault) => {
                        self.broken = Some(fault);
                        Poll::Ready(true)
                    }
                }
            }
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, ConnectionError>> {
        loop {
            let Self {
                wire,
                input,
                to_head,
                answered,
                ..
            } = self;
            let looked = wire.poll_look(cx, |came| {
                if came.is_empty() {
                    return Err(ConnectionError::Ended);
                }
                *answered = true;
                // Nearly always all of it comes at once.
                if input.is_empty() {
                    let (understood, head) = parse(came, *to_head)?;
                    input.extend_from_slice(&came[understood..]);
                    return Ok(head);
                }
                input.extend_from_slice(came);
                if !came.contains(&b'\n') {
                    return Ok(None);
                }
                let (understood, head) = parse(input, *to_head)?;
                let _ = input.split_to(understood);
                Ok(head)
            });
            if let Some(head) = ready!(looked)?? {
                return Poll::Ready(Ok(head));
            }
            if self.input.len() > LARGEST_HEAD {
                return Poll::Ready(Err(ConnectionError::LargeHead));
            }
        }
    }

    /// The next of a reply's body, which may pause for `idle`.
    pub(super) fn poll_data(
        &mut self,
        idle: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self.poll_decoded(cx) {
            Poll::Ready(data) => {
                self.clock.stop();
                Poll::Ready(data.map(|data| data.map_err(BodyError::Reply)))
            }
            Poll::Pending if self.clock.poll_elapsed(idle, cx) => {
                Poll::Ready(Some(Err(BodyError::Idle(idle))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_decoded(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, ConnectionError>>> {
        loop {
            let Self { framing, input, .. } = self;
            let data = match framing {
                Framing::Ended => return Poll::Ready(None),
                Framing::Length(left) => take(input, left),
                Framing::Chunked(chunks) => {
                    // What is wrong behind it is found again when it is asked for.
                    let sound = chunks.advance(input);
                    let data = chunks.take(input);
                    if data.is_none() {
                        sound?;
                    }
                    data
                }
                Framing::UntilClose if input.is_empty() => None,
                Framing::UntilClose => Some(mem::take(input).freeze()),
            };
            self.end_if_it_has();
            if let Some(data) = data {
                return Poll::Ready(Some(Ok(data)));
            }
            if self.framing == Framing::Ended {
                return Poll::Ready(None);
            }
            if ready!(self.poll_fill(cx))? == 0 {
                if self.framing != Framing::UntilClose {
                    return Poll::Ready(Some(Err(ConnectionError::Ended)));
                }
                self.framing = Framing::Ended;
            }
        }
    }

    /// Notes the end of the reply as soon as its last byte is taken. What comes behind it belongs to no call,
    /// and the connection carries none any more.
    fn end_if_it_has(&mut self) {
        let ended = match &mut self.framing {
            Framing::Length(left) => *left == 0,
            Framing::Chunked(chunks) => {
                // A fault is found again when more is asked for.
                let _ = chunks.advance(&mut self.input);
                *chunks == ChunkedDecoder::Ended
            }
            Framing::UntilClose => false,
            Framing::Ended => true,
        };
        if ended {
            self.framing = Framing::Ended;
            self.keep_alive &= self.input.is_empty();
            self.input = BytesMut::new();
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, ConnectionError>> {
        let Self { wire, input, .. } = self;
        let read = if self.step > LITTLE {
            ready!(wire.poll_append(cx, input, self.step))?
        } else {
            ready!(wire.poll_look(cx, |came| {
                input.extend_from_slice(came);
                came.len()
            }))?
        };
        if read == self.step {
            self.step = (self.step * 2).min(LARGEST_READ);
        } else if read < self.step / 2 {
            self.step = (self.step / 2).max(LITTLE);
        }
        Poll::Ready(Ok(read))
    }

    /// How many bytes of the reply have not been taken yet, if that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(left) => Some(left),
            Framing::Ended => Some(0),
            Framing::Chunked(_) | Framing::UntilClose => None,
        }
    }

    /// Sends what can be sent now; whether anything could.
    pub(super) fn send_on(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.sending.last_write();
        let _ = self.poll_send(cx);
        let moved = self.sending.last_write() != before;
        if moved {
            // WeChat may wait for the end of the call with the rest of its reply.
            self.clock.stop();
        }
        moved
    }

    /// Whether WeChat does not take more of the call at the moment.
    pub(super) fn is_blocked(&self) -> bool {
        self.sending.is_blocked()
    }

    /// Whether all of the call has left, or nothing more will.
    pub(super) fn is_sent(&self) -> bool {
        self.sending.is_through()
    }

    /// Whether it can take another call.
    pub(super) fn is_free(&self) -> bool {
        self.keep_alive && self.framing == Framing::Ended && self.sending.is_through()
    }

    /// Whether it is certainly [open](Self::is_open), though nobody is woken when it is not any more.
    pub(super) fn is_quiet(&self) -> bool {
        self.wire.is_quiet()
    }

    /// Whether WeChat has neither closed it nor said anything that nobody asked for, as far as the runtime has
    /// heard. If not, the task of `cx` is woken when it does.
    pub(super) fn is_open(&mut self, cx: &mut Context<'_>) -> bool {
        let polled = self.wire.poll_look(cx, <[u8]>::len);
        // Without it the runtime says that all is quiet and has not looked.
        let quiet = polled.is_pending() && has_budget_remaining();
        self.keep_alive &= quiet;
        quiet
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
