//! Threads that carry calls, each with a runtime and connections to WeChat of its own.

use std::{
    convert::Infallible,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use http::{HeaderMap, HeaderValue, Request, Version, header};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    runtime,
    sync::{Mutex, OwnedSemaphorePermit, mpsc, oneshot},
    time::{Duration, timeout},
};

use super::{
    Farewell, Options,
    watch::{Life, Tracked, Watched},
};
use crate::{
    body::Inbound,
    metrics::{Counted, Metrics},
    proxy::{Proxy, Reply, error::Failure, guard::Door},
};

/// The head of a call, and so what a connection costs, at most.
const LARGEST_HEAD: usize = 64 * 1024;

/// How often a connection is looked at while the process ends.
const LAST_LOOK: Duration = Duration::from_millis(500);

/// After how many looks a head that is still arriving is given up.
const PATIENT_LOOKS: u32 = 6;

/// A connection on its way from the acceptor to a worker.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

enum Job {
    Serve(Socket, Door, OwnedSemaphorePermit),
    Ping(oneshot::Sender<()>),
    /// Nothing comes after this.
    Finish,
}

/// All workers.
#[derive(Debug)]
pub struct Workers {
    jobs: Vec<mpsc::UnboundedSender<Job>>,
    next: AtomicUsize,
    /// Ends when all threads have.
    ended: Mutex<mpsc::Receiver<()>>,
}

/// What a worker's connections share.
struct Shared {
    proxy: Proxy,
    options: Options,
    farewell: Farewell,
    metrics: Arc<Metrics>,
}

impl Workers {
    /// Starts the threads; `proxy` makes each its own.
    pub fn start(
        options: Options,
        farewell: &Farewell,
        metrics: &Arc<Metrics>,
        mut proxy: impl FnMut() -> Proxy,
    ) -> io::Result<Self> {
        let mut jobs = Vec::new();
        let (alive, ended) = mpsc::channel(1);
        for at in 0..options.workers {
            let (sender, receiver) = mpsc::unbounded_channel();
            let shared = Arc::new(Shared {
                proxy: proxy(),
                options,
                farewell: farewell.clone(),
                metrics: metrics.clone(),
            });
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let alive = alive.clone();
            thread::Builder::new()
                .name(format!("worker-{at}"))
                .spawn(move || {
                    runtime.block_on(work(receiver, shared));
                    drop(alive);
                })?;
            jobs.push(sender);
        }
        Ok(Self {
            jobs,
            next: AtomicUsize::new(0),
            ended: Mutex::new(ended),
        })
    }

    /// Lets the threads end with their last connection, and says whether they did within `grace`.
    pub async fn finish(&self, grace: Duration) -> bool {
        for jobs in &self.jobs {
            // It has ended already if this fails.
            let _ = jobs.send(Job::Finish);
        }
        timeout(grace, async { self.ended.lock().await.recv().await })
            .await
            .is_ok()
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

    pub(super) fn hand(&self, socket: Socket, door: Door, permit: OwnedSemaphorePermit) {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.jobs.len();
        // A worker ends only with the process.
        let _ = self.jobs[at].send(Job::Serve(socket, door, permit));
    }
}

async fn work(mut jobs: mpsc::UnboundedReceiver<Job>, shared: Arc<Shared>) {
    let sweeping = shared.clone();
    let sweep = tokio::spawn(async move { sweeping.proxy.upstream().sweep().await });
    let (open, mut all_gone) = mpsc::channel::<()>(1);
    while let Some(job) = jobs.recv().await {
        match job {
            Job::Finish => break,
            Job::Ping(pong) => drop(pong.send(())),
            Job::Serve(socket, door, permit) => {
                let (shared, open) = (shared.clone(), open.clone());
                tokio::spawn(async move {
                    let counted =
                        Counted::new(shared.metrics.clone(), |metrics| &metrics.app_connections);
                    if let Err(error) = serve(socket, door, shared).await {
                        tracing::debug!(%error, "a connection could not be taken over");
                    }
                    drop((permit, counted, open));
                });
            }
        }
    }
    sweep.abort();
    drop(open);
    // Nothing is ever sent: this waits for the last connection.
    let _ = all_gone.recv().await;
}

async fn serve(socket: Socket, door: Door, shared: Arc<Shared>) -> io::Result<()> {
    match socket {
        Socket::Tcp(stream) => converse(TcpStream::from_std(stream)?, door, shared).await,
        Socket::Unix(stream) => converse(UnixStream::from_std(stream)?, door, shared).await,
    }
    Ok(())
}

/// Serves one connection to its end.
async fn converse<S>(stream: S, door: Door, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let life = Life::new();
    let io = Watched::new(stream, life.clone(), shared.options.idle_timeout);
    let service = service_fn(|call| {
        let (shared, life) = (shared.clone(), life.clone());
        async move { Ok::<_, Infallible>(answer(call, door, &shared, &life).await) }
    });
    let connection = http1::Builder::new()
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = shared.farewell.drained() => {
            connection.as_mut().graceful_shutdown();
            let mut looks = 0;
            loop {
                if let Ok(ended) = timeout(LAST_LOOK, connection.as_mut()).await {
                    break ended;
                }
                // What never carried a call is not idle to hyper; and a head that does not come to
                // its end is not worth the grace of the others.
                looks += u32::from(life.is_reading());
                if life.is_unused() || (life.is_reading() && looks > PATIENT_LOOKS) {
                    break Ok(());
                }
            }
        }
    };
    if let Err(error) = ended {
        // In hyper's fixed words: its causes may quote what was on the wire.
        let (timeout, parse) = (error.is_timeout(), error.is_parse());
        tracing::debug!(timeout, parse, "an app's connection ended early");
    }
}

async fn answer(
    call: Request<Incoming>,
    door: Door,
    shared: &Shared,
    life: &Arc<Life>,
) -> http::Response<Tracked> {
    let chunked = call.headers().contains_key(header::TRANSFER_ENCODING);
    let length = (!chunked).then(|| call.body().size_hint().exact().unwrap_or_default());
    let head_was_sound = life.call_begins(length) && (!chunked || only_chunked(call.headers()));
    let busy = life.busy();
    let awaits_continue =
        call.version() >= Version::HTTP_11 && call.headers().contains_key(header::EXPECT);
    let idle = shared.options.idle_timeout;
    let call = call.map(|body| Inbound::new(body, idle, awaits_continue, busy.clone()));
    let mut reply = if head_was_sound {
        shared.proxy.handle(call, door).await
    } else {
        let failure = Failure::Malformed(
            "it has both Content-Length and Transfer-Encoding, or a coding other than chunked"
                .to_owned(),
        );
        closing(shared.proxy.turn_down(&failure))
    };
    if shared.farewell.is_leaving() {
        reply = closing(reply);
    }
    reply.map(|body| Tracked::new(body, busy))
}

/// Whether chunks are all that there is to undo: nobody here could undo more.
fn only_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let first = codings.next().map(HeaderValue::as_bytes);
    let chunked = first.is_some_and(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"));
    chunked && codings.next().is_none()
}

fn closing(mut reply: Reply) -> Reply {
    reply
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    reply
}
