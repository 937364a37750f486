//! Handles refused tokens: it compares the token with the current one first, then fetches, but not too often.

use std::sync::{Arc, atomic::Ordering};

use tokio::time::{Duration, Instant, sleep};

use super::{
    Keeper,
    schedule::Renewal,
    state::{Doubt, State},
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
    /// The backoff allows no fetch now.
    BackedOff,
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

impl<S: TokenSource> Keeper<S> {
    /// Returns the replacement of `refused`, which WeChat just refused.
    ///
    /// If the token was replaced meanwhile, the current token is returned without a fetch. So a thousand
    /// calls that are refused together cause one fetch. The caller must pass the refused token, because only
    /// a refusal may force a fetch.
    pub async fn replace(self: &Arc<Self>, refused: &Token) -> Result<Replacement, TokenError> {
        let refused_at = Instant::now();
        for again in [false, true] {
            let (conclusive, flight) = {
                let mut state = self.lock();
                if let Some(token) = self.in_hand()
                    && token.is_alive()
                    && !token.is(refused)
                {
                    return Ok(Replacement::Another(token));
                }
                if let Some(in_flight) = &state.flight {
                    // WeCom's refusals are never spurious, so a fetch after an earlier one is conclusive.
                    let certain = in_flight.by_refusal && !self.options.retry_same_token;
                    (
                        certain || in_flight.launched >= refused_at,
                        in_flight.flight.clone(),
                    )
                } else if let Some(failure) = state.back_off() {
                    return Err(failure.error.clone());
                } else if state.backoff.allows() || (again && state.backoff.follow_up()) {
                    (true, self.launch(&mut state, Cause::Refusal))
                } else {
                    return Ok(Replacement::BackedOff);
                }
            };
            let token = self.waiters.wait(flight).await?;
            if !token.is(refused) {
                return Ok(Replacement::Another(token));
            }
            if conclusive {
                break;
            }
            // That fetch had begun before the refusal: fetch once more.
        }
        Ok(Replacement::Same)
    }

    /// Returns the token for the replay of a call, which WeChat refused with the token `refused`.
    pub async fn replay_token(
        self: &Arc<Self>,
        refused: &Arc<Token>,
    ) -> Result<ReplayToken, NoReplay> {
        let retries_same = self.options.retry_same_token;
        let confirmed = match self.replace(refused).await? {
            Replacement::Another(token) => {
                // A token that others have put in place may have been revoked unnoticed.
                let confirmed = token.was_accepted() || !self.lock().hearsay;
                return Ok(ReplayToken { token, confirmed });
            }
            Replacement::Same if !retries_same => {
                self.doubt(&mut self.lock());
                return Err(NoReplay::Same { confirmed: true });
            }
            Replacement::Same => {
                sleep(SAME_TOKEN_PAUSE).await;
                true
            }
            // The token was not accepted since the last fetch, so wait.
            Replacement::BackedOff if !retries_same && !self.lock().backoff.has_hope() => {
                return Err(NoReplay::Same { confirmed: false });
            }
            // If other calls with it are still accepted, no fetch is needed.
            Replacement::BackedOff => {
                !self.seems_dead(refused).await || self.last_hope(refused).await?
            }
        };
        let in_hand = self.in_hand().filter(|token| token.is_alive());
        let token = in_hand.unwrap_or_else(|| refused.clone());
        if token.is(refused) && !retries_same {
            return Err(NoReplay::Same { confirmed });
        }
        let confirmed = confirmed || !token.is(refused);
        Ok(ReplayToken { token, confirmed })
    }

    /// Whether no call with `token` was accepted in the second half of a pause. In the first half, replies may
    /// still arrive that were sent before the token was revoked.
    async fn seems_dead(&self, token: &Token) -> bool {
        sleep(SAME_TOKEN_PAUSE / 2).await;
        let before = {
            let state = self.lock();
            self.watching.store(true, Ordering::Relaxed);
            state.accepted
        };
        sleep(SAME_TOKEN_PAUSE / 2).await;
        self.in_hand().is_some_and(|current| current.is(token)) && self.lock().accepted == before
    }

    /// Fetches although the backoff has not ended. Returns whether a last attempt was allowed.
    async fn last_hope(self: &Arc<Self>, refused: &Token) -> Result<bool, TokenError> {
        let flight = {
            let mut state = self.lock();
            if self.in_hand().is_some_and(|token| !token.is(refused)) {
                return Ok(false);
            }
            if let Some(flight) = state.flight() {
                flight
            } else if state.back_off().is_some() || !state.backoff.last_hope() {
                return Ok(false);
            } else {
                self.launch(&mut state, Cause::Refusal)
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
        let new = token.accept();
        if new || self.watching.load(Ordering::Relaxed) {
            self.note_accepted(token, new);
        }
    }

    #[cold]
    fn note_accepted(&self, token: &Token, new: bool) {
        let mut state = self.lock();
        if self.in_hand().is_some_and(|current| current.is(token)) {
            self.watching.store(false, Ordering::Relaxed);
            state.on_trial = false;
            state.accepted += 1;
            state.doubt = None;
            state.backoff.accepted(new);
        }
    }

    /// Notes that a replay with `token` was refused. `worked` says whether that endpoint has accepted calls
    /// before.
    pub fn refused_again(&self, token: &Token, worked: bool) {
        let mut state = self.lock();
        if !self.in_hand().is_some_and(|current| current.is(token)) {
            return;
        }
        if std::mem::take(&mut state.on_trial) {
            state.backoff.in_vain();
        } else {
            state.backoff.died(worked);
        }
        self.watching.store(true, Ordering::Relaxed);
        self.doubt(&mut state);
    }

    /// From now on the keeper asks WeChat at intervals whether the current token is still valid.
    fn doubt(&self, state: &mut State) {
        // A classic fetch would not tell, because it revokes the current token.
        if state.doubt.is_none() && self.options.renewal != Renewal::Ahead {
            state.doubt = Some(Doubt::new());
            self.changed.notify_one();
        }
    }
}
