//! Shares one token among all replicas through a store. One replica fetches at a time.
//!
//! A replica that needs another token reads the store first. If it finds none, it acquires the lease, reads
//! again, confirms the lease, fetches, and stores the token by compare-and-set. The others wait for that.
//! While the store is unavailable, the current token stays in use, and a few fetches are allowed. A value under the
//! token's key that is no token does not make it unavailable: others share a token there, which a fetch would revoke.

mod budget;
mod fetch;
mod poll;
mod replica_state;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::{Duration, Instant, sleep};

use super::{
    FetchRequest, FetchedToken, TokenError, TokenSource,
    revocation::{NotRevocable, RevocationMethod},
    store::{ForeignValue, LeaseId, Store, StoreError, StoreState},
};
use crate::{
    metrics::{AccountMetrics, Cause, Kept, StoreEvent},
    problems::{Kind, Occurrence},
    token::Token,
};
use replica_state::ReplicaState;

/// How often the store is polled.
const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// How often it is polled while it is unavailable or lacks the current token.
const FAST_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Shares the tokens of one account with other replicas.
pub struct Shared<T, S> {
    source: T,
    store: S,
    /// Fetches of all replicas a day. Above this, refusals cause none.
    daily_fetches: u32,
    metrics: Arc<AccountMetrics>,
    /// The id of this replica.
    replica: LeaseId,
    /// The lock is never held across an await.
    state: Box<Mutex<ReplicaState>>,
}

impl<T: TokenSource, S: Store> Shared<T, S> {
    /// Shares the tokens of `source` in `store`. Refusals cause no fetch after all replicas together have made
    /// `daily_fetches` in a day.
    pub fn new(source: T, store: S, daily_fetches: u32, metrics: Arc<AccountMetrics>) -> Self {
        Self {
            source,
            store,
            daily_fetches,
            metrics,
            replica: LeaseId::random(),
            state: Box::default(),
        }
    }

    /// Whether the store was available the last time it was used.
    pub fn store_is_available(&self) -> bool {
        self.state().unavailable_since().is_none()
    }

    /// The value under the token's key that is no token, if there is one.
    pub fn foreign_value(&self) -> Option<ForeignValue> {
        self.state().foreign.clone()
    }

    /// Fetches while the store is unavailable. `error` is the store's.
    async fn fetch_unshared(
        &self,
        request: &FetchRequest,
        owner: &LeaseId,
        mut error: StoreError,
    ) -> Result<FetchedToken, TokenError> {
        let still_good = |token: &Arc<Token>| request.cause == Cause::Renewal && token.is_fresh();
        if request.current.as_ref().is_some_and(still_good) {
            return Err(TokenError::Store(error));
        }
        let deadline = Instant::now() + self.state().store_patience();
        while Instant::now() < deadline {
            sleep(Duration::from_millis(fastrand::u64(200..400))).await;
            match self.fetch_through_store(request, owner).await {
                Ok(outcome) => return outcome,
                Err(latest) => error = latest,
            }
        }
        if let Some(foreign) = self.state().foreign.clone() {
            return Err(TokenError::ForeignValue(foreign));
        }
        let refused = request.cause == Cause::Refusal;
        if !self.state().spend(self.daily_fetches, refused) {
            return Err(TokenError::Store(error));
        }
        self.metrics.store(StoreEvent::Alone);
        self.tell_of_fetch_alone(request.cause);
        let outcome = self.fetch_from_source(request).await;
        let mut state = self.state();
        match &outcome {
            Ok(fetched) => state.fetched(&fetched.token, None),
            Err(error) => {
                state.failed(error);
                state.refund(error);
            }
        }
        outcome
    }

    /// Tells the log that a token is fetched without the store. Of many accounts, the problem that it is away says so.
    fn tell_of_fetch_alone(&self, cause: Cause) {
        let account = self.metrics.problems.account();
        let cause = cause.label();
        const TEXT: &str = "a token is fetched without the store";
        match self.metrics.problems.is_one_of_many() {
            true => tracing::debug!(account, cause, "{TEXT}"),
            false => tracing::warn!(account, cause, "{TEXT}"),
        }
    }

    /// Notes whether the store can be read, and whether the value there is a token.
    fn note_read(&self, answer: Result<StoreState, StoreError>) -> Result<StoreState, StoreError> {
        let answer = self.note(answer, |state| &mut state.unreadable);
        let found = match &answer {
            Ok(_) => None,
            Err(StoreError::ForeignValue(foreign)) => Some(foreign.clone()),
            // What was found before may still be there.
            Err(_) => return answer,
        };
        self.state().foreign = found;
        answer
    }

    /// Notes whether the store can be written.
    fn note_write<R>(&self, answer: Result<R, StoreError>) -> Result<R, StoreError> {
        self.note(answer, |state| &mut state.unwritable)
    }

    fn note<R>(
        &self,
        answer: Result<R, StoreError>,
        field: fn(&mut ReplicaState) -> &mut Option<Instant>,
    ) -> Result<R, StoreError> {
        let mut state = self.state();
        match &answer {
            // With a foreign value the store has answered.
            Ok(_) | Err(StoreError::ForeignValue(_)) => *field(&mut state) = None,
            Err(_) => {
                field(&mut state).get_or_insert_with(Instant::now);
            }
        }
        if answer.is_err() {
            self.metrics.store(StoreEvent::Error);
        }
        let is_unavailable = state.unavailable_since().is_some();
        state.waited &= is_unavailable;
        drop(state);
        // Its end is noticed by those who ask whether the store is available.
        if let Err(error) = &answer {
            let kind = match error {
                StoreError::ForeignValue(_) => Kind::StoreValue,
                _ => Kind::StoreAway,
            };
            let cause = Some(error as &dyn fmt::Display);
            let what = Occurrence {
                cause,
                ..Occurrence::default()
            };
            self.metrics.problems.occurred(kind, what);
        }
        answer
    }

    fn state(&self) -> MutexGuard<'_, ReplicaState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: TokenSource, S: Store> TokenSource for Shared<T, S> {
    async fn fetch(&self, request: FetchRequest) -> Result<FetchedToken, TokenError> {
        let guard = FetchGuard::begin(&self.state, &request);
        let owner = LeaseId::random();
        let outcome = match self.fetch_through_store(&request, &owner).await {
            Ok(outcome) => outcome,
            Err(error) => self.fetch_unshared(&request, &owner, error).await,
        };
        if self.state().perhaps_leased {
            self.release(&owner).await;
        }
        if let Ok(fetched) = &outcome {
            self.state().set_current(&fetched.token);
        }
        drop(guard);
        if self.store_is_available() && self.state().heartbeat_is_due() {
            let _ = self.heartbeat().await;
        }
        outcome
    }

    async fn poll(&self) -> Option<Token> {
        self.poll_store().await
    }

    fn suspended(&self, time: Duration) {
        self.state().suspended(time);
    }

    fn credential_fingerprint(&self) -> u16 {
        self.source.credential_fingerprint()
    }

    fn revocation(&self) -> Result<RevocationMethod, NotRevocable> {
        self.source.revocation()
    }

    fn kept(&self) -> Kept {
        self.source.kept()
    }

    fn poll_interval(&self) -> Option<Duration> {
        let state = self.state();
        Some(match state.unavailable_since() {
            // Often at first, to notice the end of a short restart.
            Some(since) => (since.elapsed() / 10).clamp(FAST_POLL_INTERVAL, POLL_INTERVAL),
            None if state.unshared => FAST_POLL_INTERVAL,
            None => POLL_INTERVAL,
        })
    }
}

/// Suspends polling while a token is fetched.
struct FetchGuard<'a>(&'a Mutex<ReplicaState>);

impl<'a> FetchGuard<'a> {
    fn begin(state: &'a Mutex<ReplicaState>, request: &FetchRequest) -> Self {
        let mut locked = state.lock().unwrap_or_else(PoisonError::into_inner);
        locked.begin(request);
        drop(locked);
        Self(state)
    }
}

impl Drop for FetchGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.end();
    }
}

impl<T, S> fmt::Debug for Shared<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
