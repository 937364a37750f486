//! Handles refused tokens: it compares the token with the current one first, then does what [`TokenState`] says.
//!
//! [`TokenState`]: super::confidence::TokenState

use std::sync::{Arc, atomic::Ordering};

use tokio::time::{Duration, Instant, sleep, timeout};

use super::{
    Keeper,
    confidence::{Action, Refusal, TokenEvent},
    state::State,
};
use crate::{
    metrics::Cause,
    secret::Secret,
    token::{
        Token,
        source::{TokenError, TokenSource},
    },
};

/// The replacement of a refused token.
#[derive(Debug)]
pub enum Replacement {
    /// Another token.
    Another(Arc<Token>),
    /// A fetch returned the same token.
    Same,
    /// There is no fetch, but a look at other calls may show whether the token still works.
    Unclear,
    /// There is no fetch.
    None,
}

/// The token for the replay of a refused call.
#[derive(Debug)]
pub struct ReplayToken {
    /// Another token, or the refused one after a pause.
    pub token: Arc<Token>,
    /// Whether it is known to be the current one: WeChat returned it, or accepts it in other calls.
    pub confirmed: bool,
}

/// Why a refused call is not replayed.
#[derive(Debug)]
pub enum NoReplay {
    /// There is no token.
    Failed(TokenError),
    /// There is only the refused token, and a replay with it would be refused as well.
    Same {
        /// Whether it is known to be the current one, so that the cause is the call.
        confirmed: bool,
    },
}

impl From<TokenError> for NoReplay {
    fn from(error: TokenError) -> Self {
        Self::Failed(error)
    }
}

/// The pause before a replay with the same token, because a refusal may be transient.
const SAME_TOKEN_PAUSE: Duration = Duration::from_millis(300);

/// How often a call that waits for the replacement of a refused token looks for it.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);

impl<S: TokenSource> Keeper<S> {
    /// Returns the replacement of `refused`, which WeChat just refused for the call of `refusal`.
    ///
    /// If the token was replaced meanwhile, the current token is returned without a fetch. So a thousand
    /// calls that are refused together cause one fetch. The caller must pass the refused token, because only
    /// a refusal may force a fetch.
    pub async fn replace(
        self: &Arc<Self>,
        refused: &Token,
        refusal: Refusal,
    ) -> Result<Replacement, TokenError> {
        let refused_at = Instant::now();
        let mut event = TokenEvent::Refused(refusal);
        loop {
            let (conclusive, launched, flight) = {
                let mut state = self.lock();
                if let Some(token) = self.other_than(refused) {
                    return Ok(Replacement::Another(token));
                }
                let is_in_hand = self.in_hand().is_some_and(|token| token.is(refused));
                let action = match is_in_hand {
                    true => self.step_if_in_hand(&mut state, refused, event),
                    // The token in hand has expired.
                    false => Action::Fetch,
                };
                if let Some(in_flight) = &state.flight {
                    // WeCom's refusals are never spurious, so a fetch after an earlier one is conclusive.
                    let certain =
                        in_flight.cause == Cause::Refusal && !self.options.retry_same_token;
                    (
                        certain || in_flight.launched >= refused_at,
                        (in_flight.cause == Cause::Revoke).then_some(in_flight.launched),
                        in_flight.flight.clone(),
                    )
                } else if let Some(failure) = state.back_off() {
                    let error = failure.error.clone();
                    let account = error.kind().is_of_the_account();
                    self.step_if_in_hand(&mut state, refused, TokenEvent::FetchFailed { account });
                    return Err(error);
                } else {
                    match action {
                        Action::Fetch => (true, None, self.launch(&mut state, Cause::Refusal)),
                        Action::Watch => return Ok(Replacement::Unclear),
                        Action::Pass => return Ok(Replacement::None),
                    }
                }
            };
            let outcome = self.waiters.wait(flight).await;
            if outcome.is_err() && launched.is_some_and(|at| !self.is_in_flight(at)) {
                // What WeChat says of a forced refresh says nothing of an ordinary fetch.
                event = TokenEvent::FetchWasEarlier(refusal);
                continue;
            }
            let token = outcome?;
            if !token.is(refused) {
                return Ok(Replacement::Another(token));
            }
            if conclusive || matches!(event, TokenEvent::FetchWasEarlier(_)) {
                return Ok(Replacement::Same);
            }
            event = TokenEvent::FetchWasEarlier(refusal);
        }
    }

    /// Returns the token for the replay of a call, which WeChat refused with the token `refused`.
    pub async fn replay_token(
        self: &Arc<Self>,
        refused: &Arc<Token>,
        refusal: Refusal,
    ) -> Result<ReplayToken, NoReplay> {
        let retries_same = self.options.retry_same_token;
        let not_replayed = |confirmed| {
            let mut state = self.lock();
            self.step_if_in_hand(&mut state, refused, TokenEvent::NotReplayed(refusal));
            self.changed.notify_one();
            Err(NoReplay::Same { confirmed })
        };
        let confirmed = match self.replace(refused, refusal).await? {
            Replacement::Another(token) => {
                // A token that others have put in place may have been revoked unnoticed.
                let confirmed = token.was_accepted() || !self.lock().token.is_adopted();
                return Ok(ReplayToken { token, confirmed });
            }
            Replacement::Same if !retries_same => return not_replayed(true),
            Replacement::Same => {
                sleep(SAME_TOKEN_PAUSE).await;
                true
            }
            Replacement::None => return Err(NoReplay::Same { confirmed: false }),
            // If other calls with it are still accepted, no fetch is needed.
            Replacement::Unclear => {
                !self.seems_dead(refused).await || self.last_attempt(refused, refusal).await?
            }
        };
        let in_hand = self.in_hand().filter(|token| token.is_alive());
        let token = in_hand.unwrap_or_else(|| refused.clone());
        if token.is(refused) && !retries_same {
            return not_replayed(confirmed);
        }
        let confirmed = confirmed || !token.is(refused);
        Ok(ReplayToken { token, confirmed })
    }

    /// Waits up to `limit` while WeChat refuses the token in hand and another may be on its way. This is for calls
    /// that cannot be replayed.
    pub async fn settled(&self, limit: Duration) {
        let is_settled = || {
            let state = self.lock();
            let fetching = state.flight.is_some() && state.token.is_refused();
            !fetching && state.token.dead().is_none()
        };
        if is_settled() {
            return;
        }
        // The time is up: the call is sent with what there is.
        let _ = timeout(limit, async {
            while !is_settled() {
                sleep(SETTLE_PAUSE).await;
            }
        })
        .await;
    }

    /// Whether the fetch that was launched then goes on.
    fn is_in_flight(&self, launched: Instant) -> bool {
        let state = self.lock();
        let flight = state.flight.as_ref();
        flight.is_some_and(|flight| flight.launched == launched)
    }

    /// The token in hand, if it is usable and another one.
    fn other_than(&self, refused: &Token) -> Option<Arc<Token>> {
        let in_hand = self.in_hand();
        in_hand.filter(|token| token.is_alive() && !token.is(refused))
    }

    /// Applies `event`, which concerns `token`, unless another is in hand now.
    fn step_if_in_hand(&self, state: &mut State, token: &Token, event: TokenEvent) -> Action {
        if !self.in_hand().is_some_and(|current| current.is(token)) {
            return Action::Pass;
        }
        let action = state.step(event);
        // From now on it matters whether calls are accepted.
        self.watching.store(true, Ordering::Relaxed);
        action
    }

    /// Whether no call with `token` was accepted in the second half of a pause. In the first half, replies may
    /// still arrive that were sent before the token was revoked.
    async fn seems_dead(&self, token: &Token) -> bool {
        sleep(SAME_TOKEN_PAUSE / 2).await;
        if self.other_than(token).is_some() {
            return false;
        }
        let before = {
            let state = self.lock();
            self.watching.store(true, Ordering::Relaxed);
            state.accepted
        };
        sleep(SAME_TOKEN_PAUSE / 2).await;
        self.other_than(token).is_none() && self.lock().accepted == before
    }

    /// Fetches if that is allowed although the backoff has not ended, or although the endpoint may be to blame.
    /// Returns whether WeChat was asked.
    async fn last_attempt(
        self: &Arc<Self>,
        refused: &Token,
        refusal: Refusal,
    ) -> Result<bool, TokenError> {
        let flight = {
            let mut state = self.lock();
            if self.other_than(refused).is_some() {
                return Ok(false);
            }
            if let Some(flight) = state.flight() {
                flight
            } else if state.back_off().is_some() {
                return Ok(false);
            } else {
                let event = TokenEvent::NothingAccepted(refusal);
                match self.step_if_in_hand(&mut state, refused, event) {
                    Action::Fetch => self.launch(&mut state, Cause::Refusal),
                    Action::Watch | Action::Pass => return Ok(false),
                }
            }
        };
        self.waiters.wait(flight).await.map(|_| true)
    }

    /// Whether `value` is the current token or one of the last ones.
    pub fn has_had(&self, value: &Secret) -> bool {
        let in_hand = self.in_hand();
        let state = self.lock();
        let mut all = in_hand.iter().chain(&state.past);
        all.any(|token| token.value() == value)
    }

    /// Notes that WeChat accepted a call with `token`.
    pub fn accepted(&self, token: &Token) {
        let first = token.accept();
        if first || self.watching.load(Ordering::Relaxed) {
            self.note_accepted(token, first);
        }
    }

    #[cold]
    fn note_accepted(&self, token: &Token, first: bool) {
        let mut state = self.lock();
        if self.in_hand().is_some_and(|current| current.is(token)) {
            self.watching.store(false, Ordering::Relaxed);
            state.accepted += 1;
            state.step(TokenEvent::Accepted { first });
        }
    }

    /// Notes that a replay with `token` was refused.
    pub fn refused_again(&self, token: &Token, refusal: Refusal) {
        let mut state = self.lock();
        self.step_if_in_hand(&mut state, token, TokenEvent::RefusedAgain(refusal));
        self.changed.notify_one();
    }
}
