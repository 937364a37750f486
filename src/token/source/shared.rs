//! One token for all replicas: what others have put in the store is used; one at a time fetches.
//!
//! Whoever wants another token looks into the store first. Who finds none takes the lease, looks
//! again, makes sure of the lease, fetches, and puts the token in place of what it saw, by value; the
//! others wait for that. Without the store a token in hand goes on, and a few fetches are allowed.

mod budget;
mod fetch;
mod follow;
mod replica_state;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::{Duration, Instant, sleep};

use super::{
    FetchRequest, FetchedToken, TokenError, TokenSource,
    store::{LeaseId, Store, StoreError},
};
use crate::{
    metrics::{AccountMetrics, Cause, Kept, StoreEvent},
    token::Token,
};
use replica_state::ReplicaState;

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
    replica: LeaseId,
    /// Never held across an await.
    state: Box<Mutex<ReplicaState>>,
}

impl<I: TokenSource, S: Store> Shared<I, S> {
    /// Shares what `inner` brings by `store`. Refusals cause no fetch when all replicas together
    /// have made `daily_fetches` in a day.
    pub fn new(inner: I, store: S, daily_fetches: u32, metrics: Arc<AccountMetrics>) -> Self {
        Self {
            inner,
            store,
            daily_fetches,
            metrics,
            replica: LeaseId::random(),
            state: Box::default(),
        }
    }

    /// Whether the store answered the last time it was asked.
    pub fn answers(&self) -> bool {
        self.state().away().is_none()
    }

    /// The store is away: `error` is what it failed with.
    async fn fetch_unshared(
        &self,
        wanted: &FetchRequest,
        owner: &LeaseId,
        mut error: StoreError,
    ) -> Result<FetchedToken, TokenError> {
        let serves = |token: &Arc<Token>| wanted.cause == Cause::Renewal && token.is_fresh();
        if wanted.current.as_ref().is_some_and(serves) {
            return Err(TokenError::Store(error));
        }
        let until = Instant::now() + self.state().patience();
        while Instant::now() < until {
            sleep(Duration::from_millis(fastrand::u64(200..400))).await;
            match self.fetch_leased(wanted, owner).await {
                Ok(outcome) => return outcome,
                Err(latest) => error = latest,
            }
        }
        let refused = wanted.cause == Cause::Refusal;
        if !self.state().spend(self.daily_fetches, refused) {
            return Err(TokenError::Store(error));
        }
        self.metrics.store(StoreEvent::Alone);
        tracing::warn!(
            cause = wanted.cause.label(),
            "a token is fetched without the store"
        );
        let outcome = self.ask(wanted).await;
        let mut known = self.state();
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
        which: fn(&mut ReplicaState) -> &mut Option<Instant>,
    ) -> Result<T, StoreError> {
        let mut known = self.state();
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

    fn state(&self) -> MutexGuard<'_, ReplicaState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I: TokenSource, S: Store> TokenSource for Shared<I, S> {
    async fn fetch(&self, wanted: FetchRequest) -> Result<FetchedToken, TokenError> {
        let issuing = FetchGuard::begin(&self.state, &wanted);
        let owner = LeaseId::random();
        let outcome = match self.fetch_leased(&wanted, &owner).await {
            Ok(outcome) => outcome,
            Err(error) => self.fetch_unshared(&wanted, &owner, error).await,
        };
        if self.state().perhaps_leased {
            self.release(&owner).await;
        }
        if let Ok(issued) = &outcome {
            self.state().has(&issued.token);
        }
        drop(issuing);
        if self.answers() && self.state().heartbeat_is_due() {
            let _ = self.heartbeat().await;
        }
        outcome
    }

    async fn poll(&self) -> Option<Token> {
        self.follow().await
    }

    fn credential_fingerprint(&self) -> u16 {
        self.inner.credential_fingerprint()
    }

    fn kept(&self) -> Kept {
        self.inner.kept()
    }

    fn poll_interval(&self) -> Option<Duration> {
        let known = self.state();
        Some(match known.away() {
            // Soon at first, so that a restart is over as soon as it is.
            Some(since) => (since.elapsed() / 10).clamp(LOOK_SOON, LOOK),
            None if known.unshared => LOOK_SOON,
            None => LOOK,
        })
    }
}

/// While a token is being issued nobody looks.
struct FetchGuard<'a>(&'a Mutex<ReplicaState>);

impl<'a> FetchGuard<'a> {
    fn begin(known: &'a Mutex<ReplicaState>, wanted: &FetchRequest) -> Self {
        let mut locked = known.lock().unwrap_or_else(PoisonError::into_inner);
        locked.begins(wanted);
        drop(locked);
        Self(known)
    }
}

impl Drop for FetchGuard<'_> {
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
