//! What a keeper does when WeChat refuses its token: compare first, then ask, and not too often.

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

/// What there is instead of a refused token.
#[derive(Debug)]
pub enum Replacement {
    /// Another token.
    Another(Arc<Token>),
    /// WeChat says that it is still the one to use.
    Same,
    /// Nobody asked WeChat: it was asked too often already.
    Paced,
}

/// The token to send a refused call with, once more.
#[derive(Debug)]
pub struct ReplayToken {
    /// Another one, or the refused one again, after a pause.
    pub token: Arc<Token>,
    /// Whether it is known to be the one to use: WeChat said so, or accepts it from others.
    pub confirmed: bool,
}

/// Why a refused call is not sent once more.
#[derive(Debug)]
pub enum NoReplay {
    /// No token could be had.
    Failed(TokenError),
    /// The refused token is the only one, and a second try with it would end the same way.
    Same {
        /// Whether it is known to be the one to use, so that it is the call that is to blame.
        confirmed: bool,
    },
}

impl From<TokenError> for NoReplay {
    fn from(error: TokenError) -> Self {
        Self::Failed(error)
    }
}

/// The pause before a call is sent again with the token that was refused: WeChat's refusals can
/// be transient.
const SAME_TOKEN_PAUSE: Duration = Duration::from_millis(300);

impl<I: TokenSource> Keeper<I> {
    /// What to use instead of `refused`, which WeChat just turned down.
    ///
    /// When someone else has replaced it meanwhile, that replacement is returned and WeChat is left
    /// alone; so a thousand calls that fail together cause one fetch. The refused token must be
    /// shown: nobody forces a fetch without a refusal.
    pub async fn replace(self: &Arc<Self>, refused: &Token) -> Result<Replacement, TokenError> {
        let refused_at = Instant::now();
        for again in [false, true] {
            let (answers, flight) = {
                let mut state = self.lock();
                if let Some(token) = self.in_hand()
                    && token.is_alive()
                    && !token.is(refused)
                {
                    return Ok(Replacement::Another(token));
                }
                if let Some(going) = &state.flight {
                    // Who means its refusals need not be asked once more for each of them.
                    let meant = going.by_refusal && !self.options.retry_same_token;
                    (meant || going.launched >= refused_at, going.flight.clone())
                } else if let Some(failure) = state.back_off() {
                    return Err(failure.error.clone());
                } else if state.backoff.allows() || (again && state.backoff.follow_up()) {
                    (true, self.launch(&mut state, Cause::Refusal))
                } else {
                    return Ok(Replacement::Paced);
                }
            };
            let token = self.waiters.wait(flight).await?;
            if !token.is(refused) {
                return Ok(Replacement::Another(token));
            }
            if answers {
                break;
            }
            // The fetch that was joined had begun before the refusal; ask once more.
        }
        Ok(Replacement::Same)
    }

    /// The token to send a call with once more, of which `refused` was turned down.
    pub async fn replay_token(
        self: &Arc<Self>,
        refused: &Arc<Token>,
    ) -> Result<ReplayToken, NoReplay> {
        let tries_again = self.options.retry_same_token;
        let confirmed = match self.replace(refused).await? {
            Replacement::Another(token) => {
                // What others have put in place may have ended before anybody noticed.
                let confirmed = token.was_accepted() || !self.lock().hearsay;
                return Ok(ReplayToken { token, confirmed });
            }
            Replacement::Same if !tries_again => {
                self.doubt(&mut self.lock());
                return Err(NoReplay::Same { confirmed: true });
            }
            Replacement::Same => {
                sleep(SAME_TOKEN_PAUSE).await;
                true
            }
            // The token has not worked since it was asked for: it cools down.
            Replacement::Paced if !tries_again && !self.lock().backoff.has_hope() => {
                return Err(NoReplay::Same { confirmed: false });
            }
            // Where others are still accepted with it, it needs no word of WeChat's.
            Replacement::Paced => {
                !self.seems_dead(refused).await || self.last_hope(refused).await?
            }
        };
        let in_hand = self.in_hand().filter(|token| token.is_alive());
        let token = in_hand.unwrap_or_else(|| refused.clone());
        if token.is(refused) && !tries_again {
            return Err(NoReplay::Same { confirmed });
        }
        let confirmed = confirmed || !token.is(refused);
        Ok(ReplayToken { token, confirmed })
    }

    /// Whether, in the second half of a pause, no call was accepted with `token`. Its first half
    /// lets the replies come in that were on their way when it died.
    async fn seems_dead(&self, token: &Token) -> bool {
        sleep(SAME_TOKEN_PAUSE / 2).await;
        let before = {
            let state = self.lock();
            self.watching.store(true, Ordering::Relaxed);
            state.accepted
        };
        sleep(SAME_TOKEN_PAUSE / 2).await;
        self.in_hand().is_some_and(|held| held.is(token)) && self.lock().accepted == before
    }

    /// Asks WeChat though the pace forbids it, and says whether the pace allowed for that.
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

    /// Whether `value` is the token in hand, or one of the last that were.
    pub fn has_had(&self, value: &Secret) -> bool {
        let in_hand = self.in_hand();
        let state = self.lock();
        let mut all = in_hand.iter().chain(&state.past);
        all.any(|token| token.value() == value)
    }

    /// WeChat accepted a call with `token`.
    pub fn accepted(&self, token: &Token) {
        let new = token.accept();
        if new || self.watching.load(Ordering::Relaxed) {
            self.note_accepted(token, new);
        }
    }

    #[cold]
    fn note_accepted(&self, token: &Token, new: bool) {
        let mut state = self.lock();
        if self.in_hand().is_some_and(|held| held.is(token)) {
            self.watching.store(false, Ordering::Relaxed);
            state.on_trial = false;
            state.accepted += 1;
            state.doubt = None;
            state.backoff.accepted(new);
        }
    }

    /// A call's second send was refused with `token`, too. `worked`: calls to that endpoint have
    /// been accepted before.
    pub fn refused_again(&self, token: &Token, worked: bool) {
        let mut state = self.lock();
        if !self.in_hand().is_some_and(|held| held.is(token)) {
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

    /// From now on WeChat is asked now and then whether the token in hand is the one to use.
    fn doubt(&self, state: &mut State) {
        // A classic fetch would not tell: it ends the token that it asks about.
        if state.doubt.is_none() && self.options.renewal != Renewal::Ahead {
            state.doubt = Some(Doubt::new());
            self.changed.notify_one();
        }
    }
}
