//! Binds the addresses that apps connect to, and accepts and counts connections.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::FutureExt;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, watch},
    time::{Duration, sleep},
};

use super::{Drain, ListenAddr, Workers, worker::AcceptedSocket};
use crate::proxy::{ListenerInfo, guard::Exposure};

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    address: ListenAddr,
    socket: BoundSocket,
}

/// Sets the account whose calls come in at a listener; `None` for all accounts. The listener closes when this is
/// dropped.
pub type SocketOwner = watch::Sender<Option<Arc<str>>>;

#[derive(Debug)]
enum BoundSocket {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        _file: RemovedOnDrop,
    },
}

#[derive(Debug)]
struct RemovedOnDrop(PathBuf);

impl Drop for RemovedOnDrop {
    fn drop(&mut self) {
        // The file may have been removed already.
        let _ = fs::remove_file(&self.0);
    }
}

/// How many connections wait in the system's queue at most.
const QUEUE: usize = 4096;

impl Listener {
    /// Binds `address`.
    pub async fn bind(address: &ListenAddr) -> io::Result<Self> {
        match address {
            ListenAddr::Tcp(address) => {
                let socket = TcpListener::bind(address).await?;
                let address = ListenAddr::Tcp(socket.local_addr()?);
                Ok(Self {
                    address,
                    socket: BoundSocket::Tcp(socket),
                })
            }
            ListenAddr::Unix(path) => {
                remove_stale(path)?;
                let socket = UnixListener::bind(path)?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
                Ok(Self {
                    address: address.clone(),
                    socket: BoundSocket::Unix {
                        listener: socket,
                        _file: RemovedOnDrop(path.clone()),
                    },
                })
            }
        }
    }

    /// The bound address, with the port that the system chose.
    pub fn address(&self) -> &ListenAddr {
        &self.address
    }

    /// Hands connections to `workers` until `drain` drains, or the sender of `owner` is dropped. When there is no
    /// room for one more, one that has been accepted waits, and the next ones in the system's queue.
    pub async fn serve(
        self,
        workers: Arc<Workers>,
        drain: Drain,
        mut owner: watch::Receiver<Option<Arc<str>>>,
    ) {
        let exposure = match &self.address {
            ListenAddr::Unix(_) => Exposure::Unix,
            local if local.is_local() => Exposure::Loopback,
            ListenAddr::Tcp(_) => Exposure::Open,
        };
        let listener_info = |account| ListenerInfo { exposure, account };
        let mut waiting = None;
        loop {
            let entered = tokio::select! {
                entered = self.next(&mut waiting, &workers) => entered,
                () = drain.drain_started() => break,
                kept = owner.changed() => match kept {
                    Ok(()) => continue,
                    Err(_) => break,
                },
            };
            match entered {
                Ok((socket, permit)) => {
                    let account = owner.borrow().clone();
                    workers.hand(socket, listener_info(account), permit);
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection cannot be accepted; pausing");
                    workers.note_accept_error(&error);
                    // Perhaps too many files are open.
                    workers.room().ask_one_to_leave();
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        // Connections that are in the queue when the listener closes are still served.
        for _ in 0..QUEUE {
            let next = self.next(&mut waiting, &workers).now_or_never();
            let Some(Ok((socket, permit))) = next else {
                break;
            };
            let account = owner.borrow().clone();
            workers.hand(socket, listener_info(account), permit);
        }
    }

    /// The next connection and its place. If this is dropped, a connection that was accepted stays in `waiting`.
    async fn next(
        &self,
        waiting: &mut Option<AcceptedSocket>,
        workers: &Workers,
    ) -> io::Result<(AcceptedSocket, OwnedSemaphorePermit)> {
        if waiting.is_none() {
            *waiting = Some(self.accept().await?);
        }
        let room = workers.room();
        let permit = match room.try_enter() {
            Some(permit) => permit,
            None => {
                workers.note_accept_error(&"all connections are in use, the next ones wait");
                room.enter().await.ok_or_else(closed)?
            }
        };
        let socket = waiting.take().ok_or_else(closed)?;
        Ok((socket, permit))
    }

    async fn accept(&self) -> io::Result<AcceptedSocket> {
        Ok(match &self.socket {
            BoundSocket::Tcp(listener) => {
                let stream = listener.accept().await?.0;
                stream.set_nodelay(true)?;
                AcceptedSocket::Tcp(stream.into_std()?)
            }
            BoundSocket::Unix { listener, .. } => {
                AcceptedSocket::Unix(listener.accept().await?.0.into_std()?)
            }
        })
    }
}

/// The error for what cannot happen.
fn closed() -> io::Error {
    io::Error::other("the listener is closed")
}

/// Removes a Unix socket that no process listens on any more.
fn remove_stale(path: &Path) -> io::Result<()> {
    use std::os::unix::{fs::FileTypeExt, net::UnixStream};
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens on it",
        )),
    }
}
