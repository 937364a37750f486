//! The state of a keeper, except for the current token.

use futures_util::future::{BoxFuture, Shared};
use std::{collections::VecDeque, sync::Arc};
use tokio::time::{Duration, Instant};

use super::{
    NoToken, Options,
    confidence::{Action, TokenEvent, TokenState, TokenTraits},
    schedule::Renewal,
};
use crate::{
    metrics::Cause,
    token::{Token, source::TokenError},
};

/// The result of a fetch in flight. Every waiter has a clone.
pub(super) type Flight = Shared<BoxFuture<'static, Result<Arc<Token>, TokenError>>>;

/// The fetch in flight.
pub(super) struct InFlight {
    /// When it was started. Its token may be older than a later refusal.
    pub(super) launched: Instant,
    pub(super) cause: Cause,
    pub(super) flight: Flight,
}

/// The state, behind a `std` mutex that is never held across an await.
pub(super) struct State {
    pub(super) flight: Option<InFlight>,
    pub(super) failure: Option<FetchFailure>,
    /// Whether the cause of a failure may be gone since the fetch in flight began.
    pub(super) again: bool,
    /// Whether any fetch has ended, successfully or not.
    pub(super) tried: bool,
    pub(super) renew_at: Instant,
    /// What is believed of the token in hand.
    pub(super) token: TokenState,
    /// How many accepted calls were reported.
    pub(super) accepted: u64,
    /// When the last tokens were replaced because WeChat refused them, the newest last.
    revoked_at: VecDeque<Instant>,
    /// The previous tokens, the newest last.
    pub(super) past: VecDeque<Arc<Token>>,
}

pub(super) struct FetchFailure {
    pub(super) error: TokenError,
    pub(super) count: u32,
    pub(super) retry_at: Instant,
}

impl Options {
    /// What is special about the tokens.
    pub(super) fn traits(&self) -> TokenTraits {
        TokenTraits {
            fetch_revokes: self.renewal == Renewal::Ahead,
            spurious_refusals: self.retry_same_token,
        }
    }
}

impl State {
    pub(super) fn new(options: &Options) -> Self {
        let now = Instant::now();
        Self {
            flight: None,
            failure: None,
            again: false,
            tried: false,
            renew_at: now,
            token: TokenState::new(options.traits(), options.daily_fetches, now),
            accepted: 0,
            revoked_at: VecDeque::new(),
            past: VecDeque::new(),
        }
    }

    /// Applies `event` to the state of the token.
    pub(super) fn step(&mut self, event: TokenEvent) -> Action {
        let (next, action) = self.token.clone().step(event, Instant::now());
        self.token = next;
        action
    }

    /// A refused token was replaced. Returns whether that happens again and again.
    pub(super) fn revoked(&mut self) -> bool {
        const TIMES: usize = 3;
        const WITHIN: Duration = Duration::from_secs(600);
        let now = Instant::now();
        self.revoked_at.push_back(now);
        if self.revoked_at.len() > TIMES {
            self.revoked_at.pop_front();
        }
        self.revoked_at.len() == TIMES && now - self.revoked_at[0] < WITHIN
    }

    /// Adds a replaced token to the past ones.
    pub(super) fn retire(&mut self, token: Arc<Token>) {
        const KEPT: usize = 4;
        if self.past.len() == KEPT {
            self.past.pop_front();
        }
        self.past.push_back(token);
    }

    /// The last failure, if it still forbids a fetch.
    pub(super) fn back_off(&self) -> Option<&FetchFailure> {
        let failure = self.failure.as_ref();
        failure.filter(|failure| failure.retry_at > Instant::now())
    }

    /// The fetch in flight, to wait for.
    pub(super) fn flight(&self) -> Option<Flight> {
        self.flight
            .as_ref()
            .map(|in_flight| in_flight.flight.clone())
    }

    /// When the next fetch is due that is not caused by a call.
    pub(super) fn due(&self) -> Instant {
        if let Some(failure) = &self.failure {
            return failure.retry_at;
        }
        let due = self.token.due(Instant::now());
        due.map_or(self.renew_at, |at| at.min(self.renew_at))
    }
}

impl FetchFailure {
    pub(super) fn report(&self) -> NoToken {
        NoToken {
            error: self.error.clone(),
            retry_after: self.retry_at.saturating_duration_since(Instant::now()),
        }
    }
}
