//! Connections to WeChat that wait for their next call: the last one in is the first one out.

use std::{
    future::poll_fn,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    sync::Notify,
    task::yield_now,
    time::{Duration, Instant},
};

use super::connection::Connection;
use crate::rt::count_guard::CountGuard;

/// How long a connection may wait; WeChat closes its own later.
const MOST_IDLE: Duration = Duration::from_secs(15);

/// Before a connection unused for longer than this is used again, the runtime gets a turn: it may
/// not have heard yet that WeChat closed it. A connection in steady use is hardly ever closed.
const LISTEN_AFTER: Duration = Duration::from_millis(20);

/// The waiting connections of one worker.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// Never held across an await, and only by one worker's thread.
    idle: Mutex<Vec<(Box<Connection>, Instant)>>,
    /// Calls that wait because no more connections may be opened.
    waiting: AtomicUsize,
    freed: Notify,
}

impl Pool {
    /// A connection that can take a call now.
    pub(super) async fn take(&self) -> Option<Box<Connection>> {
        // Where one turns out to be closed, others may be, too.
        let mut care = false;
        loop {
            let (mut link, since) = self.lock().pop()?;
            let waited = since.elapsed();
            if waited > MOST_IDLE {
                continue;
            }
            if care || waited > LISTEN_AFTER {
                // What the sockets have to say is delivered before this goes on.
                yield_now().await;
            }
            if link.is_quiet() || poll_fn(|cx| Poll::Ready(link.is_open(cx))).await {
                return Some(link);
            }
            care = true;
        }
    }

    /// A connection as soon as another call gives one back.
    pub(super) async fn wait(&self) -> Box<Connection> {
        let _waiting = CountGuard::on(&self.waiting);
        loop {
            if let Some(link) = self.take().await {
                return link;
            }
            self.freed.notified().await;
        }
    }

    /// Takes back a connection whose reply is through.
    pub(super) fn put(&self, link: Box<Connection>) {
        if link.is_free() {
            self.lock().push((link, Instant::now()));
            if self.waiting.load(Ordering::Relaxed) > 0 {
                self.freed.notify_one();
            }
        }
    }

    /// How many connections wait, and how many of those, the youngest `most`, can still take a call after
    /// `pause`. The task of `cx` is woken when one of them is closed.
    pub(super) fn ready(
        &self,
        most: usize,
        pause: Duration,
        cx: &mut Context<'_>,
    ) -> (usize, usize) {
        let mut idle = self.lock();
        let lasting = idle.iter_mut().rev().filter_map(|(link, since)| {
            (since.elapsed() + pause <= MOST_IDLE && link.is_open(cx)).then_some(())
        });
        let ready = lasting.take(most).count();
        idle.retain(|(link, _)| link.is_free());
        (idle.len(), ready)
    }

    /// Closes what has waited too long.
    pub(super) fn sweep(&self) {
        self.lock()
            .retain(|(_, since)| since.elapsed() <= MOST_IDLE);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Box<Connection>, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
