//! Reads that wait for a thread, and the threads.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::{
    sync::oneshot,
    task::spawn_blocking,
    time::{Duration, Instant},
};

/// How many reads go on at once, beside those that hang. Each usually takes far less than a millisecond.
pub(super) const MOST_READS: usize = 3;

/// How many may hang before no thread is replaced any more.
pub(super) const MOST_HANGING: usize = 7;

/// How many may hang in a folder before no other read begins there.
pub(super) const MOST_HANGING_IN_A_FOLDER: usize = 2;

/// The most threads that reads take.
pub const MOST_THREADS: usize = MOST_READS + MOST_HANGING;

/// Reads that wait, and the threads that take them.
#[derive(Default)]
pub(super) struct ReadQueue(Mutex<PendingReads>);

#[derive(Default)]
struct PendingReads {
    waiting: VecDeque<WaitingRead>,
    threads: Vec<ReadThread>,
    /// The id of the next thread.
    next: u64,
    /// Whether a task looks for threads that hang.
    watched: bool,
}

struct WaitingRead {
    folder: Option<u64>,
    /// Gone when nobody wants it any more.
    wanted: Weak<()>,
    run: Box<dyn FnOnce() + Send>,
}

/// A thread that takes reads from the queue.
struct ReadThread {
    id: u64,
    /// When its read began.
    since: Instant,
    /// A hash of the folder of its read.
    folder: Option<u64>,
    hangs: bool,
}

/// Removes a thread when it ends, or is not started after all.
struct ReadThreadGuard {
    queue: Arc<ReadQueue>,
    id: u64,
}

impl ReadThreadGuard {
    fn begin(self) {
        spawn_blocking(move || self.queue.take_all(self.id));
    }
}

impl Drop for ReadThreadGuard {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.threads.retain(|thread| thread.id != self.id);
    }
}

impl ReadQueue {
    /// Adds a read in `folder`, which is left out if it has not begun when `wanted` is gone.
    pub(super) fn add<T: Send + 'static>(
        self: &Arc<Self>,
        folder: Option<&Path>,
        wanted: Weak<()>,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (done, reading) = oneshot::channel();
        let run = Box::new(move || {
            // Whoever wanted it may have given up.
            if !done.is_closed() {
                let _ = done.send(read());
            }
        });
        let folder = folder.map(hashed);
        let mut state = self.lock();
        state.waiting.push_back(WaitingRead {
            folder,
            wanted,
            run,
        });
        let thread = self.another_thread(&mut state);
        drop(state);
        thread.into_iter().for_each(ReadThreadGuard::begin);
        reading
    }

    /// Whether the caller is to watch for threads that hang, because nobody does.
    pub(super) fn begin_watch(&self) -> bool {
        !std::mem::replace(&mut self.lock().watched, true)
    }

    pub(super) fn end_watch(&self) {
        self.lock().watched = false;
    }

    pub(super) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.waiting.is_empty() && state.threads.is_empty()
    }

    /// Other threads go on for those whose read began longer ago than `limit`.
    pub(super) fn replace_hanging(self: &Arc<Self>, limit: Duration) {
        let mut state = self.lock();
        for thread in &mut state.threads {
            thread.hangs |= thread.since.elapsed() >= limit;
        }
        let missing = MOST_READS.min(state.waiting.len());
        let more = (0..missing).filter_map(|_| self.another_thread(&mut state));
        let more: Vec<_> = more.collect();
        drop(state);
        more.into_iter().for_each(ReadThreadGuard::begin);
    }

    /// Adds another thread, if there may be one. It is to begin when the lock is free: it may end at once.
    fn another_thread(self: &Arc<Self>, state: &mut PendingReads) -> Option<ReadThreadGuard> {
        if state.going_on() >= MOST_READS || state.threads.len() >= MOST_THREADS {
            return None;
        }
        let id = state.next;
        state.next += 1;
        state.threads.push(ReadThread {
            id,
            since: Instant::now(),
            folder: None,
            hangs: false,
        });
        let queue = self.clone();
        Some(ReadThreadGuard { queue, id })
    }

    /// Reads until nothing waits, or until others do enough.
    fn take_all(&self, id: u64) {
        while let Some(run) = self.next(id) {
            // Whoever wanted it is told, since the closure is dropped.
            let _ = catch_unwind(AssertUnwindSafe(run));
        }
    }

    fn next(&self, id: u64) -> Option<Box<dyn FnOnce() + Send>> {
        let mut state = self.lock();
        let others = state.going_on_beside(id);
        let at = state.threads.iter().position(|thread| thread.id == id)?;
        let next = match others < MOST_READS {
            true => state.next_read(),
            // It hung, and was replaced.
            false => None,
        };
        let Some(next) = next else {
            // Under the same lock, so that a read that is added now gets a thread.
            state.threads.swap_remove(at);
            return None;
        };
        let thread = &mut state.threads[at];
        (thread.since, thread.folder, thread.hangs) = (Instant::now(), next.folder, false);
        Some(next.run)
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, PendingReads> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingReads {
    /// Takes the first read that is wanted and in no folder where too many hang.
    fn next_read(&mut self) -> Option<WaitingRead> {
        let (waiting, threads) = (&mut self.waiting, &self.threads);
        let is_wanted = |read: &WaitingRead| read.wanted.strong_count() > 0;
        let may_begin = |read: &WaitingRead| {
            let there = threads.iter().filter(|thread| thread.folder == read.folder);
            let hanging = there.filter(|thread| thread.hangs).count();
            read.folder.is_none() || hanging < MOST_HANGING_IN_A_FOLDER
        };
        while waiting.front().is_some_and(|read| !is_wanted(read)) {
            waiting.pop_front();
        }
        if waiting.front().is_some_and(may_begin) {
            return waiting.pop_front();
        }
        // Those that wait for a folder must not pile up.
        waiting.retain(is_wanted);
        let at = waiting.iter().position(may_begin)?;
        waiting.remove(at)
    }

    fn going_on(&self) -> usize {
        self.threads.iter().filter(|thread| !thread.hangs).count()
    }

    fn going_on_beside(&self, id: u64) -> usize {
        let others = self.threads.iter().filter(|thread| thread.id != id);
        others.filter(|thread| !thread.hangs).count()
    }
}

fn hashed(folder: &Path) -> u64 {
    let mut hash = DefaultHasher::new();
    folder.hash(&mut hash);
    hash.finish()
}
