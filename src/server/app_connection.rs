//! The connection of an app, as a layer below hyper that corrects what hyper does differently.
//!
//! - hyper has one timeout for both a kept-alive pause and a head that arrives slowly. Here each has its own, and an app
//!   that reads nothing of its reply is given up.
//! - hyper accepts a Content-Length beside a Transfer-Encoding. [`FramingReader`] checks each head.
//! - hyper answers a head that it cannot parse with an empty body. That reply is dropped, and another is sent.
//! - hyper reads on to notice an app that hangs up, with another buffer for each call. Here a peek at the socket does.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Duration,
};

use super::{
    error_reply::status_of,
    framing_reader::FramingReader,
    request_line::RequestLine,
    respelled::Respelled,
    state::{CallPhase, ConnState},
    stream::{AppStream, Peeked},
};
use crate::{body::linger::linger, rt::task::Deadline};

/// How long an app may keep a connection without a call. Java's pools keep theirs for a minute or two. If we
/// closed earlier, an app could send a call on a connection that is just being closed, which fails.
const KEPT_ALIVE: Duration = Duration::from_secs(180);

/// How long the head of a call may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that an app asked, by CONNECT, to be one to a host of WeChat's.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) socket: TcpStream,
    /// What has been read of the TLS on it.
    pub(super) early: Bytes,
}

/// The connection of an app, as hyper and the fast path read and write it.
#[derive(Debug)]
pub(super) struct AppConnection {
    stream: AppStream,
    state: Arc<ConnState>,
    reader: FramingReader,
    /// Bytes of the next call have arrived. A peek shows them, and not whether the app has hung up behind them.
    unread_input: bool,
    reading: Deadline,
    writing: Deadline,
    idle: Duration,
    /// The status of hyper's reply to a head that it cannot parse, which was dropped.
    dropped_reply: Option<u16>,
    /// What replaces the next bytes of hyper's.
    respelled: Respelled,
    /// The reply that is being sent ends with the connection, which is reset if it ends early.
    resets: bool,
}

impl AppConnection {
    pub(super) fn new(stream: AppStream, state: Arc<ConnState>, idle: Duration) -> Self {
        Self {
            stream,
            state,
            reader: FramingReader::new(),
            unread_input: false,
            reading: Deadline::default(),
            writing: Deadline::default(),
            idle,
            dropped_reply: None,
            respelled: Respelled::default(),
            resets: false,
        }
    }

    /// [Gives back](FramingReader::rewind) bytes that were read and not parsed.
    pub(super) fn rewind(&mut self, bytes: &[u8]) {
        self.reader.rewind(bytes);
    }

    /// The first line of the head that was read last.
    pub(super) fn request_line(&self) -> &RequestLine {
        self.reader.request_line()
    }

    /// The status of hyper's reply to a head that it cannot parse. That reply is still to be replaced.
    pub(super) fn take_dropped_reply(&mut self) -> Option<u16> {
        self.dropped_reply.take()
    }

    /// Whether the connection has waited too long for its next call.
    pub(super) fn keep_alive_expired(&mut self, cx: &mut Context<'_>) -> bool {
        if self.state.take_phase_changed() {
            self.reading.stop();
        }
        self.reading.poll_elapsed(KEPT_ALIVE, cx)
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

    /// Closes a connection that carries no call. With TLS, the app is told that nothing was cut.
    pub(super) async fn close(mut self) {
        if matches!(self.stream, AppStream::Tls(_)) {
            // An app that reads nothing is not waited for.
            poll_fn(|cx| Poll::Ready(Pin::new(&mut self.stream).poll_shutdown(cx).is_ready()))
                .await;
        }
    }

    /// The socket of a connection without TLS, and the bytes that were given back, for those who speak TLS on it from now on.
    pub(super) fn into_tunnel(self) -> Option<Tunnel> {
        match self.stream {
            AppStream::Tcp(socket) => {
                let early = self.reader.into_rewound();
                Some(Tunnel { socket, early })
            }
            AppStream::Tls(_) | AppStream::Unix(_) => None,
        }
    }

    /// Waits until a byte of the next call arrives, or the connection ends.
    pub(super) fn poll_called(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.reader.has_rewound() {
            return Poll::Ready(());
        }
        // The next read returns the error, if there is one.
        self.stream.poll_readable(cx).map(|_| ())
    }
}

#[cfg(feature = "fast_path")]
impl AppConnection {
    /// Whether bytes that were given back are still to be read.
    pub(super) fn has_rewound(&self) -> bool {
        self.reader.has_rewound()
    }

    /// Reads what the socket has, without the checks.
    pub(super) fn poll_take(
        &mut self,
        buf: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.unread_input = false;
        self.stream.poll_take(buf, cx)
    }

    /// Records that the last bytes taken were a call. `has_next` says that bytes of the next call came with it.
    pub(super) fn note_call(&mut self, has_next: bool) {
        self.reader.note_call();
        self.unread_input = has_next;
    }
}

impl AsyncRead for AppConnection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.reader.has_rewound() {
            this.reader.read_rewound(buf, &this.state);
            return Poll::Ready(Ok(()));
        }
        this.unread_input = false;
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buf) {
            if let Some(bytes) = buf.filled().get(before..).filter(|bytes| !bytes.is_empty()) {
                let bytes_of_this_call = this.reader.pass_on(bytes, &this.state);
                this.unread_input = bytes_of_this_call < bytes.len();
                buf.set_filled(before + bytes_of_this_call);
            }
            return Poll::Ready(read);
        }
        if this.state.take_phase_changed() {
            this.reading.stop();
        }
        let limit = match this.state.phase() {
            CallPhase::Waiting => KEPT_ALIVE,
            CallPhase::Reading => HEAD_TIMEOUT,
            CallPhase::Calling => return Poll::Pending,
        };
        if !this.reading.poll_elapsed(limit, cx) {
            return Poll::Pending;
        }
        // After a pause there is no call to answer: the end of the stream, as if the app had closed it.
        Poll::Ready(if limit == HEAD_TIMEOUT {
            Err(io::ErrorKind::TimedOut.into())
        } else {
            Ok(())
        })
    }
}

impl AppConnection {
    /// Writes what hyper or the fast path writes of a reply.
    fn poll_reply(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(notes) = self.state.take_notes() {
            if let (Some(names), Some(first)) = (notes.names, bufs.first()) {
                self.respelled.take(first, &names);
            }
            if notes.ends_with_connection {
                self.set_resets(true);
            }
        }
        if self.respelled.is_empty() {
            return self.poll_limited(cx, bufs);
        }
        let mut respelled = mem::take(&mut self.respelled);
        let polled = self.poll_limited(cx, &respelled.instead_of(bufs));
        if let Poll::Ready(Ok(written)) = polled {
            respelled.written(written);
        }
        self.respelled = respelled;
        polled
    }

    /// An app that does not speak HTTP/1.1 takes the end of the connection for the end of a reply of unknown length. Only a
    /// reset tells it that the reply was cut, even where this process is killed.
    fn set_resets(&mut self, resets: bool) {
        if self.resets != resets {
            self.resets = resets;
            self.stream.reset_when_dropped(resets);
        }
    }

    /// Writes, and fails if the app has read nothing for too long.
    fn poll_limited(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.limited(polled, cx)
    }

    fn limited<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.writing.stop();
            self.state.set_sending(false);
            return polled;
        }
        self.state.set_sending(true);
        if self.writing.poll_elapsed(self.idle, cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }

    /// Sends what TLS holds of what was written, and fails if the app has read nothing for too long.
    pub(super) fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !matches!(self.stream, AppStream::Tls(_)) {
            // What is written to a socket is sent.
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.limited(polled, cx)
    }

    /// Whether the app has hung up during a call. hyper would find that out by reading on, with another buffer for
    /// each call.
    pub(super) fn peer_closed(&mut self, cx: &mut Context<'_>) -> bool {
        // If bytes of the next call have been read already, an end behind them does not cancel this call. A
        // call that was read that way is not watched either.
        let has_next = self.reader.has_passed_next();
        if self.unread_input || has_next || self.state.phase() != CallPhase::Calling {
            return false;
        }
        match self.stream.poll_peek(cx) {
            Poll::Pending => false,
            Poll::Ready(Ok(Peeked::Data)) => {
                self.unread_input = true;
                false
            }
            Poll::Ready(Ok(Peeked::End) | Err(_)) => true,
        }
    }

    /// Drops hyper's reply to a head that it cannot parse. Returns whether `bytes` are such a reply.
    fn drop_error_reply(&mut self, bytes: &[u8]) -> bool {
        if self.state.phase() == CallPhase::Reading && self.dropped_reply.is_none() {
            self.dropped_reply = status_of(bytes);
            return self.dropped_reply.is_some();
        }
        false
    }
}

impl AsyncWrite for AppConnection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.drop_error_reply(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        this.poll_reply(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let [only] = bufs
            && this.drop_error_reply(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        this.poll_reply(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Flushes, and fails if the app has hung up during the call. hyper flushes whenever it is polled, so this is where
    /// it learns that.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.peer_closed(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        this.poll_sent(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.dropped_reply.is_some() {
            // Another reply is still to be sent.
            return Poll::Ready(Ok(()));
        }
        // The reply is whole.
        this.set_resets(false);
        // With TLS, this writes.
        let polled = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.limited(polled, cx)
    }
}

#[cfg(test)]
mod tests;
