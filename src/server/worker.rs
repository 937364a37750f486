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

use tokio::{
    net::{TcpStream, UnixStream},
    runtime,
    sync::{Mutex, OwnedSemaphorePermit, mpsc, oneshot},
    time::{Duration, timeout},
};

use super::{
    Drain, Options, connection::serve_connection, context::WorkerState, room::Room,
    stream::AppStream,
};
use crate::{
    metrics::{GaugeGuard, Metrics},
    problems::{Kind, Occurrence},
    proxy::{ListenerInfo, Proxy},
    rt::task::share_timer,
};

/// A connection that the listener accepted and hands to a worker.
#[derive(Debug)]
pub(super) enum AcceptedSocket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
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
    /// Starts the threads. `proxy` creates the proxy of each.
    pub fn start(
        options: Options,
        drain: &Drain,
        metrics: &Arc<Metrics>,
        mut proxy: impl FnMut() -> Proxy,
    ) -> io::Result<Self> {
        let mut jobs = Vec::new();
        let (alive, ended) = mpsc::channel(1);
        let room = Arc::new(Room::new(options.max_connections));
        for at in 0..options.workers {
            let (sender, receiver) = mpsc::unbounded_channel();
            let (drain, metrics) = (drain.clone(), metrics.clone());
            let state = WorkerState::new(proxy(), options, drain, metrics, room.clone());
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
    listener: ListenerInfo,
    worker: Arc<WorkerState>,
) -> io::Result<()> {
    let stream = match socket {
        AcceptedSocket::Tcp(stream) => AppStream::Tcp(TcpStream::from_std(stream)?),
        AcceptedSocket::Unix(stream) => AppStream::Unix(UnixStream::from_std(stream)?),
    };
    serve_connection(stream, listener, worker).await;
    Ok(())
}
