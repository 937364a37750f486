//! Tokens that somebody else has put in place: looked for now and then, and taken.

use std::future;

use tokio::time::sleep;

use super::Keeper;
use crate::{
    metrics::Cause,
    token::{
        Token,
        source::{FetchedToken, TokenSource},
    },
};

impl<I: TokenSource> Keeper<I> {
    /// Goes on where `before` is, which keeps the same tokens by other means.
    pub fn go_on_from(&self, before: &Self) {
        let (token, renew_at, tried, pace) = {
            let state = before.lock();
            let pace = state.backoff.clone().below(self.options.daily_fetches);
            (before.in_hand(), state.renew_at, state.tried, pace)
        };
        let mut state = self.lock();
        (state.renew_at, state.tried, state.backoff) = (renew_at, tried, pace);
        self.token.store(token);
    }

    /// Waits for the time to look what others have put in place, and takes it.
    pub(super) async fn poll_source(&self) {
        let Some(every) = self.source.poll_interval() else {
            return future::pending().await;
        };
        sleep(every.mul_f64(0.75 + 0.5 * fastrand::f64())).await;
        let before = self.in_hand();
        if let Some(token) = self.source.poll().await {
            self.adopt(before.as_deref(), token);
        }
    }

    /// Takes `token`, which others have put in place, unless the one in hand is the same, and alive,
    /// or is no longer `before`.
    fn adopt(&self, before: Option<&Token>, token: Token) {
        let mut state = self.lock();
        let held = self.in_hand();
        let unchanged = match (held.as_deref(), before) {
            (Some(held), Some(before)) => held.is(before),
            (held, before) => held.is_none() && before.is_none(),
        };
        if unchanged && !held.is_some_and(|held| held.is(&token) && held.is_alive()) {
            let fetched = false;
            self.store(&mut state, Cause::Renewal, FetchedToken { token, fetched });
        }
    }
}
