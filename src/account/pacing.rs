//! How fast an account's calls follow one another: a bucket for each rule of `pace`, and a queue in front of it.

mod bucket;
mod rule;

use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};

use tokio::{
    sync::Mutex,
    time::{Duration, Instant, sleep, timeout},
};

use bucket::Bucket;
pub use bucket::Rate;
pub use rule::PaceRule;

/// The most calls that wait for their turn by one rule.
const LONGEST_QUEUE: u32 = 10_000;

/// Timers are coarse, and a call that waited for its turn is not turned down for a few milliseconds.
const SLACK: Duration = Duration::from_millis(100);

/// The rules of an account, in their order, and how long a call may wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PacingOptions {
    /// The first one whose pattern matches counts.
    pub rules: Vec<PaceRule>,
    /// The longest wait for a turn.
    pub wait: Duration,
}

/// The pacing of an account that has rules.
#[derive(Debug)]
pub struct Pacing {
    queues: Box<[Arc<PaceQueue>]>,
    wait: Duration,
}

/// Its turn would come too late.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the app calls faster than pace = {rule:?} of this account allows, and too many calls wait already: nothing was sent; call less often, or try again in {} s",
    self.seconds()
)]
pub struct TooFast {
    rule: String,
    turn_in: Duration,
}

/// The calls of one rule.
#[derive(Debug)]
struct PaceQueue {
    rule: PaceRule,
    state: StdMutex<QueueState>,
    /// Who holds it is the next one. It is handed on in the order of arrival.
    turn: Mutex<()>,
}

#[derive(Debug)]
struct QueueState {
    bucket: Bucket,
    waiting: u32,
}

/// A place in a queue, which is free again when this is dropped.
struct QueuePlace<'a>(&'a PaceQueue);

impl Pacing {
    /// The pacing by `options`; `None` if there are no rules. A rule that was there before goes on as it was.
    pub fn new(options: &PacingOptions, before: Option<&Self>) -> Option<Arc<Self>> {
        let queue = |rule: &PaceRule| {
            let mut known = before.iter().flat_map(|before| before.queues.iter());
            let same = known.find(|queue| queue.rule == *rule);
            same.map_or_else(|| Arc::new(PaceQueue::new(rule.clone())), Arc::clone)
        };
        let queues: Box<[_]> = options.rules.iter().map(queue).collect();
        let wait = options.wait;
        (!queues.is_empty()).then(|| Arc::new(Self { queues, wait }))
    }

    /// Waits until a call to `path` may go. Returns how long that took; zero if it may go at once.
    pub async fn turn(&self, path: &[u8]) -> Result<Duration, TooFast> {
        match self.queue(path) {
            Some(queue) => queue.turn(self.wait).await,
            None => Ok(Duration::ZERO),
        }
    }

    /// A call to `path` goes in any case, and those behind it have to wait for its part, too.
    pub fn debit(&self, path: &[u8]) {
        if let Some(queue) = self.queue(path) {
            queue.state().bucket.debit(Instant::now());
        }
    }

    /// How many calls wait for their turn now.
    pub fn waiting(&self) -> u32 {
        self.queues.iter().map(|queue| queue.state().waiting).sum()
    }

    fn queue(&self, path: &[u8]) -> Option<&Arc<PaceQueue>> {
        let mut queues = self.queues.iter();
        queues.find(|queue| queue.rule.pattern.matches(path))
    }
}

impl TooFast {
    /// When its turn would have come.
    pub fn retry_after(&self) -> Duration {
        self.turn_in
    }

    fn seconds(&self) -> u64 {
        self.turn_in.as_secs_f64().ceil().max(1.0) as u64
    }
}

impl PaceQueue {
    fn new(rule: PaceRule) -> Self {
        let bucket = Bucket::new(rule.rate, Instant::now());
        let state = QueueState { bucket, waiting: 0 };
        Self {
            rule,
            state: StdMutex::new(state),
            turn: Mutex::default(),
        }
    }

    async fn turn(&self, longest: Duration) -> Result<Duration, TooFast> {
        let began = Instant::now();
        let Some(place) = self.queue_up(began, longest)? else {
            return Ok(Duration::ZERO);
        };
        // A replay may push back those who wait, so the time that was foretold is not certain.
        let waited = timeout(longest + SLACK, self.wait_for_turn()).await;
        drop(place);
        match waited {
            Ok(()) => Ok(began.elapsed()),
            Err(_) => Err(self.too_fast(self.state().time_to_next(Instant::now()))),
        }
    }

    /// A place in the queue; `None` for a call that may go at once.
    fn queue_up(&self, now: Instant, longest: Duration) -> Result<Option<QueuePlace<'_>>, TooFast> {
        let mut state = self.state();
        if state.waiting == 0 && state.bucket.take(now).is_ok() {
            return Ok(None);
        }
        let turn_in = state.time_to_next(now);
        if turn_in > longest || state.waiting >= LONGEST_QUEUE {
            return Err(self.too_fast(turn_in));
        }
        state.waiting += 1;
        Ok(Some(QueuePlace(self)))
    }

    async fn wait_for_turn(&self) {
        let _next = self.turn.lock().await;
        loop {
            let taken = self.state().bucket.take(Instant::now());
            match taken {
                Ok(()) => return,
                Err(time) => sleep(time).await,
            }
        }
    }

    fn too_fast(&self, turn_in: Duration) -> TooFast {
        let rule = self.rule.text.clone();
        TooFast { rule, turn_in }
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueState {
    /// How long it takes until a call has its turn that comes now.
    fn time_to_next(&mut self, now: Instant) -> Duration {
        self.bucket.time_to(self.waiting + 1, now)
    }
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

#[cfg(test)]
mod tests;
