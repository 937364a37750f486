//! The bytes of an app's connection, with its timeouts and the checks of its heads.
//!
//! hyper has one timeout for both a kept-alive pause and a head that arrives slowly. It accepts a
//! Content-Length beside a Transfer-Encoding. It answers a head that it cannot parse with an empty
//! body. This layer sees every byte, so it corrects all three.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Duration,
};

use super::{
    error_reply::with_body,
    framing_check::FramingCheck,
    state::{ConnState, Phase},
    stream::{AppStream, Peeked},
};
use crate::{
    body::request_body::linger,
    rt::task::{Deadline, with_task_waker},
};

/// How long an app may keep a connection without a call. Java's pools keep theirs for a minute or two. If we
/// closed earlier, an app could send a call on a connection that is just being closed, which fails.
const KEPT_ALIVE: Duration = Duration::from_secs(180);

/// How long the head of a call may take.
const HEAD: Duration = Duration::from_secs(30);

/// An app's connection, with timeouts for pauses, heads and writes.
#[derive(Debug)]
pub(super) struct TimedIo {
    stream: AppStream,
    state: Arc<ConnState>,
    head: FramingCheck,
    /// The current head is complete.
    head_complete: bool,
    /// How many bytes were read after the last head. Those beyond its body belong to the next call.
    after_head: u64,
    /// The last four of these bytes. A chunked body ends with an empty line, and a part of a head does not.
    last: [u8; 4],
    /// The first bytes of this head were read together with the call before, and not checked.
    partly_checked: bool,
    /// The socket has bytes of the next call, so a peek cannot see whether the app has hung up.
    more: bool,
    reading: Deadline,
    writing: Deadline,
    idle: Duration,
    /// Error replies of our own have status 200.
    as_200: bool,
    /// The rest of our own error reply, which replaces hyper's.
    error_reply: Bytes,
    /// Bytes of the next call that were read too early. They are read and checked again.
    rewound: Bytes,
}

impl TimedIo {
    pub(super) fn new(
        stream: AppStream,
        state: Arc<ConnState>,
        idle: Duration,
        as_200: bool,
    ) -> Self {
        Self {
            stream,
            state,
            head: FramingCheck::default(),
            head_complete: false,
            after_head: 0,
            last: [0; 4],
            partly_checked: false,
            more: false,
            reading: Deadline::default(),
            writing: Deadline::default(),
            idle,
            as_200,
            error_reply: Bytes::new(),
            rewound: Bytes::new(),
        }
    }

    /// Gives back bytes that were read and not parsed. They begin behind the last call, and are read and checked
    /// again.
    pub(super) fn rewind(&mut self, bytes: &[u8]) {
        // Bytes that were given back before come after these.
        let bytes = [bytes, &self.rewound].concat();
        self.after_head = 0;
        self.last = *b"\r\n\r\n";
        self.rewound = if is_blank(&bytes) {
            Bytes::new()
        } else {
            bytes.into()
        };
    }

    /// Whether the connection has waited too long for its next call.
    pub(super) fn keep_alive_expired(&mut self, cx: &mut Context<'_>) -> bool {
        if self.state.take_phase_changed() {
            self.reading.stop();
        }
        self.reading.poll_elapsed(KEPT_ALIVE, cx)
    }

    /// Follows the phases through bytes that were just read, and checks heads. Returns how many of the bytes to pass
    /// on now. Those behind a body of known length are the next call, whose head is checked when it is read.
    fn note(&mut self, bytes: &[u8]) -> usize {
        let phase = self.state.phase();
        if phase == Phase::Waiting && is_blank(bytes) {
            // Some apps send a line break after a body. It does not begin a call.
            return bytes.len();
        }
        if phase == Phase::Calling || (phase == Phase::Reading && self.head_complete) {
            self.count_after_head(bytes);
            return bytes.len();
        }
        if phase == Phase::Waiting {
            self.partly_checked = match self.state.body_length() {
                u64::MAX => self.last != *b"\r\n\r\n",
                length => !self.is_blank_after(length),
            };
            self.head = FramingCheck::default();
            self.head_complete = false;
            self.state.enter(Phase::Reading);
        }
        let Some(end) = self.head.read(bytes) else {
            return bytes.len();
        };
        self.head_complete = true;
        self.after_head = 0;
        let head = bytes.len() - end.after;
        let length = end.length.and_then(|length| usize::try_from(length).ok());
        let body = length.map_or(end.after, |length| length.min(end.after));
        let own = if is_blank(&bytes[head + body..]) {
            bytes.len()
        } else {
            head + body
        };
        self.count_after_head(&bytes[head..own]);
        let bits = if self.partly_checked { 0 } else { end.bits };
        self.state.set_head(bits);
        own
    }

    /// Counts bytes that were read after a head, and keeps the last four.
    fn count_after_head(&mut self, bytes: &[u8]) {
        self.after_head += bytes.len() as u64;
        let new = &bytes[bytes.len().saturating_sub(4)..];
        self.last.rotate_left(new.len());
        self.last[4 - new.len()..].copy_from_slice(new);
    }

    /// Whether only line breaks were read after a body of `length` bytes.
    fn is_blank_after(&self, length: u64) -> bool {
        let surplus = usize::try_from(self.after_head.saturating_sub(length));
        let last = surplus
            .ok()
            .and_then(|surplus| self.last.len().checked_sub(surplus));
        last.is_some_and(|at| is_blank(&self.last[at..]))
    }

    /// Reads and drops what the app still sends, until it closes the connection as well. If we closed while there
    /// are unread bytes, the kernel would reset the connection, and the app could lose the last reply. In a
    /// `hurry`, this returns at once unless bytes have arrived already.
    pub(super) async fn linger(&mut self, hurry: bool) {
        let peeked = poll_fn(|cx| Poll::Ready(self.stream.poll_peek(cx))).await;
        if hurry && peeked.is_pending() {
            return;
        }
        let mut unread = vec![0; 16 * 1024];
        linger(|cx| {
            let mut unread = ReadBuf::new(&mut unread);
            let read = Pin::new(&mut self.stream).poll_read(cx, &mut unread);
            read.map(|read| read.is_ok() && !unread.filled().is_empty())
        })
        .await;
    }

    /// Waits until a byte of the next call arrives, or the connection ends.
    pub(super) fn poll_called(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.rewound.is_empty() {
            return Poll::Ready(());
        }
        // The next read returns the error, if there is one.
        self.stream.poll_readable(cx).map(|_| ())
    }
}

/// Methods for the fast path.
#[cfg(feature = "fast_path")]
impl TimedIo {
    /// Whether bytes that were given back are still to be read.
    pub(super) fn has_rewound(&self) -> bool {
        !self.rewound.is_empty()
    }

    /// Reads what the socket has, without the checks.
    pub(super) fn poll_take(
        &mut self,
        buf: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.more = false;
        with_task_waker(cx, |cx| self.stream.poll_take(buf, cx))
    }

    /// Records that the last bytes taken were a call with a body of `length` bytes. `has_next` says that bytes of
    /// the next call came with it.
    pub(super) fn note_call(&mut self, length: u64, has_next: bool) {
        self.after_head = length;
        self.more = has_next;
    }
}

/// Whether `bytes` are only line breaks.
pub(super) fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}

impl AsyncRead for TimedIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.rewound.is_empty() {
            let some = this.rewound.len().min(buf.remaining());
            let bytes = this.rewound.slice(..some);
            let own = this.note(&bytes);
            buf.put_slice(&bytes[..own]);
            this.rewound.advance(own);
            return Poll::Ready(Ok(()));
        }
        this.more = false;
        let before = buf.filled().len();
        let stream = Pin::new(&mut this.stream);
        if let Poll::Ready(read) = with_task_waker(cx, |cx| stream.poll_read(cx, buf)) {
            if let Some(bytes) = buf.filled().get(before..).filter(|bytes| !bytes.is_empty()) {
                let own = this.note(bytes);
                this.more = own < bytes.len();
                this.rewound = Bytes::copy_from_slice(&bytes[own..]);
                buf.set_filled(before + own);
            }
            return Poll::Ready(read);
        }
        if this.state.take_phase_changed() {
            this.reading.stop();
        }
        let limit = match this.state.phase() {
            Phase::Waiting => KEPT_ALIVE,
            Phase::Reading => HEAD,
            Phase::Calling => return Poll::Pending,
        };
        if !this.reading.poll_elapsed(limit, cx) {
            return Poll::Pending;
        }
        // After a pause there is no call to answer: the end of the stream, as if the app had closed it.
        Poll::Ready(if limit == HEAD {
            Err(io::ErrorKind::TimedOut.into())
        } else {
            Ok(())
        })
    }
}

impl TimedIo {
    /// Writes, and fails if the app has read nothing for too long.
    fn poll_limited(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut AppStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        if let Poll::Ready(written) = with_task_waker(cx, |cx| write(stream, cx)) {
            self.writing.stop();
            self.state.set_sending(false);
            return Poll::Ready(written);
        }
        self.state.set_sending(true);
        if self.writing.poll_elapsed(self.idle, cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }

    /// Sends the rest of our own error reply.
    fn poll_error_reply(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.error_reply.is_empty() {
            let error_reply = self.error_reply.clone();
            let sent =
                ready!(self.poll_limited(cx, |stream, cx| stream.poll_write(cx, &error_reply)))?;
            self.error_reply.advance(sent);
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the app has hung up during a call. hyper would find that out by reading on, with another buffer for
    /// each call.
    pub(super) fn peer_closed(&mut self, cx: &mut Context<'_>) -> bool {
        // If bytes of the next call have been read already, an end behind them does not cancel this call. A
        // call that was read that way is not watched either.
        let has_next = self.after_head > self.state.body_length();
        if self.more || has_next || self.state.phase() != Phase::Calling {
            return false;
        }
        match with_task_waker(cx, |cx| self.stream.poll_peek(cx)) {
            Poll::Pending => false,
            Poll::Ready(Ok(Peeked::Data)) => {
                self.more = true;
                false
            }
            Poll::Ready(Ok(Peeked::End) | Err(_)) => true,
        }
    }

    /// Replaces hyper's reply to a head that it cannot parse by ours. Returns whether `bytes` are such a reply.
    fn replace_error_reply(&mut self, bytes: &[u8]) -> bool {
        if self.state.phase() != Phase::Reading {
            return false;
        }
        let Some(error_reply) = with_body(bytes, self.as_200) else {
            return false;
        };
        self.error_reply = error_reply;
        true
    }
}

impl AsyncWrite for TimedIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.replace_error_reply(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        this.poll_limited(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let [only] = bufs
            && this.replace_error_reply(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        this.poll_limited(cx, |stream, cx| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_error_reply(cx))?;
        if this.peer_closed(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_error_reply(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
