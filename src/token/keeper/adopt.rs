//! Polls the source for tokens that something else has put in place, and adopts them.

use std::future;

use tokio::time::{Instant, sleep};

use super::Keeper;
use crate::{
    metrics::Cause,
    token::{
        Token,
        source::{FetchedToken, TokenSource},
    },
};

impl<S: TokenSource> Keeper<S> {
    /// Takes over the token and state of `before`, a keeper of the same tokens with other options.
    pub fn go_on_from(&self, before: &Self) {
        let (token, renew_at, tried, state_of_token) = {
            let state = before.lock();
            (
                before.in_hand(),
                state.renew_at,
                state.tried,
                state.token.clone(),
            )
        };
        let mut state = self.lock();
        (state.renew_at, state.tried) = (renew_at, tried);
        state.token = state_of_token.with_limits(self.options.traits(), self.options.daily_fetches);
        if state.token.dead().is_some() {
            // What was changed may be what was wrong.
            state.renew_at = Instant::now();
        }
        self.token.store(token);
    }

    /// Waits until the next poll is due, polls the source, and adopts the token that it returns.
    pub(super) async fn poll_source(&self) {
        let Some(interval) = self.source.poll_interval() else {
            return future::pending().await;
        };
        sleep(interval.mul_f64(0.75 + 0.5 * fastrand::f64())).await;
        let before = self.in_hand();
        // In a box: keepers that never get here need no place for it.
        if let Some(token) = Box::pin(self.source.poll()).await {
            self.adopt(before.as_deref(), token);
        }
    }

    /// Adopts `token`, unless the current token is the same and has not expired, or has changed since it was
    /// `before`.
    fn adopt(&self, before: Option<&Token>, token: Token) {
        let mut state = self.lock();
        let current = self.in_hand();
        let unchanged = match (current.as_deref(), before) {
            (Some(current), Some(before)) => current.is(before),
            (current, before) => current.is_none() && before.is_none(),
        };
        if unchanged && !current.is_some_and(|current| current.is(&token) && current.is_alive()) {
            let fetched = false;
            self.store(&mut state, Cause::Renewal, FetchedToken { token, fetched });
        }
    }
}
