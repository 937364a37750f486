//! When a keeper fetches next, and what changes when the machine was suspended.

use std::sync::{Arc, atomic::Ordering};

use tokio::time::{Duration, Instant, timeout};

use super::{Keeper, schedule, state::State};
use crate::token::{
    Expiry, Token,
    source::{FetchedToken, TokenSource},
};

impl<S: TokenSource> Keeper<S> {
    /// How long from now to fetch again after `token` was fetched. `same` says whether a renewal returned it again.
    pub(super) fn next_fetch_in(&self, state: &State, token: &Token, same: bool) -> Duration {
        let (renewal, jitter) = (self.options.renewal, fastrand::f64());
        match token.expiry() {
            Expiry::Unknown => schedule::ask_about_expiry_in(token, state.token.fetches(), jitter),
            Expiry::Known if same => schedule::ask_again_in(renewal, token.remaining(), jitter),
            Expiry::Known => schedule::renew_in(renewal, token.remaining(), jitter),
        }
    }

    /// Counts that the machine was suspended for `time`, in which tokio's clock stood still. The token in hand
    /// expires earlier by that, and so does every wait.
    pub fn suspended(&self, time: Duration) {
        let earlier = |at: Instant| at.checked_sub(time).unwrap_or_else(Instant::now);
        let mut state = self.lock();
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.suspended.fetch_add(millis, Ordering::Relaxed);
        if let Some(token) = self.in_hand() {
            self.token.store(Some(Arc::new(token.aged(time))));
        }
        state.renew_at = earlier(state.renew_at);
        if let Some(failure) = &mut state.failure {
            failure.retry_at = earlier(failure.retry_at);
        }
        self.source.suspended(time);
        drop(state);
        self.changed.notify_one();
    }

    /// For how long the machine was suspended since the keeper was made.
    pub fn total_suspension(&self) -> Duration {
        Duration::from_millis(self.suspended.load(Ordering::Relaxed))
    }

    /// The result of a fetch that began when the [total](Self::total_suspension) was `before`: a reply may have waited
    /// in this machine while it was suspended.
    pub(super) fn count_suspension(&self, fetched: FetchedToken, before: Duration) -> FetchedToken {
        let time = self.total_suspension().saturating_sub(before);
        if time.is_zero() {
            return fetched;
        }
        let token = fetched.token.aged(time);
        FetchedToken { token, ..fetched }
    }

    /// Waits for the fetch in flight, if there is one, but not longer than `limit`.
    pub async fn wait_for_fetch(&self, limit: Duration) {
        let flight = self.lock().flight();
        if let Some(flight) = flight {
            // Whatever it brings is the token in hand.
            let _ = timeout(limit, self.waiters.wait(flight)).await;
        }
    }
}
