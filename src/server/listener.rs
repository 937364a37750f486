//! Binds the addresses that apps connect to, and accepts and counts connections.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use futures_util::FutureExt;
use rustix::io::Errno;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, watch},
    time::{Duration, sleep},
};

use super::{Drain, ListenAddr, Workers, worker::AcceptedSocket};
use crate::{
    net::listen_addr::LOCALHOST,
    os::{AsFd, UnixListener, bind_unix_socket},
    proxy::{
        ListenerInfo,
        guard::{AppTls, Exposure},
    },
};

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    address: ListenAddr,
    socket: BoundSocket,
    speaks: Speaks,
}

/// What apps speak at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Speaks {
    /// The key of the configuration that has the addresses of such listeners.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Http => "listen",
            Self::Https => "tls-listen",
        }
    }
}

/// Sets the account whose calls come in at a listener; `None` for all accounts. The listener closes when this is
/// dropped.
pub type SocketOwner = watch::Sender<Option<Arc<str>>>;

#[derive(Debug)]
enum BoundSocket {
    Tcp(TcpListener),
    /// Both families of localhost, with one port.
    Localhost(TcpListener, TcpListener),
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

/// How often a port is chosen until it is free in both families.
const ATTEMPTS: usize = 16;

/// How many connections wait in the system's queue at most. The standard library has 128, and what comes beyond that in
/// a burst seems to be connected, and is not.
const QUEUE: i32 = 4096;

/// Lets that many wait. A system that allows fewer has its own limit.
fn lengthen_queue(socket: &impl AsFd) {
    let _ = rustix::net::listen(socket, QUEUE);
}

impl Listener {
    /// Binds `address`, where apps speak so. A Unix socket is for plain HTTP only.
    pub async fn bind(address: &ListenAddr, speaks: Speaks) -> io::Result<Self> {
        let (address, socket) = bind_alone(address).await?;
        match &socket {
            BoundSocket::Tcp(socket) => lengthen_queue(socket),
            BoundSocket::Localhost(v4, v6) => {
                lengthen_queue(v4);
                lengthen_queue(v6);
            }
            BoundSocket::Unix { listener, .. } => lengthen_queue(listener),
        }
        Ok(Self {
            address,
            socket,
            speaks,
        })
    }

    /// The bound address, with the port that the system chose.
    pub fn address(&self) -> &ListenAddr {
        &self.address
    }

    /// What apps speak there.
    pub fn speaks(&self) -> Speaks {
        self.speaks
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
            ListenAddr::Tcp(_) | ListenAddr::Localhost(_) => Exposure::Open,
        };
        let listener_info = |account| ListenerInfo {
            exposure,
            account,
            tls: AppTls::Absent,
        };
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
            BoundSocket::Tcp(listener) => self.accepted(listener.accept().await)?,
            BoundSocket::Localhost(v4, v6) => self.accepted(tokio::select! {
                accepted = v4.accept() => accepted,
                accepted = v6.accept() => accepted,
            })?,
            BoundSocket::Unix { listener, .. } => {
                AcceptedSocket::Unix(listener.accept().await?.0.into_std()?)
            }
        })
    }

    fn accepted(&self, stream: io::Result<(TcpStream, SocketAddr)>) -> io::Result<AcceptedSocket> {
        let (stream, _) = stream?;
        stream.set_nodelay(true)?;
        let stream = stream.into_std()?;
        Ok(match self.speaks {
            Speaks::Http => AcceptedSocket::Tcp(stream),
            Speaks::Https => AcceptedSocket::Tls(stream),
        })
    }
}

async fn bind_alone(address: &ListenAddr) -> io::Result<(ListenAddr, BoundSocket)> {
    match address {
        ListenAddr::Tcp(address) => {
            let socket = TcpListener::bind(address).await?;
            let address = ListenAddr::Tcp(socket.local_addr()?);
            Ok((address, BoundSocket::Tcp(socket)))
        }
        ListenAddr::Localhost(port) => {
            let (port, socket) = bind_localhost(*port).await?;
            Ok((ListenAddr::Localhost(port), socket))
        }
        ListenAddr::Unix(path) => {
            let listener = bind_unix_socket(path)?;
            let _file = RemovedOnDrop(path.clone());
            Ok((address.clone(), BoundSocket::Unix { listener, _file }))
        }
    }
}

/// Binds the loopback address of each family that this machine has. Returns the port, which both have.
async fn bind_localhost(port: u16) -> io::Result<(u16, BoundSocket)> {
    let mut attempts = ATTEMPTS;
    loop {
        let v4 = bind_loopback(LOCALHOST[0], port).await?;
        let chosen = match &v4 {
            Some(listener) => listener.local_addr()?.port(),
            None => port,
        };
        attempts -= 1;
        let v6 = match bind_loopback(LOCALHOST[1], chosen).await {
            // The port that the system chose for one family may be taken in the other.
            Err(_) if port == 0 && attempts > 0 => continue,
            v6 => v6?,
        };
        return match (v4, v6) {
            (Some(v4), Some(v6)) => Ok((chosen, BoundSocket::Localhost(v4, v6))),
            (Some(one), None) | (None, Some(one)) => {
                Ok((one.local_addr()?.port(), BoundSocket::Tcp(one)))
            }
            (None, None) => Err(io::ErrorKind::AddrNotAvailable.into()),
        };
    }
}

/// Binds a loopback address. `None` if this machine does not have it.
async fn bind_loopback(ip: IpAddr, port: u16) -> io::Result<Option<TcpListener>> {
    match TcpListener::bind((ip, port)).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(None),
        // The system knows no such family.
        Err(error) if error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) => Ok(None),
        Err(error) => {
            let address = SocketAddr::new(ip, port);
            Err(io::Error::new(error.kind(), format!("{address}: {error}")))
        }
    }
}

/// The error for what cannot happen.
fn closed() -> io::Error {
    io::Error::other("the listener is closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn localhost_is_one_port_of_both_families() {
        let listener = Listener::bind(&ListenAddr::Localhost(0), Speaks::Http)
            .await
            .unwrap();
        let ListenAddr::Localhost(port) = *listener.address() else {
            panic!("{:?}", listener.address())
        };
        assert_ne!(port, 0);
        for ip in LOCALHOST {
            TcpStream::connect((ip, port)).await.unwrap();
        }
        let taken = Listener::bind(&ListenAddr::Localhost(port), Speaks::Http).await;
        assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn a_port_that_another_program_has_in_one_family_is_not_shared_with_it() {
        let other = TcpListener::bind((LOCALHOST[1], 0)).await.unwrap();
        let port = other.local_addr().unwrap().port();
        let taken = Listener::bind(&ListenAddr::Localhost(port), Speaks::Http).await;
        let error = taken.unwrap_err().to_string();
        assert!(error.contains(&format!("[::1]:{port}")), "{error}");
    }
}
