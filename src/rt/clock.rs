//! What time it is, asked once for all that happens at once.

use std::cell::Cell;

use tokio::time::Instant;

thread_local! {
    static GLANCE: Cell<Cached> = const { Cell::new(Cached::Each) };
}

/// What [`now`] says on this thread.
#[derive(Clone, Copy)]
enum Cached {
    /// The time at each question.
    Each,
    /// The time of the first question, and nobody has asked.
    Unread,
    /// That.
    Read(Instant),
}

/// While it lives, all questions on this thread are answered with one look at the clock: a call asks
/// a dozen times in what takes microseconds.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct CachedNow(());

impl CachedNow {
    /// From now on; for no longer than one poll of a task.
    pub fn begin() -> Self {
        GLANCE.set(Cached::Unread);
        Self(())
    }
}

impl Drop for CachedNow {
    fn drop(&mut self) {
        GLANCE.set(Cached::Each);
    }
}

/// The time.
pub fn now() -> Instant {
    match GLANCE.get() {
        Cached::Read(now) => now,
        Cached::Each => Instant::now(),
        Cached::Unread => {
            let now = Instant::now();
            GLANCE.set(Cached::Read(now));
            now
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, advance, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_glance_is_one_look_and_what_follows_looks_again() {
        let began = now();
        let glance = CachedNow::begin();
        advance(Duration::from_secs(1)).await;
        let glanced = now();
        advance(Duration::from_secs(1)).await;
        assert_eq!((glanced - began, now()), (Duration::from_secs(1), glanced));
        drop(glance);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(now() - began, Duration::from_secs(3));
    }
}
