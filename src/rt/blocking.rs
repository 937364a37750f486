//! Threads for reads that may block. A few are enough for any number of files.
//!
//! A few threads take read after read from a queue, so thousands that are wanted at once wake no thousand threads. A
//! read that hangs keeps its thread, and another one goes on with the queue. That is bounded: while two reads hang in a
//! folder, others in it wait and those behind them go first, and when seven hang in all, there is no further replacement.

mod queue;

use std::{
    path::Path,
    sync::{Arc, LazyLock},
};

use tokio::time::{Duration, Instant, sleep};

pub use queue::MOST_THREADS;
use queue::ReadQueue;

/// When a read takes longer, it hangs.
const HANGS_AFTER: Duration = Duration::from_millis(100);

/// How long a read may wait for others that it begins with.
const GATHERED: Duration = Duration::from_millis(100);

thread_local! {
    /// One for each runtime, since the clock of a runtime may stand still while it knows of a read of its own.
    static QUEUE: Arc<ReadQueue> = Arc::default();
}

/// Calls `read` on a thread that may block. Returns `None` if it panics. If this is dropped, a read that has begun
/// goes on, and one that has not is left out.
pub async fn blocking<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    QUEUE.with(Arc::clone).read(None, read).await
}

/// The same for a read of the file at `path`, which waits while others in its folder hang.
pub async fn blocking_at<T: Send + 'static>(
    path: &Path,
    read: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    QUEUE.with(Arc::clone).read(path.parent(), read).await
}

impl ReadQueue {
    async fn read<T: Send + 'static>(
        self: Arc<Self>,
        folder: Option<&Path>,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        // While it lives, somebody wants the read.
        let wanted = Arc::new(());
        let reading = self.add(folder, Arc::downgrade(&wanted), read);
        if self.begin_watch() {
            tokio::spawn(self.watch());
        }
        let read = reading.await.ok();
        drop(wanted);
        read
    }

    /// Replaces threads that hang, as long as there are any.
    async fn watch(self: Arc<Self>) {
        let watch = WatchGuard(self);
        while !watch.0.is_idle() {
            sleep(HANGS_AFTER).await;
            watch.0.replace_hanging(HANGS_AFTER);
        }
    }
}

/// Ends the watch when this is dropped.
struct WatchGuard(Arc<ReadQueue>);

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.0.end_watch();
    }
}

/// Waits for the next of ten moments a second, at which what is read every few seconds is read together. So thousands of
/// files wake a thread ten times a second, and not thousands of times.
pub async fn gather() {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let since = Instant::now().saturating_duration_since(*BEGIN).as_millis();
    let left = GATHERED.as_millis() - since % GATHERED.as_millis();
    sleep(Duration::from_millis(
        u64::try_from(left).unwrap_or_default(),
    ))
    .await;
}

/// How many reads of this runtime have not begun.
#[cfg(test)]
pub(crate) fn waiting() -> usize {
    QUEUE.with(|queue| queue.waiting())
}

#[cfg(test)]
mod tests;
