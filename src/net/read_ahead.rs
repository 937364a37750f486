//! A socket with a read buffer that grows under load, because rustls reads only 4 KiB at a time.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::BufMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::rt::socket;

/// The sizes of the read buffer. Data that arrives in small pieces is read without one.
const MIN_READ: usize = 64 * 1024;
const MAX_READ: usize = 256 * 1024;

/// A socket with a read buffer.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    pub(crate) socket: TcpStream,
    ahead: Vec<u8>,
    /// How much of the buffer was handed out.
    taken: usize,
    /// How much to read into the buffer next; 0 bypasses it.
    read_size: usize,
}

impl ReadAhead {
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self::behind(Vec::new(), socket)
    }

    /// A socket of which the bytes `ahead` have been read already.
    pub(crate) fn behind(ahead: Vec<u8>, socket: TcpStream) -> Self {
        Self {
            socket,
            ahead,
            taken: 0,
            read_size: 0,
        }
    }

    /// Whether the buffer is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.taken == self.ahead.len()
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ahead.clear();
        self.taken = 0;
        self.ahead.reserve(self.read_size);
        let mut unfilled = (&mut self.ahead).limit(self.read_size);
        let Poll::Ready(read) = pin!(self.socket.read_buf(&mut unfilled)).poll(cx) else {
            // The connection is quiet, maybe for long: free the buffer.
            self.ahead = Vec::new();
            return Poll::Pending;
        };
        let read = read?;
        if read == self.read_size {
            self.read_size = (self.read_size * 2).min(MAX_READ);
        } else if read < self.read_size / 2 {
            self.read_size = Some(self.read_size / 2)
                .filter(|size| *size >= MIN_READ)
                .unwrap_or(0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_empty() {
            if this.read_size == 0 {
                this.ahead = Vec::new();
                this.taken = 0;
                // rustls has initialized its buffer before, so this costs nothing.
                let unfilled = buf.initialize_unfilled();
                let read = ready!(socket::poll_read(&this.socket, unfilled, cx))?;
                buf.advance(read);
                if buf.remaining() == 0 {
                    this.read_size = MIN_READ;
                }
                return Poll::Ready(Ok(()));
            }
            ready!(this.poll_ahead(cx))?;
        }
        let count = buf.remaining().min(this.ahead.len() - this.taken);
        buf.put_slice(&this.ahead[this.taken..this.taken + count]);
        this.taken += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        socket::poll_write(&self.socket, &[IoSlice::new(buf)], cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        socket::poll_write(&self.socket, bufs, cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    #[tokio::test]
    async fn all_arrives_in_order_and_nothing_is_kept_when_it_is_quiet() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let mut wechat = listener.accept().await.unwrap().0;
        let mut stream = ReadAhead::new(socket);
        let mut buffer = [0; 4096];
        for size in [10, 1 << 20, 5000, 10, 10, 10] {
            let sent: Vec<u8> = (0..size)
                .map(|at: u32| at.to_le_bytes()[at as usize % 3])
                .collect();
            let reading = async {
                let mut came = Vec::new();
                while came.len() < sent.len() {
                    let read = stream.read(&mut buffer).await.unwrap();
                    came.extend_from_slice(&buffer[..read]);
                }
                came
            };
            let (written, came) = tokio::join!(wechat.write_all(&sent), reading);
            written.unwrap();
            assert!(came == sent, "{size}");
        }
        let quiet = stream.read(&mut buffer);
        let quiet = tokio::time::timeout(std::time::Duration::from_millis(10), quiet).await;
        assert!(quiet.is_err() && stream.ahead.capacity() == 0 && stream.read_size == 0);
        drop(wechat);
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
    }
}
