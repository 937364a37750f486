//! The byte stream of a connection to WeChat: TLS or, to a loopback address, plain TCP.
//!
//! Large bodies are read in large pieces, and small ones without a buffer of their own. Each layer has a read size that
//! grows when a read fills it, and shrinks again when reads do not fill it:
//!
//! | layer | bytes | read size |
//! |---|---|---|
//! | [`ReadAhead`], below rustls | TLS records | no buffer of its own, or 64 KiB to 256 KiB, where rustls alone reads 4 KiB |
//! | `client::connection`, above this stream | a reply | 16 KiB ([`SMALL_READ`]) in a buffer of the thread, up to 256 KiB in a buffer of its own |
//! | hyper, on the app's side | a call | up to 256 KiB, set by `server::connection` |

use std::{
    cell::RefCell,
    io::{self, BufRead, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{BufMut, BytesMut};
use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::read_ahead::ReadAhead;
use crate::rt::socket;

/// A stream with TLS or without.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<ReadAhead>>),
}

/// A stream that knows when there is nothing to read, and reads small pieces through a buffer of the thread.
#[derive(Debug)]
pub(crate) struct UpstreamStream {
    stream: Stream,
    /// TLS holds no bytes, neither decrypted nor read ahead, so the readiness of the socket tells whether there is
    /// something to read. If this were true while TLS holds bytes, a reply could wait for bytes that are here already.
    tls_is_empty: bool,
    /// An error that occurred after the bytes that were read last. The next read returns it.
    read_error: Option<io::Error>,
}

/// The size of a small read. It goes through a buffer that all connections of a thread share, so an idle
/// connection takes no memory for one.
pub(crate) const SMALL_READ: usize = 16 * 1024;

thread_local! {
    static SHARED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl UpstreamStream {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            tls_is_empty: false,
            read_error: None,
        }
    }

    /// Reads at most [`SMALL_READ`] bytes and returns the result of `f` for them. Zero bytes are the end.
    pub(crate) fn poll_read_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        f: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        // This comes first, so that nothing touches the buffer if there is nothing to read.
        ready!(self.poll_readable(cx))?;
        SHARED.with_borrow_mut(|shared| {
            shared.resize(SMALL_READ, 0);
            let mut buf = ReadBuf::new(shared);
            ready!(Pin::new(self).poll_read(cx, &mut buf))?;
            Poll::Ready(Ok(f(buf.filled())))
        })
    }

    /// Reads at most `max` bytes and appends them to `to`. Zero bytes are the end.
    pub(crate) fn poll_append(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_readable(cx))?;
        to.reserve(max);
        let mut to = to.limit(max);
        pin!(self.read_buf(&mut to)).poll(cx)
    }

    /// Whether there is certainly nothing to read now. This registers no waker.
    pub(crate) fn has_nothing(&self) -> bool {
        let socket_tells = self.tls_is_empty || matches!(self.stream, Stream::Plain(_));
        socket_tells && self.socket().try_io(Interest::READABLE, || Ok(())).is_err()
    }

    fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => &stream.get_ref().0.socket,
        }
    }

    /// Waits until there may be something to read. If TLS holds no bytes, the readiness of the socket tells that, at a
    /// tenth of the cost of a read.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.tls_is_empty {
            ready!(self.socket().poll_read_ready(cx))?;
            self.tls_is_empty = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes a part of `bufs`. TLS may accept bytes that it sends later.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match (&mut self.stream, bufs) {
            (Stream::Plain(stream), bufs) => socket::poll_write(stream, bufs, cx),
            (Stream::Tls(stream), [only]) => Pin::new(stream.as_mut()).poll_write(cx, only),
            (Stream::Tls(stream), bufs) => Pin::new(stream.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    /// Sends all bytes that TLS accepted.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match &mut this.stream {
            Stream::Plain(stream) if buf.initialized().len() < buf.capacity() => {
                Pin::new(stream).poll_read(cx, buf)
            }
            Stream::Plain(stream) => {
                let unfilled = buf.initialize_unfilled();
                let read = socket::poll_read(stream, unfilled, cx);
                read.map_ok(|read| buf.advance(read))
            }
            Stream::Tls(stream) => {
                if let Some(error) = this.read_error.take() {
                    return Poll::Ready(Err(error));
                }
                poll_read_tls(
                    stream,
                    &mut this.tls_is_empty,
                    &mut this.read_error,
                    cx,
                    buf,
                )
            }
        }
    }
}

/// Reads all TLS records that are there, as far as `buf` has room. Sets `tls_is_empty` and, if an error follows bytes that
/// were read, `read_error`.
#[inline]
fn poll_read_tls(
    stream: &mut TlsStream<ReadAhead>,
    tls_is_empty: &mut bool,
    read_error: &mut Option<io::Error>,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    let before = buf.filled().len();
    loop {
        let read = match Pin::new(&mut *stream).poll_fill_buf(cx) {
            Poll::Ready(Ok(data)) => {
                let some = data.len().min(buf.remaining());
                buf.put_slice(&data[..some]);
                Pin::new(&mut *stream).consume(some);
                Poll::Ready(Ok(some))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        let some = buf.filled().len() > before;
        match read {
            // tokio-rustls returns one record at a time. Without this loop, each would be passed on alone.
            Poll::Ready(Ok(1..)) => {
                *tls_is_empty = take_decrypted(stream, buf);
                if *tls_is_empty || buf.remaining() == 0 {
                    return Poll::Ready(Ok(()));
                }
            }
            Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) if some => {
                *read_error = Some(error);
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                *tls_is_empty = true;
                // TLS may have to answer a record. An error of this shows in the next call.
                let _ = Pin::new(&mut *stream).poll_flush(cx);
                return if some {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
        }
    }
}

/// Takes the bytes that TLS has decrypted already. Returns whether no bytes are left in TLS and in the read-ahead
/// buffer.
fn take_decrypted(stream: &mut TlsStream<ReadAhead>, buf: &mut ReadBuf<'_>) -> bool {
    let (read_ahead, session) = stream.get_mut();
    let mut reader = session.reader();
    while buf.remaining() > 0 {
        match reader.fill_buf() {
            // The next read finds the end.
            Ok([]) => return false,
            Ok(data) => {
                let some = data.len().min(buf.remaining());
                buf.put_slice(&data[..some]);
                reader.consume(some);
            }
            Err(error) => {
                return error.kind() == io::ErrorKind::WouldBlock && read_ahead.is_empty();
            }
        }
    }
    false
}
