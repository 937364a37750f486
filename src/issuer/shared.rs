//! One token for all replicas: what others have put in the store is used; one at a time fetches.
//!
//! Whoever wants another token looks into the store first. Who finds none takes the lease, looks
//! again, makes sure of the lease, fetches, and puts the token in place of what it saw, by value; the
//! others wait for that. Without the store a token in hand goes on, and a few fetches are allowed.

mod budget;
mod fetch;
mod follow;
mod known;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::{Duration, Instant, sleep};

use super::{
    Issue, IssueError, Issued, Wanted,
    store::{Owner, Store, StoreError},
};
use crate::{
    metrics::{AccountMetrics, Cause, Kept, StoreEvent},
    token::Token,
};
use known::Known;

/// How often to look what others have put in place.
const LOOK: Duration = Duration::from_secs(30);

/// The same, while the store is away, or lacks the token in hand.
const LOOK_SOON: Duration = Duration::from_secs(2);

/// Shares the tokens of one account with other replicas.
pub struct Shared<I, S> {
    inner: I,
    store: S,
    /// Fetches of all replicas a day above which refusals cause none.
    daily_fetches: u32,
    metrics: Arc<AccountMetrics>,
    /// This replica.
    replica: Owner,
    /// Never held across an await.
    known: Box<Mutex<Known>>,
}

impl<I: Issue, S: Store> Shared<I, S> {
    /// Shares what `inner` brings by `store`. Refusals cause no fetch when all replicas together
    /// have made `daily_fetches` in a day.
    pub fn new(inner: I, store: S, daily_fetches: u32, metrics: Arc<AccountMetrics>) -> Self {
        Self {
            inner,
            store,
            daily_fetches,
            metrics,
            replica: Owner::random(),
            known: Box::default(),
        }
    }

    /// Whether the store answered the last time it was asked.
    pub fn answers(&self) -> bool {
        self.known().away().is_none()
    }

    /// The store is away: `error` is what it failed with.
    async fn alone(
        &self,
        wanted: &Wanted,
        owner: &Owner,
        mut error: StoreError,
    ) -> Result<Issued, IssueError> {
        let serves = |token: &Arc<Token>| wanted.cause == Cause::Renewal && token.is_fresh();
        if wanted.instead_of.as_ref().is_some_and(serves) {
            return Err(IssueError::Store(error));
        }
        let until = Instant::now() + self.known().patience();
        while Instant::now() < until {
            sleep(Duration::from_millis(fastrand::u64(200..400))).await;
            match self.through(wanted, owner).await {
                Ok(outcome) => return outcome,
                Err(latest) => error = latest,
            }
        }
        let refused = wanted.cause == Cause::Refusal;
        if !self.known().spend(self.daily_fetches, refused) {
            return Err(IssueError::Store(error));
        }
        self.metrics.store(StoreEvent::Alone);
        tracing::warn!(
            cause = wanted.cause.label(),
            "a token is fetched without the store"
        );
        let outcome = self.ask(wanted).await;
        let mut known = self.known();
        match &outcome {
            Ok(issued) => known.fetched(&issued.token, None),
            Err(error) => {
                known.failed(error);
                known.refund(error);
            }
        }
        outcome
    }

    /// Notes how the store is to those who read.
    fn read<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        self.heard(answer, |known| &mut known.unreadable)
    }

    /// Notes how the store is to those who write.
    fn written<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        self.heard(answer, |known| &mut known.unwritable)
    }

    fn heard<T>(
        &self,
        answer: Result<T, StoreError>,
        which: fn(&mut Known) -> &mut Option<Instant>,
    ) -> Result<T, StoreError> {
        let mut known = self.known();
        let was_away = known.away().is_some();
        match &answer {
            Ok(_) => *which(&mut known) = None,
            Err(_) => {
                which(&mut known).get_or_insert_with(Instant::now);
                self.metrics.store(StoreEvent::Error);
            }
        }
        let is_away = known.away().is_some();
        known.waited &= is_away;
        drop(known);
        match &answer {
            Ok(_) if was_away && !is_away => tracing::info!("the store of shared tokens is back"),
            Err(error) if !was_away => {
                tracing::warn!(%error, "the store of shared tokens is away; tokens in hand go on");
            }
            Ok(_) | Err(_) => {}
        }
        answer
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I: Issue, S: Store> Issue for Shared<I, S> {
    async fn issue(&self, wanted: Wanted) -> Result<Issued, IssueError> {
        let issuing = Issuing::begin(&self.known, &wanted);
        let owner = Owner::random();
        let outcome = match self.through(&wanted, &owner).await {
            Ok(outcome) => outcome,
            Err(error) => self.alone(&wanted, &owner, error).await,
        };
        if self.known().perhaps_leased {
            self.release(&owner).await;
        }
        if let Ok(issued) = &outcome {
            self.known().has(&issued.token);
        }
        drop(issuing);
        if self.answers() && self.known().is_to_attend() {
            let _ = self.attend().await;
        }
        outcome
    }

    async fn look(&self) -> Option<Token> {
        self.follow().await
    }

    fn circumstances(&self) -> u16 {
        self.inner.circumstances()
    }

    fn kept(&self) -> Kept {
        self.inner.kept()
    }

    fn look_every(&self) -> Option<Duration> {
        let known = self.known();
        Some(match known.away() {
            // Soon at first, so that a restart is over as soon as it is.
            Some(since) => (since.elapsed() / 10).clamp(LOOK_SOON, LOOK),
            None if known.unshared => LOOK_SOON,
            None => LOOK,
        })
    }
}

/// While a token is being issued nobody looks.
struct Issuing<'a>(&'a Mutex<Known>);

impl<'a> Issuing<'a> {
    fn begin(known: &'a Mutex<Known>, wanted: &Wanted) -> Self {
        let mut locked = known.lock().unwrap_or_else(PoisonError::into_inner);
        locked.begins(wanted);
        drop(locked);
        Self(known)
    }
}

impl Drop for Issuing<'_> {
    fn drop(&mut self) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.ends();
    }
}

impl<I, S> fmt::Debug for Shared<I, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
