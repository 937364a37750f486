//! Unix sockets where there are none: types without a value, so that the code that serves connections is the same.

use std::{
    io::{self, IoSlice},
    os::windows::io::{AsSocket, BorrowedSocket},
    path::Path,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// A listener that cannot exist.
#[derive(Debug)]
pub enum UnixListener {}

/// A connection that cannot exist, with tokio.
#[derive(Debug)]
pub enum UnixStream {}

/// The same without tokio.
#[derive(Debug)]
pub enum StdUnixStream {}

/// Fails. The configuration refuses such an address before.
pub fn bind_unix_socket(_: &Path) -> io::Result<UnixListener> {
    Err(io::ErrorKind::Unsupported.into())
}

impl UnixListener {
    /// Never accepts one.
    pub async fn accept(&self) -> io::Result<(UnixStream, ())> {
        match *self {}
    }
}

impl UnixStream {
    /// There is none.
    pub fn from_std(stream: StdUnixStream) -> io::Result<Self> {
        match stream {}
    }

    /// There is none.
    pub fn into_std(self) -> io::Result<StdUnixStream> {
        match self {}
    }

    /// There is none.
    pub fn poll_read_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    /// There is none.
    pub fn poll_write_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    /// There is none.
    pub fn try_io<T>(&self, _: Interest, _: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match *self {}
    }
}

impl AsSocket for UnixListener {
    fn as_socket(&self) -> BorrowedSocket<'_> {
        match *self {}
    }
}

impl AsSocket for UnixStream {
    fn as_socket(&self) -> BorrowedSocket<'_> {
        match *self {}
    }
}

impl AsyncRead for UnixStream {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match *self {}
    }
}

impl AsyncWrite for UnixStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match *self {}
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match *self {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}
