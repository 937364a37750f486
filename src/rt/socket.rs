//! Bytes into a socket and out of it, without what libc does so that its calls can be cancelled.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    os::fd::AsFd,
    task::{Context, Poll, ready},
};

use rustix::{
    io::writev,
    net::{RecvFlags, SendFlags, recv, send},
};
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
};

/// A socket of tokio's.
pub trait Socket: AsFd {
    /// Whether it may have something.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Whether it may take something.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Does it, and waits for the next time when it is said that it would block.
    fn attempt<T>(&self, interest: Interest, io: impl FnOnce() -> io::Result<T>) -> io::Result<T>;
}

/// Both have the same methods, by no trait.
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

/// What is no larger is put together before it is written: that costs less than to have the kernel do it.
const SMALL: usize = 2048;

thread_local! {
    /// There it is put together.
    static TOGETHER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes as much of `bufs` as it takes now.
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

/// Reads what it has now, as far as there is room in `buf`; nothing is the end.
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

/// Tells the runtime that there is no more for now, which spares the call that would find it out. Only for a
/// runtime of one thread: on another, what comes meanwhile would be forgotten with it.
fn clear_ready(socket: &impl Socket, interest: Interest) {
    let nothing = || Err(io::ErrorKind::WouldBlock.into());
    let _: io::Result<()> = socket.attempt(interest, nothing);
}

/// Whether it is worth another try.
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
