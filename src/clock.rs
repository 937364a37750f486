//! What time it is, asked once for all that happens at once.

use std::cell::Cell;

use tokio::time::Instant;

thread_local! {
    static GLANCE: Cell<Reading> = const { Cell::new(Reading::Each) };
}

/// What [`now`] says on this thread.
#[derive(Clone, Copy)]
enum Reading {
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
pub struct Glance(());

impl Glance {
    /// From now on; for no longer than one poll of a task.
    pub fn begin() -> Self {
        GLANCE.set(Reading::Unread);
        Self(())
    }
}

impl Drop for Glance {
    fn drop(&mut self) {
        GLANCE.set(Reading::Each);
    }
}

/// The time.
pub fn now() -> Instant {
    match GLANCE.get() {
        Reading::Read(now) => now,
        Reading::Each => Instant::now(),
        Reading::Unread => {
            let now = Instant::now();
            GLANCE.set(Reading::Read(now));
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
        let glance = Glance::begin();
        advance(Duration::from_secs(1)).await;
        let glanced = now();
        advance(Duration::from_secs(1)).await;
        assert_eq!((glanced - began, now()), (Duration::from_secs(1), glanced));
        drop(glance);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(now() - began, Duration::from_secs(3));
    }
}
