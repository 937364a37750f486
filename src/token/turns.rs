//! Whose token request goes next: one that a call waits for goes at once, and all others go a few at a time.
//!
//! | request | in flight at most | a second at most |
//! |---|---|---|
//! | a call waits for it | 60 | |
//! | nobody waits for it, and it may ask WeChat | 4 | 20 |
//! | nobody waits for it, and it asks a file or a server of the operator's own | 4 | |
//!
//! The three never wait for each other, and each is served in the order of arrival. A turn that nobody waits for ends
//! after two seconds, though its request goes on: sources that hang, and waits for another replica, hold up the others
//! for no longer than that. Where a file or a server is asked for a call, that takes no turn.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Duration, Instant, sleep_until, timeout},
};

/// How many requests are in flight that calls wait for. With those that nobody waits for, WeChat sees 64 at most.
const WANTED: usize = 60;

/// How many requests of a kind are in flight that nobody waits for.
const BACKGROUND: usize = 4;

/// How long a request keeps a turn that nobody waits for.
const LONGEST: Duration = Duration::from_secs(2);

/// The time between the beginnings of two requests to WeChat that nobody waits for.
const GAP: Duration = Duration::from_millis(50);

/// Whom a request may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// WeChat or WeCom.
    Wechat,
    /// A file, or a server of the operator's own.
    Nearby,
}

/// The turns of all accounts' token requests.
#[derive(Debug)]
pub struct FetchTurns {
    wanted: Arc<Semaphore>,
    background: Arc<Semaphore>,
    nearby: Arc<Semaphore>,
    throttle: Mutex<Throttle>,
}

/// The turn of one request, which ends when this is dropped.
#[derive(Debug)]
pub struct FetchTurn {
    permit: Option<OwnedSemaphorePermit>,
    /// How long it lasts; `None` for as long as the request.
    longest: Option<Duration>,
}

/// When the next request may begin that nobody waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Throttle {
    next: Option<Instant>,
}

impl Throttle {
    /// When a request may begin that is next at `now`, and the throttle after it.
    fn step(self, now: Instant) -> (Instant, Self) {
        let at = self.next.map_or(now, |next| next.max(now));
        let next = Some(at + GAP);
        (at, Self { next })
    }
}

impl Default for FetchTurns {
    fn default() -> Self {
        Self {
            wanted: Arc::new(Semaphore::new(WANTED)),
            background: Arc::new(Semaphore::new(BACKGROUND)),
            nearby: Arc::new(Semaphore::new(BACKGROUND)),
            throttle: Mutex::default(),
        }
    }
}

impl FetchTurns {
    /// Waits for the turn of a request that a call waits for.
    pub async fn wanted(&self, asks: Asks) -> FetchTurn {
        match asks {
            Asks::Wechat => FetchTurn::of(&self.wanted).await,
            Asks::Nearby => FetchTurn::free(),
        }
    }

    /// Waits for the turn of a request that nobody waits for. It leaves the queue when this is dropped.
    pub async fn background(&self, asks: Asks) -> FetchTurn {
        match asks {
            Asks::Nearby => FetchTurn::of(&self.nearby).await.up_to(LONGEST),
            Asks::Wechat => {
                let turn = FetchTurn::of(&self.background).await.up_to(LONGEST);
                let at = {
                    let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
                    let (at, next) = throttle.step(Instant::now());
                    *throttle = next;
                    at
                };
                sleep_until(at).await;
                turn
            }
        }
    }
}

impl FetchTurn {
    /// A turn where none is needed.
    pub fn free() -> Self {
        Self {
            permit: None,
            longest: None,
        }
    }

    /// Makes `request`, to its end. The turn may end earlier.
    pub async fn spend<T>(self, request: impl Future<Output = T>) -> T {
        let mut request = pin!(request);
        if let Some(longest) = self.longest
            && let Ok(result) = timeout(longest, request.as_mut()).await
        {
            return result;
        }
        // One that has no end of its own lasts as long as the request.
        let _kept = self.permit.filter(|_| self.longest.is_none());
        request.await
    }

    fn up_to(self, longest: Duration) -> Self {
        Self {
            longest: Some(longest),
            ..self
        }
    }

    async fn of(turns: &Arc<Semaphore>) -> Self {
        // It is never closed.
        let permit = turns.clone().acquire_owned().await.ok();
        Self {
            permit,
            longest: None,
        }
    }
}

#[cfg(test)]
mod tests;
