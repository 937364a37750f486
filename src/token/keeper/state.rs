//! The state of a keeper, except for the current token.

use futures_util::future::{BoxFuture, Shared};
use std::{collections::VecDeque, sync::Arc};
use tokio::time::{Duration, Instant};

use super::{NoToken, backoff::RefreshBackoff};
use crate::token::{Token, source::TokenError};

/// The result of a fetch in flight. Every waiter has a clone.
pub(super) type Flight = Shared<BoxFuture<'static, Result<Arc<Token>, TokenError>>>;

/// The fetch in flight.
pub(super) struct InFlight {
    /// When it was started. Its token may be older than a later refusal.
    pub(super) launched: Instant,
    /// Whether a refusal caused it.
    pub(super) by_refusal: bool,
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
    pub(super) backoff: RefreshBackoff,
    /// Whether the current token was fetched after a refusal and has not been accepted or refused yet.
    pub(super) on_trial: bool,
    /// Whether the current token was put in place by others, and not fetched from WeChat.
    pub(super) hearsay: bool,
    /// How many accepted calls were reported.
    pub(super) accepted: u64,
    /// The previous tokens, the newest last.
    pub(super) past: VecDeque<Arc<Token>>,
    /// Set when a replay was refused, until the token is accepted or replaced.
    pub(super) doubt: Option<Doubt>,
}

pub(super) struct FetchFailure {
    pub(super) error: TokenError,
    pub(super) count: u32,
    pub(super) retry_at: Instant,
}

/// WeChat returned the current token again, but refuses it. Calls cause no more fetches for it. Instead, the
/// keeper asks WeChat at growing intervals whether the token is still the current one.
#[derive(Clone, Copy)]
pub(super) struct Doubt {
    ask_at: Instant,
    wait: Duration,
}

impl Doubt {
    const FIRST: Duration = Duration::from_secs(10);
    const MOST: Duration = Duration::from_secs(600);

    pub(super) fn new() -> Self {
        Self {
            ask_at: Instant::now() + Self::FIRST,
            wait: Self::FIRST,
        }
    }

    /// WeChat returned the same token again.
    pub(super) fn stays(self) -> Self {
        let wait = (self.wait * 2).min(Self::MOST);
        Self {
            ask_at: Instant::now() + wait,
            wait,
        }
    }
}

impl State {
    pub(super) fn new(daily_fetches: u32) -> Self {
        Self {
            flight: None,
            failure: None,
            again: false,
            tried: false,
            renew_at: Instant::now(),
            backoff: RefreshBackoff::new(daily_fetches),
            on_trial: false,
            hearsay: false,
            accepted: 0,
            past: VecDeque::new(),
            doubt: None,
        }
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
    pub(super) fn due(&mut self) -> Instant {
        if let Some(failure) = &self.failure {
            return failure.retry_at;
        }
        let doubt = self.doubt.filter(|_| self.backoff.is_below_ceiling());
        doubt.map_or(self.renew_at, |doubt| doubt.ask_at.min(self.renew_at))
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
