//! A connection's bytes: with TLS or, to a loopback address, without.

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
use crate::rt::{socket, task::with_task_waker};

/// With TLS or without.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<ReadAhead>>),
}

/// A stream that knows when there is nothing to read.
#[derive(Debug)]
pub(crate) struct BufStream {
    stream: Stream,
    /// All that had come was read, so the socket alone can tell whether there is more.
    dry: bool,
    /// An error that comes after what was read last.
    failed: Option<io::Error>,
}

/// How much is read at once at first. Such a piece is copied from a buffer that all connections of a thread
/// share, so a connection that waits takes no memory for it.
pub(crate) const LITTLE: usize = 16 * 1024;

thread_local! {
    static SHARED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl BufStream {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            dry: false,
            failed: None,
        }
    }

    /// Reads a little and returns what `look` makes of it. No bytes are the end.
    pub(crate) fn poll_look<T>(
        &mut self,
        cx: &mut Context<'_>,
        look: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        // Before the buffer is borrowed.
        ready!(self.poll_wet(cx))?;
        SHARED.with_borrow_mut(|shared| {
            shared.resize(LITTLE, 0);
            let mut buf = ReadBuf::new(shared);
            ready!(Pin::new(self).poll_read(cx, &mut buf))?;
            Poll::Ready(Ok(look(buf.filled())))
        })
    }

    /// Appends what comes to `to`, at most `most` bytes.
    pub(crate) fn poll_append(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut BytesMut,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_wet(cx))?;
        to.reserve(most);
        let mut room = to.limit(most);
        pin!(self.read_buf(&mut room)).poll(cx)
    }

    /// Whether there is certainly nothing to read now. Nobody is woken when there is.
    pub(crate) fn is_quiet(&self) -> bool {
        let knows = self.dry || matches!(self.stream, Stream::Plain(_));
        knows && self.socket().try_io(Interest::READABLE, || Ok(())).is_err()
    }

    fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => &stream.get_ref().0.socket,
        }
    }

    /// Whether there may be something to read. Where TLS holds nothing back, the socket alone can tell,
    /// for a tenth of the price.
    fn poll_wet(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.dry {
            ready!(with_task_waker(cx, |cx| self.socket().poll_read_ready(cx)))?;
            self.dry = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes a part of `bufs`. TLS may take more than has been sent.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        with_task_waker(cx, |cx| match (&mut self.stream, bufs) {
            (Stream::Plain(stream), bufs) => socket::poll_write(stream, bufs, cx),
            (Stream::Tls(stream), [only]) => Pin::new(stream.as_mut()).poll_write(cx, only),
            (Stream::Tls(stream), bufs) => Pin::new(stream.as_mut()).poll_write_vectored(cx, bufs),
        })
    }

    /// Whether all that was taken has been sent.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            Stream::Tls(stream) => {
                with_task_waker(cx, |cx| Pin::new(stream.as_mut()).poll_flush(cx))
            }
        }
    }
}

impl AsyncRead for BufStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match &mut this.stream {
            Stream::Plain(stream) if buf.initialized().len() < buf.capacity() => {
                with_task_waker(cx, |cx| Pin::new(stream).poll_read(cx, buf))
            }
            Stream::Plain(stream) => {
                let room = buf.initialize_unfilled();
                let read = with_task_waker(cx, |cx| socket::poll_read(stream, room, cx));
                read.map_ok(|read| buf.advance(read))
            }
            Stream::Tls(stream) => {
                if let Some(error) = this.failed.take() {
                    return Poll::Ready(Err(error));
                }
                let (dry, failed) = (&mut this.dry, &mut this.failed);
                with_task_waker(cx, |cx| poll_read_tls(stream, dry, failed, cx, buf))
            }
        }
    }
}

/// Reads as many records as there are, or as `buf` takes. Says in `dry` whether the socket alone can tell
/// if there is more, and leaves in `failed` an error behind what was read.
#[inline]
fn poll_read_tls(
    stream: &mut TlsStream<ReadAhead>,
    dry: &mut bool,
    failed: &mut Option<io::Error>,
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
            // tokio-rustls gives one record at a time, and each would be sent on alone.
            Poll::Ready(Ok(1..)) => {
                *dry = drain(stream, buf);
                if *dry || buf.remaining() == 0 {
                    return Poll::Ready(Ok(()));
                }
            }
            Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) if some => {
                *failed = Some(error);
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                *dry = true;
                // TLS may have to answer what it read; if not now, then with the next call.
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

/// Takes what TLS has decrypted already. Returns whether nothing is left, neither in TLS nor in what was
/// read ahead for it.
fn drain(stream: &mut TlsStream<ReadAhead>, buf: &mut ReadBuf<'_>) -> bool {
    let (read_ahead, session) = stream.get_mut();
    let mut reader = session.reader();
    while buf.remaining() > 0 {
        match reader.fill_buf() {
            // An end is found by the next read.
            Ok([]) => return false,
            Ok(data) => {
                let some = data.len().min(buf.remaining());
                buf.put_slice(&data[..some]);
                reader.consume(some);
            }
            Err(error) => {
                return error.kind() == io::ErrorKind::WouldBlock && read_ahead.is_drained();
            }
        }
    }
    false
}
