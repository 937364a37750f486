//! Reads and writes of sockets without libc's cancellation points, which cost time.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    task::{Context, Poll, ready},
};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::{io::Interest, net::TcpStream};

use crate::os::{AsFd, UnixStream, writev};

/// A socket of tokio's.
pub trait Socket: AsFd {
    /// Waits until it may be readable.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Waits until it may be writable.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Calls `io`. If that returns `WouldBlock`, the next poll waits for another event.
    fn attempt<T>(&self, interest: Interest, io: impl FnOnce() -> io::Result<T>) -> io::Result<T>;
}

/// Both types have these methods, but no common trait.
macro_rules! is_a_socket {
    ($stream:ty) => {
        impl Socket for $stream {
            fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(cx)
            }

            fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(cx)
            }

            fn attempt<T>(
                &self,
                interest: Interest,
                io: impl FnOnce() -> io::Result<T>,
            ) -> io::Result<T> {
                self.try_io(interest, io)
            }
        }
    };
}

is_a_socket!(TcpStream);
is_a_socket!(UnixStream);

/// Buffers up to this size are copied together before they are written, which costs less than a vectored write.
const SMALL: usize = 2048;

thread_local! {
    /// The buffer for that.
    static TOGETHER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes as much of `bufs` as the socket takes now.
pub fn poll_write<S: Socket>(
    socket: &S,
    bufs: &[IoSlice<'_>],
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let all = bufs.iter().map(|buf| buf.len()).sum();
    let once = || match bufs {
        [only] => send(socket, only, SendFlags::empty()),
        _ if all > SMALL => writev(socket, bufs),
        _ => TOGETHER.with_borrow_mut(|together| {
            together.clear();
            bufs.iter().for_each(|buf| together.extend_from_slice(buf));
            send(socket, together, SendFlags::empty())
        }),
    };
    loop {
        ready!(socket.poll_writable(cx))?;
        match socket.attempt(Interest::WRITABLE, || Ok(once()?)) {
            Ok(written) => {
                if written < all {
                    clear_ready(socket, Interest::WRITABLE);
                }
                return Poll::Ready(Ok(written));
            }
            Err(error) if is_transient(&error) => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

/// Reads the bytes that are there, as far as `buf` has room. Zero bytes are the end.
pub fn poll_read<S: Socket>(
    socket: &S,
    buf: &mut [u8],
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_readable(cx))?;
        let once = || Ok(recv(socket, &mut *buf, RecvFlags::empty())?.0);
        match socket.attempt(Interest::READABLE, once) {
            Ok(read) => {
                if (1..buf.len()).contains(&read) {
                    clear_ready(socket, Interest::READABLE);
                }
                return Poll::Ready(Ok(read));
            }
            Err(error) if is_transient(&error) => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

/// Marks the socket as not ready, which saves the system call that would find it out. This is only correct on a
/// current-thread runtime: with several threads, an event that occurs meanwhile would be lost.
fn clear_ready(socket: &impl Socket, interest: Interest) {
    let nothing = || Err(io::ErrorKind::WouldBlock.into());
    let _: io::Result<()> = socket.attempt(interest, nothing);
}

/// Whether the operation should be tried again.
pub fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn what_is_written_arrives_once_and_in_order_whatever_its_size() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let all: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
        let writing = async {
            let mut left = &all[..];
            let mut sizes = [2, 700, SMALL, SMALL + 1, 100_000].into_iter().cycle();
            while !left.is_empty() {
                let some = &left[..left.len().min(sizes.next().unwrap())];
                let (first, second) = some.split_at(some.len() / 3);
                let pieces = [IoSlice::new(first), IoSlice::new(second)];
                let one = [IoSlice::new(some)];
                let bufs = if left.len().is_multiple_of(3) {
                    &one[..]
                } else {
                    &pieces
                };
                let written = poll_fn(|cx| poll_write(&ours, bufs, cx)).await;
                left = &left[written.unwrap()..];
            }
            drop(ours);
        };
        let reading = async {
            let (mut came, mut buf) = (Vec::new(), [0; 1000]);
            loop {
                match poll_fn(|cx| poll_read(&theirs, &mut buf, cx))
                    .await
                    .unwrap()
                {
                    0 => return came,
                    read => came.extend_from_slice(&buf[..read]),
                }
            }
        };
        let ((), came) = tokio::join!(writing, reading);
        assert!(came == all);
    }
}
