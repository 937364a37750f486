//! Writes a request to a connection, and keeps track of the progress.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderValue;
use http_body::Body;
use tokio::time::Instant;

use super::request::UpstreamRequest;
use crate::{
    body::{buffered::BufferedBody, request_body::RequestBody},
    net::{connection_error::ConnectionError, stream::UpstreamStream},
};

/// A body of at most this size is written together with the head.
const SMALL_BODY: usize = 2048;

/// The part of a request that is not written yet.
pub(super) struct RequestWriter {
    /// The bytes to write next: the head, followed by a chunk of the body.
    head: Vec<u8>,
    chunk: Bytes,
    /// How many of these bytes are written.
    written: usize,
    /// The body, until its last byte is flushed.
    body: Option<BufferedBody<RequestBody>>,
    /// How many bytes of the body were not taken from it yet.
    left: u64,
    /// Whether all written bytes are flushed.
    flushed: bool,
    last_write: Instant,
    /// Whether the connection takes no more at the moment.
    blocked: bool,
}

impl fmt::Debug for RequestWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is in the head.
        f.debug_struct("RequestWriter")
            .field("left", &self.left)
            .field("blocked", &self.blocked)
            .finish_non_exhaustive()
    }
}

/// Why a request could not be written to its end.
#[derive(Debug)]
pub(super) enum Error {
    /// The app's own body ended early.
    AppBodyEnded,
    /// The connection broke.
    Connection(ConnectionError),
}

impl RequestWriter {
    /// A writer with nothing to write, for a new connection.
    pub(super) fn idle() -> Self {
        Self {
            head: Vec::new(),
            chunk: Bytes::new(),
            written: 0,
            body: None,
            left: 0,
            flushed: true,
            last_write: Instant::now(),
            blocked: false,
        }
    }

    /// Starts to write `call`, with `authority` as its `Host`.
    pub(super) fn begin(&mut self, call: UpstreamRequest, authority: &HeaderValue) {
        let UpstreamRequest {
            mut head,
            body,
            length,
            ..
        } = call;
        for part in [b"host: ", authority.as_bytes(), b"\r\n\r\n"] {
            head.extend_from_slice(part);
        }
        // The body is kept until it is flushed, because it counts against the byte budget.
        let small = body.whole().filter(|body| body.len() <= SMALL_BODY);
        if let Some(small) = small {
            head.extend_from_slice(small);
        }
        self.left = if small.is_some() { 0 } else { length };
        self.body = Some(body);
        self.head = head;
        self.written = 0;
        self.flushed = false;
        self.wrote();
    }

    /// Writes what can be written now. Ready when all is flushed.
    pub(super) fn poll(
        &mut self,
        stream: &mut UpstreamStream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        loop {
            if let Err(error) = ready!(self.poll_write(stream, cx)) {
                return Poll::Ready(Err(Error::Connection(error.into())));
            }
            let Some(body) = &mut self.body else {
                return Poll::Ready(Ok(()));
            };
            if self.left == 0 {
                self.body = None;
                return Poll::Ready(Ok(()));
            }
            let frame = ready!(Pin::new(body).poll_frame(cx));
            let Some(Ok(frame)) = frame else {
                return Poll::Ready(Err(Error::AppBodyEnded));
            };
            // Trailers end a body. If data is missing, the next poll finds it.
            if let Ok(data) = frame.into_data() {
                let Some(left) = self.left.checked_sub(data.len() as u64) else {
                    return Poll::Ready(Err(Error::AppBodyEnded));
                };
                self.left = left;
                self.flushed = data.is_empty();
                self.chunk = data;
            }
        }
    }

    fn poll_write(
        &mut self,
        stream: &mut UpstreamStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.flushed {
            let from = self.written.saturating_sub(self.head.len());
            let head = self.head.get(self.written..).unwrap_or_default();
            let chunk = &self.chunk[from..];
            let polled = match (head, chunk) {
                ([], []) => match stream.poll_flush(cx) {
                    Poll::Ready(Ok(())) => {
                        self.flushed = true;
                        self.head = Vec::new();
                        self.chunk = Bytes::new();
                        self.written = 0;
                        if self.blocked {
                            self.wrote();
                        }
                        break;
                    }
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Pending => Poll::Pending,
                },
                (only, []) | ([], only) => stream.poll_write(cx, &[IoSlice::new(only)]),
                (head, chunk) => stream.poll_write(cx, &[IoSlice::new(head), IoSlice::new(chunk)]),
            };
            match polled {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.written += written;
                    self.wrote();
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.blocked = true;
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn wrote(&mut self) {
        self.last_write = Instant::now();
        self.blocked = false;
    }

    /// Drops the rest of the request. The time of the last write stays.
    pub(super) fn abort(&mut self) {
        *self = Self {
            last_write: self.last_write,
            ..Self::idle()
        };
    }

    /// Whether there is nothing more to write.
    pub(super) fn is_finished(&self) -> bool {
        self.body.is_none()
    }

    /// Whether the connection takes no more at the moment.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// When bytes were last written.
    pub(super) fn last_write(&self) -> Instant {
        self.last_write
    }
}
