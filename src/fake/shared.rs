//! What the connections of a fake share.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::{Notify, futures::Notified, watch};

use super::state::WechatState;

/// The state that the connections share.
pub(super) struct Fake {
    state: Mutex<WechatState>,
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
    pub(super) fn new(state: WechatState) -> Self {
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            close_idle: watch::Sender::new(()),
            open: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, WechatState> {
        self.state
            .lock()
            // Only a test's own change panics while it holds the state.
            .unwrap_or_else(PoisonError::into_inner)
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
