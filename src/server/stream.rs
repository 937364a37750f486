//! An app's socket: TCP or Unix.

use std::{
    io::{self, IoSlice},
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustix::net::{RecvFlags, recv, sockopt::set_socket_linger};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
    time::Duration,
};

use crate::rt::socket;

/// One type for both, so that the code that serves a connection is compiled once.
#[derive(Debug)]
pub(super) enum AppStream {
    Tcp(TcpStream),
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

/// Calls a method on either stream.
macro_rules! on_either {
    ($stream:expr, $either:ident => $call:expr) => {
        match $stream.get_mut() {
            AppStream::Tcp(stream) => {
                let $either = Pin::new(stream);
                $call
            }
            AppStream::Unix(stream) => {
                let $either = Pin::new(stream);
                $call
            }
        }
    };
}

impl AppStream {
    /// Waits until there is something to read, or the stream has ended.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Reads the bytes that are there; zero bytes are the end.
    #[cfg(feature = "fast_path")]
    pub(super) fn poll_take(
        &self,
        buf: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => socket::poll_read(stream, buf, cx),
            Self::Unix(stream) => socket::poll_read(stream, buf, cx),
        }
    }

    /// Sets whether the connection is reset when this is dropped, or the process ends, instead of closed. A Unix socket
    /// cannot be reset.
    pub(super) fn reset_when_dropped(&self, reset: bool) {
        if let Self::Tcp(stream) = self {
            // This cannot fail on a socket.
            let _ = set_socket_linger(stream, reset.then_some(Duration::ZERO));
        }
    }

    /// Peeks: says whether there are bytes to read, or the end, and takes nothing.
    pub(super) fn poll_peek(&self, cx: &mut Context<'_>) -> Poll<io::Result<Peeked>> {
        loop {
            ready!(self.poll_readable(cx))?;
            let peeked = match self {
                Self::Tcp(stream) => stream.try_io(Interest::READABLE, || peek(stream)),
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
        on_either!(self, stream => stream.poll_read(cx, buf))
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
            Self::Unix(stream) => socket::poll_write(stream, bufs, cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, stream => stream.poll_shutdown(cx))
    }
}
