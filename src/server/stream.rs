//! An app's byte stream: TCP, TLS over TCP, or a Unix socket.

use std::{
    io::{self, BufRead, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustix::net::{RecvFlags, recv, sockopt::set_socket_linger};
use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time::Duration,
};
use tokio_rustls::server::TlsStream;

use crate::{
    net::read_ahead::ReadAhead,
    os::{AsFd, UnixStream},
    rt::socket,
};

/// One type for all, so that the code that serves a connection is compiled once.
#[derive(Debug)]
pub(super) enum AppStream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<ReadAhead>>),
    Unix(UnixStream),
}

/// The result of a peek.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peeked {
    /// There are bytes to read.
    Data,
    /// The app has closed its side.
    End,
}

fn peek(socket: &impl AsFd) -> io::Result<Peeked> {
    let (_, length) = recv(socket, &mut [0; 1], RecvFlags::PEEK)?;
    Ok(if length == 0 {
        Peeked::End
    } else {
        Peeked::Data
    })
}

/// Whether TLS has nothing that was read and not taken: neither decrypted bytes, nor the end, nor bytes before it.
fn has_nothing(stream: &mut TlsStream<ReadAhead>) -> bool {
    let (below, session) = stream.get_mut();
    let nothing = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
    below.is_empty() && session.reader().fill_buf().is_err_and(nothing)
}

/// Calls a method on any stream.
macro_rules! on_any {
    ($stream:expr, $any:ident => $call:expr) => {
        match $stream.get_mut() {
            AppStream::Tcp(stream) => {
                let $any = Pin::new(stream);
                $call
            }
            AppStream::Tls(stream) => {
                let $any = Pin::new(&mut **stream);
                $call
            }
            AppStream::Unix(stream) => {
                let $any = Pin::new(stream);
                $call
            }
        }
    };
}

impl AppStream {
    /// Waits until there is something to read, or the stream has ended.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            // A part of a record makes the socket readable, too. The read that follows finds out.
            Self::Tls(stream) => match has_nothing(stream) {
                true => stream.get_ref().0.socket.poll_read_ready(cx),
                false => Poll::Ready(Ok(())),
            },
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Reads the bytes that are there; zero bytes are the end.
    #[cfg(feature = "fast_path")]
    pub(super) fn poll_take(
        &mut self,
        buf: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => socket::poll_read(stream, buf, cx),
            Self::Tls(stream) => {
                let mut buf = ReadBuf::new(buf);
                ready!(Pin::new(&mut **stream).poll_read(cx, &mut buf))?;
                Poll::Ready(Ok(buf.filled().len()))
            }
            Self::Unix(stream) => socket::poll_read(stream, buf, cx),
        }
    }

    /// Sets whether the connection is reset when this is dropped, or the process ends, instead of closed. A Unix socket
    /// cannot be reset.
    pub(super) fn reset_when_dropped(&self, reset: bool) {
        let socket = match self {
            Self::Tcp(socket) => socket,
            Self::Tls(stream) => &stream.get_ref().0.socket,
            Self::Unix(_) => return,
        };
        // This cannot fail on a socket.
        let _ = set_socket_linger(socket, reset.then_some(Duration::ZERO));
    }

    /// Peeks: says whether there are bytes to read, or the end, and takes nothing.
    pub(super) fn poll_peek(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Peeked>> {
        loop {
            if !matches!(self, Self::Tls(_)) {
                ready!(self.poll_readable(cx))?;
            }
            let peeked = match self {
                Self::Tcp(stream) => stream.try_io(Interest::READABLE, || peek(stream)),
                // It decrypts a record, if a whole one has come, and takes nothing of it.
                Self::Tls(stream) => Ok(match ready!(Pin::new(&mut **stream).poll_fill_buf(cx))? {
                    [] => Peeked::End,
                    _ => Peeked::Data,
                }),
                Self::Unix(stream) => stream.try_io(Interest::READABLE, || peek(stream)),
            };
            match peeked {
                Err(error) if socket::is_transient(&error) => {}
                peeked => return Poll::Ready(peeked),
            }
        }
    }
}

impl AsyncRead for AppStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_any!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for AppStream {
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
        match self.get_mut() {
            Self::Tcp(stream) => socket::poll_write(stream, bufs, cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => socket::poll_write(stream, bufs, cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_any!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_any!(self, stream => stream.poll_shutdown(cx))
    }
}
