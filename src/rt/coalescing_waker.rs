//! What wakes a task, with a hand on it: some of what rings has nothing to tell.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Wake, Waker},
};

/// Stands between a task and what may wake it. While it is held it only counts.
#[derive(Debug, Default)]
pub struct CoalescingWaker {
    task: Mutex<Option<Waker>>,
    held: AtomicBool,
    /// How often it rang while it was held.
    count: AtomicU32,
}

impl CoalescingWaker {
    /// From now on it wakes the task of `waker`.
    pub fn wakes(&self, waker: &Waker) {
        let mut task = self.task();
        if !task.as_ref().is_some_and(|task| task.will_wake(waker)) {
            *task = Some(waker.clone());
        }
    }

    /// From now on it counts, beginning with none.
    pub fn suppress(&self) {
        self.count.store(0, Ordering::Relaxed);
        self.held.store(true, Ordering::Relaxed);
    }

    /// How often it rang since it is held.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// Wakes the task again, and now if it rang more than `idly` times.
    pub fn release(&self, idly: u32) {
        self.held.store(false, Ordering::SeqCst);
        if self.count() > idly {
            self.wake_task();
        }
    }

    fn wake_task(&self) {
        if let Some(task) = &*self.task() {
            task.wake_by_ref();
        }
    }

    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for CoalescingWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.held.load(Ordering::SeqCst) {
            self.count.fetch_add(1, Ordering::SeqCst);
            // Whoever let go of it meanwhile may not have seen that.
            if self.held.load(Ordering::SeqCst) {
                return;
            }
        }
        self.wake_task();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_bell_counts_and_wakes_only_for_more_than_was_expected() {
        struct Task(AtomicU32);
        impl Wake for Task {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let task = Arc::new(Task(AtomicU32::new(0)));
        let woken = || task.0.load(Ordering::Relaxed);
        let bell = Arc::new(CoalescingWaker::default());
        let waker = Waker::from(bell.clone());
        waker.wake_by_ref();
        bell.wakes(&Waker::from(task.clone()));
        waker.wake_by_ref();
        assert_eq!(woken(), 1);
        for (rings, wakes) in [(0, 0), (1, 0), (2, 1)] {
            let before = woken();
            bell.suppress();
            (0..rings).for_each(|_| waker.wake_by_ref());
            assert_eq!((bell.count(), woken()), (rings, before));
            bell.release(1);
            assert_eq!(woken() - before, wakes);
        }
    }
}
