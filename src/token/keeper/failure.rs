//! What a keeper does about a failed fetch.

use tokio::time::{Duration, Instant};

use super::{
    Keeper,
    confidence::TokenEvent,
    problem, schedule,
    state::{FetchFailure, State},
};
use crate::{
    metrics::{Cause, Fetched},
    token::source::{TokenError, TokenSource},
};

impl<S: TokenSource> Keeper<S> {
    /// A fetch failed with `error`. `again` says that the reason may be gone since it began.
    ///
    /// Others wait before they fetch again, unless this was a step of a revocation: what WeChat says of a forced
    /// refresh, such as that there were too many, says nothing of the next ordinary fetch.
    pub(super) fn note_failure(
        &self,
        state: &mut State,
        cause: Cause,
        error: &TokenError,
        again: bool,
    ) {
        let count = state.failure.as_ref().map_or(0, |failure| failure.count) + 1;
        let mut wait = schedule::back_off(error.kind(), count, fastrand::f64());
        if again {
            wait = Duration::ZERO;
        }
        let kept = self.source.kept();
        let account = self.metrics.problems.account();
        let retry_seconds = wait.as_secs_f64();
        let errcode = error.code();
        tracing::debug!(account, errcode, %error, retry_seconds, "a request for a {} failed", kept.label());
        let fetched = match error.code().filter(|_| error.was_sent()) {
            Some(code) => {
                self.metrics.errcode(code);
                Fetched::Errcode
            }
            None => Fetched::Failed,
        };
        if cause == Cause::Revoke {
            self.metrics.fetch(kept, cause, fetched);
            state.step(TokenEvent::FetchFailed { account: false });
            return;
        }
        problem::failed(&self.metrics.problems, kept, error);
        self.metrics.fetch(kept, cause, fetched);
        let account = error.kind().is_of_the_account();
        state.step(TokenEvent::FetchFailed { account });
        state.failure = Some(FetchFailure {
            error: error.clone(),
            count,
            retry_at: Instant::now() + wait,
        });
    }
}
