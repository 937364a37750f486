//! Connections to WeChat that wait for their next call: the last one in is the first one out.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use http::HeaderValue;
use hyper::client::conn::http1::SendRequest;
use tokio::{
    sync::Notify,
    task::yield_now,
    time::{Duration, Instant, timeout},
};

use super::{Outgoing, wire::Progress};
use crate::clock::Clock;

/// How long a connection may wait; WeChat closes its own later.
const MOST_IDLE: Duration = Duration::from_secs(15);

/// Before a connection unused for longer than this is used again, the runtime gets a turn: it may
/// not have heard yet that WeChat closed it. A connection in steady use is hardly ever closed.
const LISTEN_AFTER: Duration = Duration::from_millis(20);

/// How long a connection may take to notice that its call is over.
const A_MOMENT: Duration = Duration::from_millis(10);

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) sender: SendRequest<Outgoing>,
    pub(super) progress: Arc<Progress>,
    pub(super) authority: HeaderValue,
    /// How long the reply may take.
    pub(super) clock: Clock,
}

/// The waiting connections of one worker.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// Never held across an await, and only by one worker's thread.
    idle: Mutex<Vec<(Link, Instant)>>,
    /// Calls that wait because no more connections may be opened.
    waiting: AtomicUsize,
    freed: Notify,
}

impl Pool {
    /// A connection that can take a call now.
    pub(super) async fn take(&self) -> Option<Link> {
        loop {
            let (mut link, since) = self.lock().pop()?;
            let waited = since.elapsed();
            if waited > MOST_IDLE || link.sender.is_closed() {
                continue;
            }
            if waited > LISTEN_AFTER {
                // What the sockets have to say is delivered before this goes on.
                yield_now().await;
                if link.sender.is_closed() {
                    continue;
                }
            }
            // The reply is through, so this waits for no network; if it does, something is amiss.
            if let Ok(Ok(())) = timeout(A_MOMENT, link.sender.ready()).await {
                return Some(link);
            }
        }
    }

    /// A connection as soon as another call gives one back.
    pub(super) async fn wait(&self) -> Link {
        let _waiting = Waiting::among(&self.waiting);
        loop {
            if let Some(link) = self.take().await {
                return link;
            }
            self.freed.notified().await;
        }
    }

    /// Takes back a connection whose reply is through.
    pub(super) fn put(&self, link: Link) {
        if link.progress.is_through() && !link.sender.is_closed() {
            self.lock().push((link, Instant::now()));
            if self.waiting.load(Ordering::Relaxed) > 0 {
                self.freed.notify_one();
            }
        }
    }

    /// Closes what has waited too long.
    pub(super) fn sweep(&self) {
        self.lock()
            .retain(|(link, since)| since.elapsed() <= MOST_IDLE && !link.sender.is_closed());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Link, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One more that waits, until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn among(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
