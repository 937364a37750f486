//! A call on its way out of a connection, and how far it has come.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderValue;
use http_body::Body;
use tokio::time::{Duration, Instant};

use super::request::UpstreamRequest;
use crate::{
    body::{buffered::BufferedBody, request_body::RequestBody},
    net::{connection_error::ConnectionError, stream::BufStream},
};

/// A body that is no larger goes into the same piece as the head.
const SMALL: usize = 2048;

/// What of a call has not left yet.
pub(super) struct RequestWriter {
    /// What is written next: a head, and what has come of a body.
    head: Vec<u8>,
    piece: Bytes,
    /// How many bytes of these two are written.
    written: usize,
    /// The body, until the last of it has left.
    body: Option<BufferedBody<RequestBody>>,
    /// How many bytes that is.
    left: u64,
    /// All that was written has left.
    flushed: bool,
    last_write: Instant,
    /// WeChat does not take more at the moment.
    blocked: bool,
}

impl fmt::Debug for RequestWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is in the head.
        f.debug_struct("Sending")
            .field("left", &self.left)
            .field("blocked", &self.blocked)
            .finish_non_exhaustive()
    }
}

/// Why a call cannot be sent to its end.
#[derive(Debug)]
pub(super) enum Error {
    /// The app's own body ended early.
    App,
    /// The connection.
    Wire(ConnectionError),
}

impl RequestWriter {
    /// Nothing, on a new connection.
    pub(super) fn nothing() -> Self {
        Self {
            head: Vec::new(),
            piece: Bytes::new(),
            written: 0,
            body: None,
            left: 0,
            flushed: true,
            last_write: Instant::now(),
            blocked: false,
        }
    }

    /// `call` is what goes out next, to the host that is called `authority`.
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
        // It is kept until it has left, since it counts as held.
        let small = body.whole().filter(|body| body.len() <= SMALL);
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

    /// Sends what can be sent now; ready when all has left.
    pub(super) fn poll(
        &mut self,
        wire: &mut BufStream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        loop {
            if let Err(error) = ready!(self.poll_write(wire, cx)) {
                return Poll::Ready(Err(Error::Wire(error.into())));
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
                return Poll::Ready(Err(Error::App));
            };
            // Trailers end a body; that something of it is missing is found next.
            if let Ok(data) = frame.into_data() {
                let Some(left) = self.left.checked_sub(data.len() as u64) else {
                    return Poll::Ready(Err(Error::App));
                };
                self.left = left;
                self.flushed = data.is_empty();
                self.piece = data;
            }
        }
    }

    fn poll_write(&mut self, wire: &mut BufStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.flushed {
            let of_piece = self.written.saturating_sub(self.head.len());
            let head = self.head.get(self.written..).unwrap_or_default();
            let piece = &self.piece[of_piece..];
            let polled = match (head, piece) {
                ([], []) => match wire.poll_flush(cx) {
                    Poll::Ready(Ok(())) => {
                        self.flushed = true;
                        self.head = Vec::new();
                        self.piece = Bytes::new();
                        self.written = 0;
                        if self.blocked {
                            self.wrote();
                        }
                        break;
                    }
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Pending => Poll::Pending,
                },
                (only, []) | ([], only) => wire.poll_write(cx, &[IoSlice::new(only)]),
                (head, piece) => wire.poll_write(cx, &[IoSlice::new(head), IoSlice::new(piece)]),
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

    /// What is left is not sent any more.
    pub(super) fn give_up(&mut self) {
        *self = Self::nothing();
    }

    /// Whether all of it has left.
    pub(super) fn is_through(&self) -> bool {
        self.body.is_none()
    }

    /// Whether WeChat does not take more at the moment.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// When something was written last.
    pub(super) fn last_write(&self) -> Instant {
        self.last_write
    }

    /// When waiting for the reply becomes too long: `reply` after the last byte of the call has
    /// left, `idle` after the last byte that WeChat took. An app that sends slowly has a clock of
    /// its own.
    pub(super) fn deadline(&self, reply: Duration, idle: Duration) -> Instant {
        match (self.blocked, self.is_through()) {
            (true, _) => self.last_write + idle,
            (false, true) => self.last_write + reply,
            (false, false) => Instant::now() + idle.min(reply),
        }
    }
}
