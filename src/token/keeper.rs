//! Keeps the token of one account fresh. At most one fetch is in flight at any time.

mod adopt;
pub mod backoff;
pub mod confidence;
mod failure;
mod problem;
mod refusal;
mod revoke;
mod run;
pub mod schedule;
mod state;
mod status;
mod timing;
mod waiters;

use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot, watch},
    time::{Duration, Instant, timeout},
};

use super::{
    Token,
    fingerprints::TokenHistory,
    source::{FetchRequest, FetchedToken, TokenError, TokenSource},
    turns::{FetchTurn, FetchTurns},
};
use crate::metrics::{AccountMetrics, Cause, Fetched};
use confidence::TokenEvent;
pub use confidence::{DeadBecause, PathId, Refusal};
pub use refusal::{NoReplay, Replacement, ReplayToken};
pub use revoke::{Revocation, RevocationError, RevocationStep};
use schedule::Renewal;
use state::{FetchFailure, Flight, InFlight, State};
pub use status::{KnownDead, Status, TokenPresence};
use waiters::Waiters;

/// Options of a keeper.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How tokens are renewed.
    pub renewal: Renewal,
    /// Whether a refused call may be replayed with the same token, if a fetch returned that token again. WeChat
    /// sometimes refuses valid tokens, WeCom does not.
    pub retry_same_token: bool,
    /// Fetches a day. Above this, refusals cause none.
    pub daily_fetches: u32,
    /// How long a call waits for a token when there is none.
    pub patience: Duration,
}

/// The token of one account, and the fetch in flight if there is one.
pub struct Keeper<S> {
    source: S,
    options: Options,
    metrics: Arc<AccountMetrics>,
    /// The runtime of fetches, whichever task starts them.
    runtime: Handle,
    /// The current token, read by every call. It is written only under the lock of `state`.
    token: ArcSwapOption<Token>,
    /// The history that gets the fingerprints of its tokens, if any.
    history: Option<Arc<TokenHistory>>,
    state: Mutex<State>,
    /// Whether the next accepted call must be reported to the backoff.
    watching: AtomicBool,
    waiters: Waiters,
    /// Notified when the time of the next renewal may have changed.
    changed: Notify,
    /// The turns of all accounts' fetches; `None` for one that takes none.
    turns: Option<Arc<FetchTurns>>,
    /// Whether fetches that no call waits for go in turn with those of other accounts.
    in_turn: AtomicBool,
    /// For how many milliseconds the machine was suspended.
    suspended: AtomicU64,
    /// The revocation that runs, or the last one.
    revocation: OnceLock<watch::Sender<Option<Revocation>>>,
}

/// Why there is no token, and when to retry.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .error.sentence())]
pub struct NoToken {
    /// The error.
    #[source]
    pub error: TokenError,
    /// The time until the next attempt.
    pub retry_after: Duration,
}

impl<S: TokenSource> Keeper<S> {
    /// A keeper without a token. Its fetches run on the current runtime.
    pub fn new(source: S, options: Options, metrics: Arc<AccountMetrics>) -> Arc<Self> {
        Self::of_many(source, options, metrics, None, None)
    }

    /// A keeper that adds its tokens to `history`, and whose fetches take `turns` with those of other keepers.
    pub fn of_many(
        source: S,
        options: Options,
        metrics: Arc<AccountMetrics>,
        history: Option<Arc<TokenHistory>>,
        turns: Option<Arc<FetchTurns>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            source,
            options,
            metrics,
            runtime: Handle::current(),
            token: ArcSwapOption::empty(),
            history,
            state: Mutex::new(State::new(&options)),
            watching: AtomicBool::new(false),
            waiters: Waiters::default(),
            changed: Notify::new(),
            turns,
            in_turn: AtomicBool::new(false),
            suspended: AtomicU64::new(0),
            revocation: OnceLock::new(),
        })
    }

    /// Returns the token to use now. Waits only if there is none.
    pub async fn token(self: &Arc<Self>) -> Result<Arc<Token>, NoToken> {
        if let Some(token) = self.in_hand()
            && token.is_fresh()
        {
            return Ok(token);
        }
        let alive = self.in_hand().filter(|token| token.is_alive());
        let flight = {
            let mut state = self.lock();
            match (state.flight(), &state.failure) {
                (Some(_), Some(_)) if alive.is_some() => return self.last_resort(&state),
                (Some(flight), _) => flight,
                (None, _) if state.back_off().is_some() => return self.last_resort(&state),
                (None, _) => self.launch_by_itself(&mut state, None),
            }
        };
        // A token in its last seconds is better than waiting until it has expired.
        let short_wait = |token: Arc<Token>| (token.remaining() / 2).min(Duration::from_secs(1));
        let patience = alive.map_or(self.options.patience, short_wait);
        match timeout(patience, self.waiters.wait(flight)).await {
            Ok(Ok(token)) => Ok(token),
            Ok(Err(_)) => self.last_resort(&self.lock()),
            Err(_) => self
                .in_hand()
                .filter(|token| token.is_alive())
                .ok_or(NoToken {
                    error: TokenError::TimedOut,
                    retry_after: Duration::from_secs(1),
                }),
        }
    }

    /// The source of its tokens.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// The current token, expired or not.
    pub fn in_hand(&self) -> Option<Arc<Token>> {
        self.token.load_full()
    }

    /// The history that gets the fingerprints of its tokens.
    pub fn history(&self) -> Option<&Arc<TokenHistory>> {
        self.history.as_ref()
    }

    /// Forgets a failure, because its cause may be gone: for example, the secret has changed.
    pub fn try_again(&self) {
        let mut state = self.lock();
        state.again = state.flight.is_some();
        if state.failure.take().is_some() {
            if state.token.is_refused() {
                // No call need ask for another token.
                state.renew_at = Instant::now();
            }
            self.changed.notify_one();
        }
    }

    /// Starts a fetch that no refused call has asked for.
    fn launch_by_itself(self: &Arc<Self>, state: &mut State, turn: Option<FetchTurn>) -> Flight {
        let alive = self.in_hand().is_some_and(|token| token.is_alive());
        let cause = match alive {
            true if state.token.dead().is_some() => Cause::Refusal,
            true => Cause::Renewal,
            false => Cause::Missing,
        };
        self.launch_in(turn, state, cause)
    }

    /// Returns the current token until it expires, for times when no fetch is possible.
    fn last_resort(&self, state: &State) -> Result<Arc<Token>, NoToken> {
        if let Some(token) = self.in_hand()
            && token.is_alive()
        {
            return Ok(token);
        }
        Err(state.failure.as_ref().map_or(
            NoToken {
                error: TokenError::TimedOut,
                retry_after: Duration::from_secs(1),
            },
            FetchFailure::report,
        ))
    }

    /// Starts a fetch, which runs to its end whether or not anyone still waits: a caller who hangs up
    /// must not cancel a fetch that others need, or one that WeChat has acted upon. It runs on the
    /// control runtime, so that a busy worker does not delay it.
    ///
    /// A call may wait for it, so it goes before all fetches that wait in [`run`](Self::run).
    fn launch(self: &Arc<Self>, state: &mut State, cause: Cause) -> Flight {
        self.launch_in(None, state, cause)
    }

    /// The same for a fetch that has had its `turn` already.
    fn launch_in(
        self: &Arc<Self>,
        turn: Option<FetchTurn>,
        state: &mut State,
        cause: Cause,
    ) -> Flight {
        state.step(TokenEvent::FetchBegins);
        let this = Arc::clone(self);
        let request = FetchRequest {
            cause,
            current: self.in_hand(),
        };
        let (landed, wait) = oneshot::channel();
        self.runtime.spawn(async move {
            let turn = match (turn, &this.turns) {
                (Some(turn), _) => turn,
                (None, Some(turns)) => turns.wanted(this.source.asks()).await,
                (None, None) => FetchTurn::free(),
            };
            let suspended = this.total_suspension();
            // On the heap, so that those that wait for their turn are small.
            let fetch = AssertUnwindSafe(Box::pin(this.source.fetch(request))).catch_unwind();
            let result = turn.spend(fetch).await;
            let result = result.unwrap_or(Err(TokenError::Panicked));
            let result = result.map(|fetched| this.count_suspension(fetched, suspended));
            let outcome = this.land(cause, result);
            // Nobody may be waiting any more.
            let _ = landed.send(outcome);
        });
        let flight = wait
            .map(|outcome| outcome.unwrap_or(Err(TokenError::Panicked)))
            .boxed()
            .shared();
        state.flight = Some(InFlight {
            launched: Instant::now(),
            cause,
            flight: flight.clone(),
        });
        if self.in_turn.load(Ordering::Relaxed) {
            // It leaves the queue.
            self.changed.notify_one();
        }
        flight
    }

    fn land(
        &self,
        cause: Cause,
        outcome: Result<FetchedToken, TokenError>,
    ) -> Result<Arc<Token>, TokenError> {
        let mut state = self.lock();
        state.flight = None;
        state.tried = true;
        let again = std::mem::take(&mut state.again);
        let spared = match &outcome {
            Ok(fetched) => !fetched.fetched,
            Err(error) => !error.was_sent(),
        };
        if spared {
            state.step(TokenEvent::FetchSpared);
        }
        let outcome = match outcome {
            Ok(fetched) => Ok(self.store(&mut state, cause, fetched)),
            Err(error) => {
                self.note_failure(&mut state, cause, &error, again);
                Err(error)
            }
        };
        drop(state);
        self.changed.notify_one();
        outcome
    }

    fn store(&self, state: &mut State, cause: Cause, fetched: FetchedToken) -> Arc<Token> {
        let FetchedToken { token, fetched } = fetched;
        let before = self.in_hand();
        let same = before.as_ref().is_some_and(|before| before.is(&token));
        let lifetime = token.lifetime();
        match before {
            Some(before) if !same => {
                state.retire(before);
                if cause == Cause::Refusal && fetched && state.revoked() {
                    problem::revoked(&self.metrics.problems);
                }
            }
            Some(before) if before.was_accepted() => drop(token.accept()),
            Some(_) | None => {}
        }
        // A revocation looks the token up at any time, and that is no renewal in vain.
        let was_due = state.renew_at <= Instant::now();
        let in_vain = same && cause == Cause::Renewal && was_due;
        let pause = self.next_fetch_in(state, &token, in_vain);
        state.renew_at = Instant::now() + pause;
        state.failure = None;
        state.step(TokenEvent::Fetched(confidence::ReturnedToken {
            same,
            by_wechat: fetched,
            after_refusal: cause == Cause::Refusal,
        }));
        // Add it to the history first: an app that gets the token may send it back at once.
        if let Some(history) = &self.history {
            history.put(token.value());
        }
        // Store it before counting it: a test that waits for the count may call at once.
        let token = Arc::new(token);
        self.token.store(Some(token.clone()));
        self.watching.store(true, Ordering::Relaxed);
        let label = match (fetched, same) {
            (_, true) => Fetched::Same,
            (true, false) => Fetched::New,
            (false, false) => Fetched::Shared,
        };
        let kept = self.source.kept();
        self.metrics.fetch(kept, cause, label);
        self.tell_of_fetched(cause, same, lifetime, pause);
        token
    }

    /// Tells the log of a token that was fetched. Of many accounts' tokens it is told in detail alone.
    fn tell_of_fetched(&self, cause: Cause, same: bool, lifetime: Duration, pause: Duration) {
        let (account, cause) = (self.metrics.problems.account(), cause.label());
        let (expires_seconds, next_seconds) = (lifetime.as_secs_f64(), pause.as_secs_f64());
        let what = self.source.kept().label();
        macro_rules! tell {
            ($level:ident) => {
                tracing::$level!(
                    account,
                    cause,
                    same,
                    expires_seconds,
                    next_seconds,
                    "{what}"
                )
            };
        }
        match self.metrics.problems.is_one_of_many() {
            true => tell!(debug),
            false => tell!(info),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> fmt::Debug for Keeper<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
