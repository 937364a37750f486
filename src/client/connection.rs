//! One HTTP/1.1 connection to WeChat. It is driven by the call that uses it, without a task of its own.
//!
//! A connection carries one call at a time. It takes the next call only after the last byte of the previous
//! request was written and the last byte of its reply was read. So a reply cannot reach another call.

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response};
use tokio::{sync::OwnedSemaphorePermit, task::coop::has_budget_remaining, time::Duration};

use super::{
    Options, SendError,
    chunked::{ChunkedDecoder, take},
    request::UpstreamRequest,
    request_writer::{self, RequestWriter},
    response_head::{Framing, MAX_HEAD, ResponseHead, parse},
};
use crate::{
    body::error::BodyError,
    metrics::{GaugeGuard, Metrics},
    net::{
        connection_error::ConnectionError,
        connector::Dialed,
        stream::{SMALL_READ, UpstreamStream},
    },
    rt::task::Deadline,
};

/// If a connection ends within this time after the request was sent, WeChat was probably closing it already.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How much of a large reply is read at once.
const MAX_READ: usize = 256 * 1024;

/// One connection to WeChat.
pub(super) struct Connection {
    stream: UpstreamStream,
    writer: RequestWriter,
    /// Why writing failed.
    write_error: Option<ConnectionError>,
    /// Whether it was open before the current call came.
    reused: bool,
    /// Bytes that were read, but not parsed yet.
    input: BytesMut,
    /// How much of a reply to read next.
    read_size: usize,
    /// Whether the request is HEAD.
    is_head: bool,
    /// Whether any byte of the reply was read.
    answered: bool,
    /// The rest of the reply's body.
    framing: Framing,
    keep_alive: bool,
    /// The `Host` header of calls on it.
    authority: HeaderValue,
    /// The limit of the current wait.
    deadline: Deadline,
    _permits: Permits,
}

/// Held as long as the connection exists: its permit and its count in the metrics.
pub(super) type Permits = (OwnedSemaphorePermit, GaugeGuard<Arc<Metrics>>);

/// The app's own body ended early.
#[derive(Debug)]
struct AppBodyEnded;

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without `input`, which is data of the app's.
        f.debug_struct("Connection")
            .field("writer", &self.writer)
            .field("framing", &self.framing)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection for calls over a newly opened stream.
    pub(super) fn new(dialed: Dialed, permits: Permits) -> Box<Self> {
        Box::new(Self {
            stream: UpstreamStream::new(dialed.stream),
            writer: RequestWriter::idle(),
            write_error: None,
            reused: false,
            input: BytesMut::new(),
            read_size: SMALL_READ,
            is_head: false,
            answered: false,
            framing: Framing::NoMoreData,
            keep_alive: true,
            authority: dialed.authority,
            deadline: Deadline::default(),
            _permits: permits,
        })
    }

    /// Starts `call`. Nothing is written yet. `reused` says whether the connection was open before the call came.
    pub(super) fn begin(&mut self, call: UpstreamRequest, reused: bool) {
        self.deadline.stop();
        self.reused = reused;
        self.is_head = call.is_head;
        self.answered = false;
        self.read_size = SMALL_READ;
        // Until the head of the reply allows it.
        self.keep_alive = false;
        self.writer.begin(call, &self.authority);
    }

    /// Writes the request, and reads the head of the reply.
    pub(super) fn poll_reply(
        &mut self,
        options: &Options,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<()>, SendError>> {
        if let Poll::Ready(Err(AppBodyEnded)) = self.poll_write(cx) {
            return Poll::Ready(Err(SendError::AppBodyEnded));
        }
        // A reply may have arrived before writing failed. Reading a broken connection never blocks.
        match self.poll_head(cx) {
            Poll::Ready(Ok(head)) => {
                self.framing = head.framing;
                self.keep_alive = head.keep_alive && self.write_error.is_none();
                self.check_end();
                self.deadline.stop();
                Poll::Ready(Ok(head.head))
            }
            Poll::Ready(Err(error)) => {
                let error = self.write_error.unwrap_or(error);
                let at_once = self.writer.last_write().elapsed() < AT_ONCE;
                let was_closing = self.reused && !self.answered && at_once;
                Poll::Ready(Err(SendError::Broken { error, was_closing }))
            }
            Poll::Pending => self.poll_time_limit(options, cx).map(Err),
        }
    }

    /// Ready when WeChat has taken no byte of the request, or has not answered, for too long. While the writer waits
    /// for the app, there is no limit here, because the app's body has one of its own.
    fn poll_time_limit(&mut self, options: &Options, cx: &mut Context<'_>) -> Poll<SendError> {
        let (limit, error) = if self.writer.is_blocked() {
            let limit = options.idle_timeout;
            (limit, SendError::Stalled(limit))
        } else if self.writer.is_finished() {
            let limit = options.reply_timeout;
            (limit, SendError::TimedOut(limit))
        } else {
            return Poll::Pending;
        };
        if self.deadline.poll_due(self.writer.last_write() + limit, cx) {
            Poll::Ready(error)
        } else {
            Poll::Pending
        }
    }

    /// Writes more of the request. Ready when nothing is left to write. An error of the connection counts as that: it
    /// is kept, because WeChat may have answered before.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), AppBodyEnded>> {
        if self.writer.is_finished() {
            return Poll::Ready(Ok(()));
        }
        let Err(error) = ready!(self.writer.poll(&mut self.stream, cx)) else {
            return Poll::Ready(Ok(()));
        };
        self.writer.abort();
        self.keep_alive = false;
        Poll::Ready(match error {
            request_writer::Error::AppBodyEnded => Err(AppBodyEnded),
            request_writer::Error::Connection(error) => {
                self.write_error = Some(error);
                Ok(())
            }
        })
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, ConnectionError>> {
        loop {
            let Self {
                stream,
                input,
                is_head,
                answered,
                ..
            } = self;
            let polled = stream.poll_read_with(cx, |read| {
                if read.is_empty() {
                    return Err(ConnectionError::ClosedEarly);
                }
                *answered = true;
                // Nearly always the whole head arrives at once.
                if input.is_empty() {
                    let (parsed, head) = parse(read, *is_head)?;
                    input.extend_from_slice(&read[parsed..]);
                    return Ok(head);
                }
                input.extend_from_slice(read);
                if !read.contains(&b'\n') {
                    return Ok(None);
                }
                let (parsed, head) = parse(input, *is_head)?;
                let _ = input.split_to(parsed);
                Ok(head)
            });
            if let Some(head) = ready!(polled)?? {
                return Poll::Ready(Ok(head));
            }
            if self.input.len() > MAX_HEAD {
                return Poll::Ready(Err(ConnectionError::LargeHead));
            }
        }
    }

    /// Reads more of the reply's body, which may pause for `idle`.
    pub(super) fn poll_data(
        &mut self,
        idle: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self.poll_decoded(cx) {
            Poll::Ready(data) => {
                self.deadline.stop();
                Poll::Ready(data.map(|data| data.map_err(BodyError::Upstream)))
            }
            Poll::Pending if self.deadline.poll_elapsed(idle, cx) => {
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
                Framing::NoMoreData => return Poll::Ready(None),
                Framing::Length(left) => take(input, left),
                Framing::Chunked(chunks) => {
                    // An error after the data is found again by the next poll.
                    let result = chunks.advance(input);
                    let data = chunks.take(input);
                    if data.is_none() {
                        result?;
                    }
                    data
                }
                Framing::UntilClose if input.is_empty() => None,
                Framing::UntilClose => Some(mem::take(input).freeze()),
            };
            self.check_end();
            if let Some(data) = data {
                return Poll::Ready(Some(Ok(data)));
            }
            if self.framing == Framing::NoMoreData {
                return Poll::Ready(None);
            }
            if ready!(self.poll_fill(cx))? == 0 {
                if self.framing != Framing::UntilClose {
                    return Poll::Ready(Some(Err(ConnectionError::ClosedEarly)));
                }
                self.framing = Framing::NoMoreData;
            }
        }
    }

    /// Notes the end of the reply as soon as its last byte is taken. If bytes follow it, they belong to no
    /// call, and the connection is not used again.
    fn check_end(&mut self) {
        let ended = match &mut self.framing {
            Framing::Length(left) => *left == 0,
            Framing::Chunked(chunks) => {
                // An error is found again by the next poll.
                let _ = chunks.advance(&mut self.input);
                *chunks == ChunkedDecoder::Ended
            }
            Framing::UntilClose => false,
            Framing::NoMoreData => true,
        };
        if ended {
            self.framing = Framing::NoMoreData;
            self.keep_alive &= self.input.is_empty();
            self.input = BytesMut::new();
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, ConnectionError>> {
        let Self { stream, input, .. } = self;
        let read = if self.read_size > SMALL_READ {
            ready!(stream.poll_append(cx, input, self.read_size))?
        } else {
            ready!(stream.poll_read_with(cx, |read| {
                input.extend_from_slice(read);
                read.len()
            }))?
        };
        if read == self.read_size {
            self.read_size = (self.read_size * 2).min(MAX_READ);
        } else if read < self.read_size / 2 {
            self.read_size = (self.read_size / 2).max(SMALL_READ);
        }
        Poll::Ready(Ok(read))
    }

    /// How many bytes of the reply's body were not taken yet, if that is known.
    pub(super) fn remaining(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(left) => Some(left),
            Framing::NoMoreData => Some(0),
            Framing::Chunked(_) | Framing::UntilClose => None,
        }
    }

    /// Writes what can be written of the request now, and returns whether anything was.
    pub(super) fn write_more(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.writer.last_write();
        let _ = self.poll_write(cx);
        let progress = self.writer.last_write() != before;
        if progress {
            // WeChat may send the rest of its reply only after the end of the request.
            self.deadline.stop();
        }
        progress
    }

    /// Whether WeChat takes no more of the request at the moment.
    pub(super) fn is_blocked(&self) -> bool {
        self.writer.is_blocked()
    }

    /// Whether all of the request was written, or writing has stopped.
    pub(super) fn is_sent(&self) -> bool {
        self.writer.is_finished()
    }

    /// Whether it can take another call.
    pub(super) fn is_free(&self) -> bool {
        self.keep_alive && self.framing == Framing::NoMoreData && self.writer.is_finished()
    }

    /// Whether the runtime knows of no event on it, so that it is certainly open. This is a cheap [check](Self::check_open)
    /// that reads nothing and registers no waker.
    pub(super) fn has_no_event(&self) -> bool {
        self.stream.has_nothing()
    }

    /// Checks by a read that WeChat has neither closed it nor sent unexpected bytes, as far as the runtime knows. If
    /// not, it takes no more calls. If so, the task of `cx` is woken when that changes.
    pub(super) fn check_open(&mut self, cx: &mut Context<'_>) -> bool {
        let polled = self.stream.poll_read_with(cx, <[u8]>::len);
        // Without budget the runtime returns `Pending` without checking the socket.
        let quiet = polled.is_pending() && has_budget_remaining();
        self.keep_alive &= quiet;
        quiet
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
