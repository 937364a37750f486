//! The waker and the timer of the current task, for futures that are polled through combinators with wakers of their own.

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
    static CURRENT: RefCell<Option<CurrentTask>> = const { RefCell::new(None) };
}

/// The task that is being polled.
#[derive(Debug)]
struct CurrentTask {
    waker: Waker,
    timer: Timer,
}

/// A timer that wakes its task no later than requested. All deadlines of a task share it, so a task may be woken too
/// early. It then sets the timer again.
#[derive(Debug, Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// When it fires, if it is set.
    at: Option<Instant>,
}

impl Timer {
    fn set(&mut self, due: Instant, now: Instant, waker: &Waker) {
        if self.at.is_some_and(|at| now < at && at <= due) {
            return;
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if sleep.deadline() != due {
            sleep.as_mut().reset(due);
        }
        // Without budget the timer returns `Pending` and does not register the waker.
        self.at = has_budget_remaining().then_some(due);
        let polled = sleep.as_mut().poll(&mut Context::from_waker(waker));
        if polled.is_ready() {
            self.at = None;
            waker.wake_by_ref();
        }
    }
}

/// Makes the task available to the futures within `future`. The task must always be polled with the same waker, as
/// spawned tasks are.
pub async fn scope<F: Future + Unpin>(mut future: F) -> F::Output {
    let mut kept: Option<CurrentTask> = None;
    poll_fn(|cx| {
        let polled = match kept.take() {
            Some(polled) if polled.waker.will_wake(cx.waker()) => polled,
            _ => CurrentTask {
                waker: cx.waker().clone(),
                timer: Timer::default(),
            },
        };
        let entered = ScopeGuard::now(polled);
        let ready = Pin::new(&mut future).poll(cx);
        kept = entered.leave();
        ready
    })
    .await
}

/// Calls `poll` with the waker of the task, whatever waker `cx` has. `poll` must not use the current task otherwise.
pub fn with_task_waker<T>(cx: &mut Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
    CURRENT.with_borrow(|polled| match polled {
        Some(polled) => poll(&mut Context::from_waker(&polled.waker)),
        None => poll(cx),
    })
}

/// Wakes the task at `due`, which is later than `now`, or before. Returns false if there is no current task.
fn wake_at(due: Instant, now: Instant) -> bool {
    CURRENT.with_borrow_mut(|polled| match polled {
        Some(CurrentTask { waker, timer }) => {
            timer.set(due, now, waker);
            true
        }
        None => false,
    })
}

/// Makes a task the current one while this lives. Dropping it, even by a panic, restores the one before.
struct ScopeGuard {
    outer: Option<CurrentTask>,
}

impl ScopeGuard {
    fn now(polled: CurrentTask) -> Self {
        let outer = CURRENT.replace(Some(polled));
        Self { outer }
    }

    fn leave(mut self) -> Option<CurrentTask> {
        let polled = CURRENT.replace(self.outer.take());
        mem::forget(self);
        polled
    }
}

impl Drop for ScopeGuard {
    fn drop(&mut self) {
        CURRENT.replace(self.outer.take());
    }
}

/// A time limit, counted from the first poll after a [`stop`](Self::stop). It costs nothing while it is stopped.
#[derive(Debug, Default)]
pub struct Deadline {
    since: Option<Instant>,
    /// A timer of its own, if there is no current task.
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
        let mut known = pin!(scope(asking));
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
    fn what_is_polled_past_others_wakes_the_task_itself() {
        let (task, other) = (
            Arc::new(WakeCount::default()),
            Arc::new(WakeCount::default()),
        );
        let (of_task, of_other) = (Waker::from(task.clone()), Waker::from(other.clone()));
        let mut between = Context::from_waker(&of_other);
        let mut ring = || with_task_waker(&mut between, |cx| cx.waker().wake_by_ref());
        ring();
        assert_eq!((task.take(), other.take()), (0, 1));
        let known = scope(Box::pin(poll_fn(|_| -> Poll<()> {
            ring();
            Poll::Pending
        })));
        let _ = pin!(known).poll(&mut Context::from_waker(&of_task));
        assert_eq!((task.take(), other.take()), (1, 0));
        let fails = super::scope(Box::pin(poll_fn(|_| -> Poll<()> {
            panic!("of this task")
        })));
        let mut fails = Box::pin(fails);
        let mut cx = Context::from_waker(&of_task);
        let failed = catch_unwind(AssertUnwindSafe(|| fails.as_mut().poll(&mut cx)));
        assert!(failed.is_err() && CURRENT.with_borrow(Option::is_none));
    }
}
