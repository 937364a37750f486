//! A connection's bytes, and how far the sending of a call has come.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Duration, Instant},
};
use tokio_rustls::client::TlsStream;

/// With TLS or, to a loopback address, without.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
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
            made: Instant::now(),
            last_write: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            body_sent: AtomicBool::new(false),
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
    fn is_body_sent(&self) -> bool {
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
            (false, false) => Instant::now() + idle.min(reply),
        }
    }

    fn wrote(&self) {
        let millis = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_write.store(millis, Ordering::Relaxed);
        self.blocked.store(false, Ordering::Relaxed);
    }
}

/// A stream that notes its progress.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) stream: Stream,
    pub(super) progress: Arc<Progress>,
}

/// The same call on whichever stream it is.
macro_rules! on_stream {
    ($wire:expr, $stream:ident => $call:expr) => {
        match &mut $wire.get_mut().stream {
            Stream::Plain($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Stream::Tls($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_stream!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = on_stream!(self.as_mut(), stream => stream.poll_write(cx, buf));
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = on_stream!(self.as_mut(), stream => stream.poll_write_vectored(cx, bufs));
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => stream.poll_shutdown(cx))
    }
}

impl Wire {
    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(_)) => self.progress.wrote(),
            Poll::Pending => self.progress.blocked.store(true, Ordering::Relaxed),
            Poll::Ready(Err(_)) => {}
        }
        written
    }
}
