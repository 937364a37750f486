//! An app's connection, watched: how long it may pause, and whether its heads are sound.
//!
//! hyper has one time-out for both a kept-alive pause and a head that comes in drips, forgets a
//! Content-Length beside a Transfer-Encoding, and answers what it cannot read without a word. All
//! three are seen best where the bytes pass.

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
    error_reply::reworded,
    framing_check::FramingCheck,
    state::{CALLING, ConnState, READING, WAITING},
    stream::{AppStream, Peeked},
};
use crate::{
    body::request_body::linger,
    rt::task::{Deadline, with_task_waker},
};

/// How long an app may keep a connection without a call. Java's pools keep theirs for a minute or
/// two, and a call on a connection just closed is an error that the app sees.
const KEPT_ALIVE: Duration = Duration::from_secs(180);

/// How long the head of a call may take.
const HEAD: Duration = Duration::from_secs(30);

/// An app's connection.
#[derive(Debug)]
pub(super) struct TimedIo {
    stream: AppStream,
    state: Arc<ConnState>,
    head: FramingCheck,
    /// All of the head has come.
    seen: bool,
    /// How many bytes came after the last head; more than its body has are of the next.
    after_head: u64,
    /// The last of them: chunks end with an empty line, and the beginning of a head does not.
    last: [u8; 4],
    /// The beginning of this head came with the call before, and was not looked at.
    partly_seen: bool,
    /// There is something to read that the call does not wait for: an end behind it is not seen.
    more: bool,
    reading: Deadline,
    writing: Deadline,
    idle: Duration,
    /// Our own replies have status 200.
    as_200: bool,
    /// Our own reply, on its way out instead of hyper's.
    error_reply: Bytes,
    /// What was read already of the next call, and is to be read and looked at anew.
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
            seen: false,
            after_head: 0,
            last: [0; 4],
            partly_seen: false,
            more: false,
            reading: Deadline::default(),
            writing: Deadline::default(),
            idle,
            as_200,
            error_reply: Bytes::new(),
            rewound: Bytes::new(),
        }
    }

    /// Gives back what was read and not understood yet, to be looked at anew: it begins behind the last call.
    pub(super) fn rewind(&mut self, bytes: &[u8]) {
        // What was given back before comes after it.
        let bytes = [bytes, &self.rewound].concat();
        self.after_head = 0;
        self.last = *b"\r\n\r\n";
        self.rewound = if is_blank(&bytes) {
            Bytes::new()
        } else {
            bytes.into()
        };
    }

    /// Whether this pause has lasted for too long.
    pub(super) fn keep_alive_expired(&mut self, cx: &mut Context<'_>) -> bool {
        if self.state.has_turned() {
            self.reading.stop();
        }
        self.reading.poll_elapsed(KEPT_ALIVE, cx)
    }

    /// Looks at what was just read. Returns how many of the bytes to pass on now: what comes behind a body of
    /// known length is the next call, whose head is looked at when it is read.
    fn note(&mut self, bytes: &[u8]) -> usize {
        let phase = self.state.phase();
        if phase == WAITING && is_blank(bytes) {
            // What some apps send after a body begins no call.
            return bytes.len();
        }
        if phase == CALLING || (phase == READING && self.seen) {
            self.came_after_head(bytes);
            return bytes.len();
        }
        if phase == WAITING {
            self.partly_seen = match self.state.body_length() {
                u64::MAX => self.last != *b"\r\n\r\n",
                length => !self.is_blank_after(length),
            };
            self.head = FramingCheck::default();
            self.seen = false;
            self.state.enter(READING);
        }
        let Some(end) = self.head.read(bytes) else {
            return bytes.len();
        };
        self.seen = true;
        self.after_head = 0;
        let head = bytes.len() - end.after;
        let length = end.length.and_then(|length| usize::try_from(length).ok());
        let body = length.map_or(end.after, |length| length.min(end.after));
        let own = if is_blank(&bytes[head + body..]) {
            bytes.len()
        } else {
            head + body
        };
        self.came_after_head(&bytes[head..own]);
        let bits = if self.partly_seen { 0 } else { end.bits };
        self.state.head_was_read(bits);
        own
    }

    fn came_after_head(&mut self, bytes: &[u8]) {
        self.after_head += bytes.len() as u64;
        let new = &bytes[bytes.len().saturating_sub(4)..];
        self.last.rotate_left(new.len());
        self.last[4 - new.len()..].copy_from_slice(new);
    }

    /// Whether nothing came after a body of `length` bytes but what some apps end it with.
    fn is_blank_after(&self, length: u64) -> bool {
        let surplus = usize::try_from(self.after_head.saturating_sub(length));
        let last = surplus
            .ok()
            .and_then(|surplus| self.last.len().checked_sub(surplus));
        last.is_some_and(|at| is_blank(&self.last[at..]))
    }

    /// Reads on what an app still sends though its connection ends here, until it ends it, too: else the
    /// kernel would throw away with it what the app has not read yet of the last reply. In a `hurry` only
    /// where something has come already.
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

    /// Whether the next call begins to arrive, or the connection ends.
    pub(super) fn poll_called(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.rewound.is_empty() {
            return Poll::Ready(());
        }
        // What went wrong is found out by who reads.
        self.stream.poll_readable(cx).map(|_| ())
    }
}

/// What only the fast path needs.
#[cfg(feature = "fast_path")]
impl TimedIo {
    /// Whether something that was given back is still to be read.
    pub(super) fn has_rewound(&self) -> bool {
        !self.rewound.is_empty()
    }

    /// Reads what there is, and does not look at it.
    pub(super) fn poll_take(
        &mut self,
        buf: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.more = false;
        with_task_waker(cx, |cx| self.stream.poll_take(buf, cx))
    }

    /// What was taken last is a call with a body of `length` bytes; whether it `has_next` behind it.
    pub(super) fn call_came(&mut self, length: u64, has_next: bool) {
        self.after_head = length;
        self.more = has_next;
    }
}

/// Whether there are nothing but ends of lines.
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
        if this.state.has_turned() {
            this.reading.stop();
        }
        let limit = match this.state.phase() {
            WAITING => KEPT_ALIVE,
            READING => HEAD,
            _ => return Poll::Pending,
        };
        if !this.reading.poll_elapsed(limit, cx) {
            return Poll::Pending;
        }
        // An end, as if the app had closed it: there is no call to answer.
        Poll::Ready(if limit == HEAD {
            Err(io::ErrorKind::TimedOut.into())
        } else {
            Ok(())
        })
    }
}

impl TimedIo {
    fn poll_limited(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut AppStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        if let Poll::Ready(written) = with_task_waker(cx, |cx| write(stream, cx)) {
            self.writing.stop();
            self.state.is_sending(false);
            return Poll::Ready(written);
        }
        self.state.is_sending(true);
        if self.writing.poll_elapsed(self.idle, cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }

    /// Sends the rest of our own reply.
    fn poll_words(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.error_reply.is_empty() {
            let error_reply = self.error_reply.clone();
            let sent =
                ready!(self.poll_limited(cx, |stream, cx| stream.poll_write(cx, &error_reply)))?;
            self.error_reply.advance(sent);
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the app has hung up on the call that goes on. hyper would look for that by reading on, into a
    /// buffer of its own for each call.
    pub(super) fn peer_closed(&mut self, cx: &mut Context<'_>) -> bool {
        // Behind the next call, which hyper has read already, an end is not that of this one. A call that
        // came so itself is not watched either.
        let has_next = self.after_head > self.state.body_length();
        if self.more || has_next || self.state.phase() != CALLING {
            return false;
        }
        match with_task_waker(cx, |cx| self.stream.poll_peek(cx)) {
            Poll::Pending => false,
            Poll::Ready(Ok(Peeked::Something)) => {
                self.more = true;
                false
            }
            Poll::Ready(Ok(Peeked::TheEnd) | Err(_)) => true,
        }
    }

    /// Whether `bytes` are hyper's answer to a head that it cannot read; then ours take its place.
    fn reword(&mut self, bytes: &[u8]) -> bool {
        if self.state.phase() != READING {
            return false;
        }
        let Some(error_reply) = reworded(bytes, self.as_200) else {
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
        if this.reword(buf) {
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
            && this.reword(only)
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
        ready!(this.poll_words(cx))?;
        if this.peer_closed(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_words(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
