//! The timer of the current task, which all deadlines of its futures share.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    task::{Context, Waker},
};

use tokio::{
    task::coop::has_budget_remaining,
    time::{Duration, Instant, Sleep, sleep_until},
};

thread_local! {
    static CURRENT: RefCell<Option<TaskTimer>> = const { RefCell::new(None) };
}

/// The timer of a task. It wakes the task no later than requested. All deadlines of the task share it, so the task may
/// be woken too early. It then sets the timer again.
#[derive(Debug)]
struct TaskTimer {
    /// The waker of the task. Deadlines wake the task itself, whatever waker they are polled with.
    waker: Waker,
    sleep: Option<Pin<Box<Sleep>>>,
    /// The time at which it fires, if it is set.
    at: Option<Instant>,
}

impl TaskTimer {
    fn new(waker: &Waker) -> Self {
        Self {
            waker: waker.clone(),
            sleep: None,
            at: None,
        }
    }

    fn set(&mut self, due: Instant, now: Instant) {
        if self.at.is_some_and(|at| now < at && at <= due) {
            return;
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if sleep.deadline() != due {
            sleep.as_mut().reset(due);
        }
        // Without budget the timer returns `Pending` and does not register the waker.
        self.at = has_budget_remaining().then_some(due);
        let polled = sleep.as_mut().poll(&mut Context::from_waker(&self.waker));
        if polled.is_ready() {
            self.at = None;
            self.waker.wake_by_ref();
        }
    }
}

/// Gives the deadlines within `future` a timer that they share. The task must always be polled with the same waker, as
/// spawned tasks are.
pub async fn share_timer<F: Future + Unpin>(mut future: F) -> F::Output {
    let mut kept: Option<TaskTimer> = None;
    poll_fn(|cx| {
        let timer = match kept.take() {
            Some(timer) if timer.waker.will_wake(cx.waker()) => timer,
            _ => TaskTimer::new(cx.waker()),
        };
        let entered = TimerGuard::enter(timer);
        let ready = Pin::new(&mut future).poll(cx);
        kept = entered.leave();
        ready
    })
    .await
}

/// Wakes the task at `due`, which is later than `now`, or before. Returns false if the task has no shared timer.
fn wake_at(due: Instant, now: Instant) -> bool {
    CURRENT.with_borrow_mut(|timer| match timer {
        Some(timer) => {
            timer.set(due, now);
            true
        }
        None => false,
    })
}

/// Makes a timer the current one while this lives. Dropping it, even by a panic, restores the one before.
struct TimerGuard {
    outer: Option<TaskTimer>,
}

impl TimerGuard {
    fn enter(timer: TaskTimer) -> Self {
        let outer = CURRENT.replace(Some(timer));
        Self { outer }
    }

    fn leave(mut self) -> Option<TaskTimer> {
        let timer = CURRENT.replace(self.outer.take());
        mem::forget(self);
        timer
    }
}

impl Drop for TimerGuard {
    fn drop(&mut self) {
        CURRENT.replace(self.outer.take());
    }
}

/// A time limit, counted from the first poll after a [`stop`](Self::stop). It costs nothing while it is stopped.
#[derive(Debug, Default)]
pub struct Deadline {
    since: Option<Instant>,
    /// A timer of its own, for a task without a shared one.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Ends the wait.
    pub fn stop(&mut self) {
        self.since = None;
    }

    /// Whether the wait has lasted for `limit`. If not, the task is woken when it has.
    pub fn poll_elapsed(&mut self, limit: Duration, cx: &mut Context<'_>) -> bool {
        let now = Instant::now();
        let due = *self.since.get_or_insert(now) + limit;
        self.is_past(due, now, cx)
    }

    /// Whether `due` has passed, whatever earlier polls were given. If not, the task is woken then.
    pub fn poll_due(&mut self, due: Instant, cx: &mut Context<'_>) -> bool {
        self.is_past(due, Instant::now(), cx)
    }

    fn is_past(&mut self, due: Instant, now: Instant, cx: &mut Context<'_>) -> bool {
        if due <= now {
            return true;
        }
        if wake_at(due, now) {
            return false;
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if due < sleep.deadline() {
            sleep.as_mut().reset(due);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            // The timer may have been set for an earlier wait.
            if due <= Instant::now() {
                return true;
            }
            sleep.as_mut().reset(due);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        task::{Poll, Wake},
    };

    use tokio::time::advance;

    use super::*;

    #[derive(Default)]
    struct WakeCount(AtomicU32);

    impl Wake for WakeCount {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl WakeCount {
        fn take(&self) -> u32 {
            self.0.swap(0, Ordering::Relaxed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_timer_wakes_a_task_no_later_than_anybody_asked() {
        let task = Arc::new(WakeCount::default());
        let waker = Waker::from(task.clone());
        let began = Instant::now();
        let asked = RefCell::new(vec![5, 3, 9]);
        let asking = Box::pin(poll_fn(|_| {
            for seconds in asked.borrow().iter() {
                assert!(wake_at(
                    began + Duration::from_secs(*seconds),
                    Instant::now()
                ));
            }
            Poll::<()>::Pending
        }));
        let mut known = pin!(share_timer(asking));
        let mut poll = |seconds: &[u64]| {
            *asked.borrow_mut() = seconds.to_vec();
            let _ = known.as_mut().poll(&mut Context::from_waker(&waker));
        };
        poll(&[5, 3, 9]);
        advance(Duration::from_secs(2)).await;
        assert_eq!(task.take(), 0);
        // Nothing waits for 3 s any more. The task is woken too early, and sets the timer again.
        poll(&[5, 9]);
        advance(Duration::from_secs(1)).await;
        assert_eq!(task.take(), 1);
        poll(&[9, 5]);
        advance(Duration::from_secs(1)).await;
        assert_eq!(task.take(), 0);
        advance(Duration::from_secs(1)).await;
        assert_eq!(task.take(), 1);
        // A deadline that has passed wakes the task at once.
        poll(&[4]);
        assert_eq!(task.take(), 1);
        assert!(!wake_at(began, began));
    }

    #[test]
    fn a_task_that_panics_leaves_no_timer_behind() {
        let fails = share_timer(Box::pin(poll_fn(|_| -> Poll<()> {
            assert!(CURRENT.with_borrow(Option::is_some));
            panic!("of this task")
        })));
        let mut fails = Box::pin(fails);
        let mut cx = Context::from_waker(Waker::noop());
        let failed = catch_unwind(AssertUnwindSafe(|| fails.as_mut().poll(&mut cx)));
        assert!(failed.is_err() && CURRENT.with_borrow(Option::is_none));
    }
}
