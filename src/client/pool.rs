//! Idle connections to WeChat. The most recently used one is reused first.

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

/// How long a connection may be idle. WeChat closes idle connections later.
const MAX_IDLE: Duration = Duration::from_secs(15);

/// Before a connection is reused that was idle for longer than this, the task yields to the runtime, which may
/// not know yet that WeChat closed it. Connections in steady use are hardly ever closed.
const YIELD_AFTER: Duration = Duration::from_millis(20);

/// The idle connections of one worker.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// Never held across an await, and only by one worker's thread.
    idle: Mutex<Vec<(Box<Connection>, Instant)>>,
    /// The number of calls that wait because no more connections may be opened.
    waiting: AtomicUsize,
    freed: Notify,
}

impl Pool {
    /// Takes a connection that is ready for a call.
    pub(super) async fn take(&self) -> Option<Box<Connection>> {
        // If one connection was closed, others probably were, too.
        let mut found_closed = false;
        loop {
            let (mut connection, since) = self.lock().pop()?;
            let waited = since.elapsed();
            if waited > MAX_IDLE {
                continue;
            }
            if found_closed || waited > YIELD_AFTER {
                // The runtime processes socket events before this task runs again.
                yield_now().await;
            }
            if connection.has_no_event()
                || poll_fn(|cx| Poll::Ready(connection.check_open(cx))).await
            {
                return Some(connection);
            }
            found_closed = true;
        }
    }

    /// Waits for a connection that another call returns.
    pub(super) async fn wait(&self) -> Box<Connection> {
        let _waiting = CountGuard::on(&self.waiting);
        loop {
            if let Some(connection) = self.take().await {
                return connection;
            }
            self.freed.notified().await;
        }
    }

    /// Returns a connection whose call has ended.
    pub(super) fn put(&self, connection: Box<Connection>) {
        if connection.is_free() {
            self.lock().push((connection, Instant::now()));
            if self.waiting.load(Ordering::Relaxed) > 0 {
                self.freed.notify_one();
            }
        }
    }

    /// Checks connections until `max` are found that will still be usable after `pause`, and drops those that WeChat
    /// has closed. Returns how many are idle, and how many of these were found usable. The task of `cx` is woken when
    /// one of the latter is closed.
    pub(super) fn evict_closed_and_count_ready(
        &self,
        max: usize,
        pause: Duration,
        cx: &mut Context<'_>,
    ) -> (usize, usize) {
        let mut idle = self.lock();
        let mut ready = 0;
        for (connection, since) in idle.iter_mut().rev() {
            if ready == max {
                break;
            }
            if since.elapsed() + pause <= MAX_IDLE && connection.check_open(cx) {
                ready += 1;
            }
        }
        // A connection that the check found closed is not free.
        idle.retain(|(connection, _)| connection.is_free());
        (idle.len(), ready)
    }

    /// Closes connections that were idle for too long.
    pub(super) fn sweep(&self) {
        self.lock().retain(|(_, since)| since.elapsed() <= MAX_IDLE);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Box<Connection>, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
