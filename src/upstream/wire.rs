//! A connection's bytes, who waits for them, and how far the sending of a call has come.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Duration, Instant},
};
use tokio_rustls::client::TlsStream;

use super::eager::Eager;
use crate::{
    clock::{glance, now},
    socket,
    task::past,
};

/// With TLS or, to a loopback address, without.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<Eager>>),
}

impl Stream {
    fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.get_ref().0.socket,
        }
    }
}

/// How far the call on a connection has come. Shared by the connection and who waits for the reply.
#[derive(Debug)]
pub(super) struct Progress {
    made: Instant,
    /// Milliseconds after `made`.
    last_write: AtomicU64,
    /// WeChat does not take more at the moment.
    blocked: AtomicBool,
    /// All of the body is on its way.
    body_sent: AtomicBool,
}

impl Progress {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            made: now(),
            last_write: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            body_sent: AtomicBool::new(true),
        })
    }

    /// A call begins.
    pub(super) fn begin(&self) {
        self.body_sent.store(false, Ordering::Relaxed);
        self.wrote();
    }

    pub(super) fn end_of_body(&self) {
        self.body_sent.store(true, Ordering::Relaxed);
    }

    /// Whether hyper has all of the body.
    pub(super) fn is_body_sent(&self) -> bool {
        self.body_sent.load(Ordering::Relaxed)
    }

    /// Whether the connection can take another call, as far as this one's body goes: WeChat may
    /// answer early and leave the rest of it unread.
    pub(super) fn is_through(&self) -> bool {
        self.is_body_sent() && !self.blocked.load(Ordering::Relaxed)
    }

    /// When waiting for the reply becomes too long: `reply` after the last byte of the call has
    /// left, `idle` after the last byte that WeChat took. An app that sends slowly has a clock of
    /// its own.
    pub(super) fn deadline(&self, reply: Duration, idle: Duration) -> Instant {
        let last = self.made + Duration::from_millis(self.last_write.load(Ordering::Relaxed));
        match (self.blocked.load(Ordering::Relaxed), self.is_body_sent()) {
            (false, true) => last + reply,
            (true, _) => last + idle,
            (false, false) => now() + idle.min(reply),
        }
    }

    /// Whether all that was written has left.
    fn flushed(&self, all: bool) {
        if all != self.blocked.load(Ordering::Relaxed) {
            return;
        }
        if all {
            self.wrote();
        } else {
            self.blocked.store(true, Ordering::Relaxed);
        }
    }

    fn wrote(&self) {
        let millis = u64::try_from((now() - self.made).as_millis()).unwrap_or(u64::MAX);
        self.last_write.store(millis, Ordering::Relaxed);
        self.blocked.store(false, Ordering::Relaxed);
    }
}

/// A stream that notes its progress.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) stream: Stream,
    pub(super) progress: Arc<Progress>,
    /// All that had come was read, and in which glance that was found.
    dry: Option<u64>,
}

impl Wire {
    pub(super) fn new(stream: Stream, progress: Arc<Progress>) -> Self {
        Self {
            stream,
            progress,
            dry: None,
        }
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(_)) => self.progress.wrote(),
            Poll::Pending => self.progress.blocked.store(true, Ordering::Relaxed),
            Poll::Ready(Err(_)) => {}
        }
        written
    }
}

/// The same call on whichever stream it is, for the task that waits.
macro_rules! on_stream {
    ($wire:expr, $stream:ident, $cx:ident => $call:expr) => {{
        let wire = $wire;
        past($cx, |$cx| match &mut wire.stream {
            Stream::Plain($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Stream::Tls($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $call
            }
        })
    }};
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // hyper looks for the end of a connection again and again. Where TLS holds nothing back the
        // socket alone can tell, for a tenth of the price; and in one poll of a task it says the same.
        if let Some(found) = this.dry {
            if found == glance() && found != 0 {
                return Poll::Pending;
            }
            let socket = this.stream.socket();
            ready!(past(cx, |cx| socket.poll_read_ready(cx)))?;
            this.dry = None;
        }
        let before = buf.filled().len();
        loop {
            let had = buf.filled().len();
            let read = on_stream!(&mut *this, stream, cx => stream.poll_read(cx, buf));
            match read {
                Poll::Pending => this.dry = Some(glance()),
                // TLS gives one record at a time, and each would be sent on alone.
                Poll::Ready(Ok(())) if buf.filled().len() > had && buf.remaining() > 0 => {
                    if this.stream.is_tls() {
                        continue;
                    }
                }
                Poll::Ready(_) => {}
            }
            // What went wrong after something came is found again when that is read.
            let some = buf.filled().len() > before;
            return if some { Poll::Ready(Ok(())) } else { read };
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = past(cx, |cx| match &mut this.stream {
            Stream::Plain(stream) => socket::poll_write(stream, bufs, cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, bufs),
        });
        this.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = on_stream!(&mut *this, stream, cx => stream.poll_flush(cx));
        // TLS takes more than has left.
        this.progress.flushed(flushed.is_ready());
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self.get_mut(), stream, cx => stream.poll_shutdown(cx))
    }
}
