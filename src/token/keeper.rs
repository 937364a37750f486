//! Keeps one account's token fresh: at most one fetch is ever in flight.

mod adopt;
pub mod backoff;
mod refusal;
pub mod schedule;
mod state;
mod waiters;

use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
    time::{Duration, Instant, sleep_until, timeout},
};

use super::{
    Token,
    fingerprints::TokenHistory,
    source::{FetchRequest, FetchedToken, TokenError, TokenSource},
};
use crate::metrics::{AccountMetrics, Cause, Fetched};
pub use refusal::{NoReplay, Replacement, ReplayToken};
use schedule::Renewal;
use state::{Doubt, FetchFailure, Flight, InFlight, State};
use waiters::Waiters;

/// What a keeper needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How tokens are renewed.
    pub renewal: Renewal,
    /// Whether a refused call is sent again even with the token that was refused, where that is said
    /// to be the one to use. WeChat refuses on a whim, WeCom does not.
    pub retry_same_token: bool,
    /// Fetches a day above which refusals cause none.
    pub daily_fetches: u32,
    /// How long a call waits for a token when there is none.
    pub patience: Duration,
}

/// The token of one account, and the fetch in flight if there is one.
pub struct Keeper<I> {
    source: I,
    options: Options,
    metrics: Arc<AccountMetrics>,
    /// Where fetches run, whoever asks for them.
    control: Handle,
    /// The token in hand, read by every call. Written only under the lock of `state`.
    token: ArcSwapOption<Token>,
    /// Where its tokens are known by their fingerprints, if anybody asks.
    history: Option<Arc<TokenHistory>>,
    state: Mutex<State>,
    /// Whether the next accepted call is news for the pace.
    watching: AtomicBool,
    waiters: Waiters,
    /// The state changed in a way that may change when to renew.
    changed: Notify,
}

/// Why a call has no token, and when it may ask again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{error}")]
pub struct NoToken {
    /// What went wrong.
    #[source]
    pub error: TokenError,
    /// Until the next attempt.
    pub retry_after: Duration,
}

/// What the admin port shows of a keeper.
#[derive(Debug)]
pub struct Status {
    /// The token in hand, alive or not.
    pub token: Option<Arc<Token>>,
    /// The last failure since the last success.
    pub error: Option<NoToken>,
    /// Whether the first fetch has ended.
    pub tried: bool,
    /// Fetches in the current 24 hours.
    pub fetches: u32,
}

impl<I: TokenSource> Keeper<I> {
    /// A keeper that holds no token yet. Its fetches run on the current runtime.
    pub fn new(issuer: I, options: Options, metrics: Arc<AccountMetrics>) -> Arc<Self> {
        Self::with_history(issuer, options, metrics, None)
    }

    /// The same, whose tokens stand in `history`.
    pub fn with_history(
        issuer: I,
        options: Options,
        metrics: Arc<AccountMetrics>,
        history: Option<Arc<TokenHistory>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            source: issuer,
            options,
            metrics,
            control: Handle::current(),
            token: ArcSwapOption::empty(),
            history,
            state: Mutex::new(State::new(options.daily_fetches)),
            watching: AtomicBool::new(false),
            waiters: Waiters::default(),
            changed: Notify::new(),
        })
    }

    /// The token to use now. Waits only when there is none.
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
                (None, _) => self.launch(&mut state, self.need()),
            }
        };
        // A token on its last seconds is still better than a call that waits them out.
        let a_moment = |token: Arc<Token>| (token.remaining() / 2).min(Duration::from_secs(1));
        let patience = alive.map_or(self.options.patience, a_moment);
        match timeout(patience, self.waiters.wait(flight)).await {
            Ok(Ok(token)) => Ok(token),
            Ok(Err(_)) => self.last_resort(&self.lock()),
            Err(_) => self
                .in_hand()
                .filter(|token| token.is_alive())
                .ok_or(NoToken {
                    error: TokenError::Slow,
                    retry_after: Duration::from_secs(1),
                }),
        }
    }

    /// Where its tokens come from.
    pub fn source(&self) -> &I {
        &self.source
    }

    /// The token in hand, whatever its age.
    pub fn in_hand(&self) -> Option<Arc<Token>> {
        self.token.load_full()
    }

    /// Where its tokens are known by their fingerprints.
    pub fn history(&self) -> Option<&Arc<TokenHistory>> {
        self.history.as_ref()
    }

    /// What the admin port shows.
    pub fn status(&self) -> Status {
        let state = self.lock();
        Status {
            token: self.in_hand(),
            error: state.failure.as_ref().map(FetchFailure::report),
            tried: state.tried,
            fetches: state.backoff.fetches(),
        }
    }

    /// Forgets a failure, because its reason may be gone: the secret changed.
    pub fn try_again(&self) {
        let mut state = self.lock();
        state.again = state.flight.is_some();
        if state.failure.take().is_some() {
            self.changed.notify_one();
        }
    }

    /// Starts a renewal that is due and waits for nothing: for a keeper that nobody [`run`](Self::run)s,
    /// so that it asks only as long as it is asked.
    pub fn renew_if_due(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.flight.is_none() && state.due() <= Instant::now() {
            drop(self.launch(&mut state, self.need()));
        }
    }

    /// Renews the token ahead of time, for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            let (flight, wake) = {
                let mut state = self.lock();
                (state.flight(), state.due())
            };
            if let Some(flight) = flight {
                let _ = flight.await;
                continue;
            }
            if wake > Instant::now() {
                tokio::select! {
                    // Whatever is ready together is taken in this order, so that a simulation can be
                    // run again.
                    biased;
                    () = sleep_until(wake) => {}
                    () = self.changed.notified() => {}
                    () = self.poll_source() => {}
                }
                continue;
            }
            let flight = {
                let mut state = self.lock();
                match state.flight() {
                    Some(flight) => flight,
                    None => self.launch(&mut state, self.need()),
                }
            };
            let _ = flight.await;
        }
    }

    fn need(&self) -> Cause {
        let alive = self.in_hand().is_some_and(|token| token.is_alive());
        if alive {
            Cause::Renewal
        } else {
            Cause::Missing
        }
    }

    /// While no fetch is possible, a token serves until its real expiry.
    fn last_resort(&self, state: &State) -> Result<Arc<Token>, NoToken> {
        if let Some(token) = self.in_hand()
            && token.is_alive()
        {
            return Ok(token);
        }
        Err(state.failure.as_ref().map_or(
            NoToken {
                error: TokenError::Slow,
                retry_after: Duration::from_secs(1),
            },
            FetchFailure::report,
        ))
    }

    /// Starts a fetch and drives it to its end whether or not anyone still waits: a caller who
    /// hangs up must not take down a fetch that others need, or one that WeChat has acted upon.
    /// It runs on the control runtime, so that a busy worker does not delay it.
    fn launch(self: &Arc<Self>, state: &mut State, cause: Cause) -> Flight {
        state.backoff.fetch();
        let this = Arc::clone(self);
        let instead_of = self.in_hand();
        let wanted = FetchRequest {
            cause,
            current: instead_of,
        };
        let (landed, wait) = oneshot::channel();
        self.control.spawn(async move {
            let issued = AssertUnwindSafe(this.source.fetch(wanted))
                .catch_unwind()
                .await;
            let outcome = this.land(cause, issued.unwrap_or(Err(TokenError::Broken)));
            // Nobody may be waiting any more.
            let _ = landed.send(outcome);
        });
        let flight = wait
            .map(|outcome| outcome.unwrap_or(Err(TokenError::Broken)))
            .boxed()
            .shared();
        state.flight = Some(InFlight {
            launched: Instant::now(),
            by_refusal: cause == Cause::Refusal,
            flight: flight.clone(),
        });
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
            Ok(issued) => !issued.fetched,
            Err(error) => !error.was_asked(),
        };
        if spared {
            state.backoff.was_spared();
        }
        let outcome = match outcome {
            Ok(issued) => Ok(self.store(&mut state, cause, issued)),
            Err(error) => {
                let count = state.failure.as_ref().map_or(0, |failure| failure.count) + 1;
                let mut wait = schedule::back_off(error.kind(), count, fastrand::f64());
                if again {
                    wait = Duration::ZERO;
                }
                let kept = self.source.kept();
                tracing::warn!(%error, retry_in = ?wait, "no {}", kept.label());
                let fetched = match error.code().filter(|_| error.was_asked()) {
                    Some(code) => {
                        self.metrics.errcode(code);
                        Fetched::Errcode
                    }
                    None => Fetched::Failed,
                };
                self.metrics.fetch(kept, cause, fetched);
                let retry_at = Instant::now() + wait;
                let failed = error.clone();
                state.failure = Some(FetchFailure {
                    error,
                    count,
                    retry_at,
                });
                Err(failed)
            }
        };
        drop(state);
        self.changed.notify_one();
        outcome
    }

    fn store(&self, state: &mut State, cause: Cause, issued: FetchedToken) -> Arc<Token> {
        let FetchedToken { token, fetched } = issued;
        let before = self.in_hand();
        let same = before.as_ref().is_some_and(|before| before.is(&token));
        let lifetime = token.lifetime();
        match before {
            Some(before) if !same => state.retire(before),
            Some(before) if before.was_accepted() => drop(token.accept()),
            Some(_) | None => {}
        }
        let dice = fastrand::f64();
        let pause = if same && cause == Cause::Renewal {
            schedule::ask_again_in(self.options.renewal, lifetime, dice)
        } else {
            schedule::renew_in(self.options.renewal, lifetime, dice)
        };
        state.renew_at = Instant::now() + pause;
        state.failure = None;
        state.on_trial = cause == Cause::Refusal && !same;
        state.hearsay = !fetched;
        state.doubt = state.doubt.filter(|_| same).map(Doubt::stays);
        if cause == Cause::Refusal && same {
            state.backoff.in_vain();
        }
        // Known before it is in hand: who gets it may send it back.
        if let Some(history) = &self.history {
            history.put(token.value());
        }
        // In hand before it is counted: who waits for the count may call.
        let token = Arc::new(token);
        self.token.store(Some(token.clone()));
        self.watching.store(true, Ordering::Relaxed);
        let brought = match (fetched, same) {
            (_, true) => Fetched::Same,
            (true, false) => Fetched::New,
            (false, false) => Fetched::Shared,
        };
        let kept = self.source.kept();
        self.metrics.fetch(kept, cause, brought);
        tracing::info!(cause = cause.label(), same, expires_in = ?lifetime, next_in = ?pause, "{}", kept.label());
        token
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I> fmt::Debug for Keeper<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
