//! The listener, its connections, and the state that they share.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, futures::Notified, watch},
    task::JoinSet,
    time::Duration,
};
use tokio_rustls::TlsAcceptor;

use super::{state::State, wire};

/// The state that the connections share.
pub(super) struct Fake {
    state: Mutex<State>,
    /// Notified when something was recorded, or a connection was opened or closed.
    changed: Notify,
    /// Tells connections to close once they are idle.
    pub(super) close_idle: watch::Sender<()>,
    pub(super) open: AtomicUsize,
    pub(super) accepted: AtomicUsize,
    requests: AtomicU64,
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fake").finish_non_exhaustive()
    }
}

impl Fake {
    pub(super) fn new(state: State) -> Self {
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            close_idle: watch::Sender::new(()),
            open: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while it holds the fake's state, save a test's own change")
    }

    /// Wakes all tasks that wait for something to arrive.
    pub(super) fn changed(&self) {
        self.changed.notify_waiters();
    }

    /// The next change from now on, even if it is awaited later.
    pub(super) fn next_change(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// The number of a request that begins now.
    pub(super) fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// Counts a connection while this lives.
struct Counted(Arc<Fake>);

impl Counted {
    fn new(fake: Arc<Fake>) -> (Self, u64) {
        let number = fake.accepted.fetch_add(1, Ordering::SeqCst) + 1;
        fake.open.fetch_add(1, Ordering::SeqCst);
        fake.changed();
        (Self(fake), number as u64)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
        self.0.changed();
    }
}

/// The connections are tasks of this set, so they end with it.
pub(super) async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, fake: Arc<Fake>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, tls.clone(), fake.clone()));
                }
                // The process probably has too many open files. Wait until some are closed.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, fake: Arc<Fake>) {
    let (counted, number) = Counted::new(fake);
    // Without it, small pieces would be delayed. An error does not matter.
    let _ = stream.set_nodelay(true);
    match tls {
        None => wire::serve(&counted.0, stream, number).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                wire::serve(&counted.0, stream, number).await;
            }
        }
    }
}
