//! The worker threads that serve calls. Each has its own runtime and its own connections to WeChat.

use std::{
    fmt::Display,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use bytes::Bytes;
use tokio::{
    net::TcpStream,
    runtime,
    sync::{Mutex, OwnedSemaphorePermit, mpsc, oneshot},
    time::{Duration, timeout},
};

use super::{
    Drain, Options,
    app_connection::Tunnel,
    connection::{reject_connection, serve_connection},
    context::WorkerState,
    handshake::{Accepted, HandshakeError, accept},
    room::Room,
    stream::AppStream,
};
use crate::{
    metrics::{GaugeGuard, Metrics},
    net::tls::ServerCertificates,
    os::{StdUnixStream, UnixStream},
    problems::{Kind, Occurrence},
    proxy::{ListenerInfo, Proxy, cause::HeadFault, guard::AppTls},
    rt::task::share_timer,
};

/// A connection that the listener accepted and hands to a worker.
#[derive(Debug)]
pub(super) enum AcceptedSocket {
    Tcp(std::net::TcpStream),
    /// TLS follows.
    Tls(std::net::TcpStream),
    Unix(StdUnixStream),
}

enum Job {
    Serve(AcceptedSocket, ListenerInfo, OwnedSemaphorePermit),
    Ping(oneshot::Sender<()>),
    /// The last job: end with the last connection.
    Finish,
    /// End now, whatever calls there are.
    Cut,
}

/// How long threads may take to end when they are told to end now.
const CUT_LIMIT: Duration = Duration::from_millis(500);

/// All workers.
#[derive(Debug)]
pub struct Workers {
    jobs: Vec<mpsc::UnboundedSender<Job>>,
    next: AtomicUsize,
    room: Arc<Room>,
    /// Is closed when all threads have ended.
    metrics: Arc<Metrics>,
    /// Ends when all threads have.
    ended: Mutex<mpsc::Receiver<()>>,
}

impl Workers {
    /// Starts the threads. `proxy` creates the proxy of each. With `certificates`, apps may speak TLS.
    pub fn start(
        options: Options,
        drain: &Drain,
        metrics: &Arc<Metrics>,
        certificates: Option<Arc<dyn ServerCertificates>>,
        mut proxy: impl FnMut() -> Proxy,
    ) -> io::Result<Self> {
        let mut jobs = Vec::new();
        let (alive, ended) = mpsc::channel(1);
        let room = Arc::new(Room::new(options.max_connections));
        for at in 0..options.workers {
            let (sender, receiver) = mpsc::unbounded_channel();
            let state = Arc::new(WorkerState {
                proxy: proxy(),
                options,
                drain: drain.clone(),
                metrics: metrics.clone(),
                room: room.clone(),
                certificates: certificates.clone(),
                active: AtomicUsize::new(0),
            });
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let alive = alive.clone();
            thread::Builder::new()
                .name(format!("worker-{at}"))
                .spawn(move || {
                    runtime.block_on(work(receiver, state));
                    // Calls that are cut end with it, and are recorded.
                    drop(runtime);
                    drop(alive);
                })?;
            jobs.push(sender);
        }
        Ok(Self {
            jobs,
            next: AtomicUsize::new(0),
            room,
            metrics: metrics.clone(),
            ended: Mutex::new(ended),
        })
    }

    /// Lets each thread end with its last connection. Returns whether all did within `grace`.
    pub async fn finish(&self, grace: Duration) -> bool {
        for jobs in &self.jobs {
            // This fails if the thread has ended already.
            let _ = jobs.send(Job::Finish);
        }
        let mut ended = self.ended.lock().await;
        if timeout(grace, ended.recv()).await.is_ok() {
            return true;
        }
        for jobs in &self.jobs {
            let _ = jobs.send(Job::Cut);
        }
        // A thread that hangs does not keep the process.
        let _ = timeout(CUT_LIMIT, ended.recv()).await;
        false
    }

    /// Whether every worker answers within `limit`.
    pub async fn answer_within(&self, limit: Duration) -> bool {
        for jobs in &self.jobs {
            let (pong, answer) = oneshot::channel();
            if jobs.send(Job::Ping(pong)).is_err() || timeout(limit, answer).await.is_err() {
                return false;
            }
        }
        true
    }

    /// The room for connections of apps.
    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    /// Notes that connections of apps wait or fail, and why.
    pub(super) fn note_accept_error(&self, cause: &dyn Display) {
        let cause = Some(cause);
        let what = Occurrence {
            cause,
            ..Occurrence::default()
        };
        let problems = &self.metrics.nobody.problems;
        problems.occurred(Kind::AcceptErrors, what);
    }

    /// Hands an accepted connection to the next worker.
    pub(super) fn hand(
        &self,
        socket: AcceptedSocket,
        listener: ListenerInfo,
        permit: OwnedSemaphorePermit,
    ) {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.jobs.len();
        // This cannot fail: a worker ends only with the process.
        let _ = self.jobs[at].send(Job::Serve(socket, listener, permit));
    }
}

async fn work(mut jobs: mpsc::UnboundedReceiver<Job>, state: Arc<WorkerState>) {
    let sweeping = state.clone();
    let sweep = tokio::spawn(async move { sweeping.proxy.pools().sweep().await });
    let (open, mut all_gone) = mpsc::channel::<()>(1);
    while let Some(job) = jobs.recv().await {
        match job {
            Job::Finish | Job::Cut => break,
            Job::Ping(pong) => drop(pong.send(())),
            Job::Serve(socket, listener, permit) => {
                let (state, open) = (state.clone(), open.clone());
                tokio::spawn(async move {
                    let counted =
                        GaugeGuard::new(state.metrics.clone(), |metrics| &metrics.app_connections);
                    let served = share_timer(Box::pin(take_over(socket, listener, state)));
                    if let Err(error) = served.await {
                        tracing::debug!(%error, "a connection could not be taken over");
                    }
                    drop((permit, counted, open));
                });
            }
        }
    }
    sweep.abort();
    drop(open);
    let cut = async { while !matches!(jobs.recv().await, Some(Job::Cut) | None) {} };
    tokio::select! {
        // Nothing is ever sent. This waits until the last connection drops its sender.
        _ = all_gone.recv() => {}
        () = cut => state.proxy.calls_are_cut(),
    }
}

async fn take_over(
    socket: AcceptedSocket,
    mut listener: ListenerInfo,
    worker: Arc<WorkerState>,
) -> io::Result<()> {
    let offered = worker.certificates.is_some();
    let tunnel = match socket {
        AcceptedSocket::Unix(socket) => {
            let stream = AppStream::Unix(UnixStream::from_std(socket)?);
            serve_connection(stream, listener, worker).await;
            return Ok(());
        }
        AcceptedSocket::Tcp(socket) => {
            let stream = AppStream::Tcp(TcpStream::from_std(socket)?);
            if offered {
                listener.tls = AppTls::Offered;
            }
            serve_connection(stream, listener.clone(), worker.clone()).await
        }
        AcceptedSocket::Tls(socket) => {
            let (socket, early) = (TcpStream::from_std(socket)?, Bytes::new());
            Some(Tunnel { socket, early })
        }
    };
    if let Some(tunnel) = tunnel {
        // Boxed, because connections without TLS need no memory for it.
        Box::pin(serve_tls(tunnel, listener, worker)).await;
    }
    Ok(())
}

/// Serves a connection on which TLS begins.
async fn serve_tls(tunnel: Tunnel, listener: ListenerInfo, worker: Arc<WorkerState>) {
    let Some(certificates) = &worker.certificates else {
        return;
    };
    let accepted = accept(tunnel.socket, tunnel.early, &**certificates, &worker.drain).await;
    match accepted {
        Ok(Accepted {
            stream,
            server_name,
        }) => {
            let listener = ListenerInfo {
                tls: AppTls::Present(server_name),
                ..listener
            };
            serve_connection(AppStream::Tls(stream), listener, worker).await;
        }
        Err(HandshakeError::NotTls(socket)) => {
            reject_connection(AppStream::Tcp(socket), HeadFault::NotTls, &worker).await;
        }
        Err(HandshakeError::Silent | HandshakeError::Stopped) => {}
        Err(error) => {
            tracing::debug!(%error, "a TLS handshake with an app failed");
            let cause = Some(&error as &dyn Display);
            let what = Occurrence {
                cause,
                ..Occurrence::default()
            };
            let problems = &worker.metrics.nobody.problems;
            problems.occurred(Kind::TlsHandshake, what);
        }
    }
}
