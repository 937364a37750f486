//! What a keeper knows beside the token in hand.

use futures_util::future::{BoxFuture, Shared};
use std::{collections::VecDeque, sync::Arc};
use tokio::time::{Duration, Instant};

use super::{NoToken, backoff::RefreshBackoff};
use crate::token::{Token, source::TokenError};

/// A fetch on its way: every waiter has a clone.
pub(super) type Flight = Shared<BoxFuture<'static, Result<Arc<Token>, TokenError>>>;

/// The fetch on its way.
pub(super) struct InFlight {
    /// A refusal that came later is not answered by it.
    pub(super) launched: Instant,
    /// Whether a refusal caused it.
    pub(super) by_refusal: bool,
    pub(super) flight: Flight,
}

/// Guarded by a `std` mutex: it is never held across an await.
pub(super) struct State {
    pub(super) flight: Option<InFlight>,
    pub(super) failure: Option<FetchFailure>,
    /// The reason of a failure may be gone since the fetch on its way began.
    pub(super) again: bool,
    /// Whether any fetch has ended, well or badly.
    pub(super) tried: bool,
    pub(super) renew_at: Instant,
    pub(super) backoff: RefreshBackoff,
    /// Whether the token in hand was brought by a refusal and has not shown yet what it is worth.
    pub(super) on_trial: bool,
    /// Whether the token in hand was put in place by others, not brought by WeChat itself.
    pub(super) hearsay: bool,
    /// How many times an accepted call was news.
    pub(super) accepted: u64,
    /// Tokens that were in hand, the newest last.
    pub(super) past: VecDeque<Arc<Token>>,
    /// Since a second send was refused, until the token is accepted or is another.
    pub(super) doubt: Option<Doubt>,
}

pub(super) struct FetchFailure {
    pub(super) error: TokenError,
    pub(super) count: u32,
    pub(super) retry_at: Instant,
}

/// WeChat says that the token is the one to use, and refuses it. Nobody's call causes a fetch for
/// that any more; but WeChat is asked now and then whether it still says so.
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

    /// WeChat still said so.
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

    /// Another token takes the place of `token`.
    pub(super) fn retire(&mut self, token: Arc<Token>) {
        const KEPT: usize = 4;
        if self.past.len() == KEPT {
            self.past.pop_front();
        }
        self.past.push_back(token);
    }

    /// The failure after which no fetch is possible yet.
    pub(super) fn back_off(&self) -> Option<&FetchFailure> {
        let failure = self.failure.as_ref();
        failure.filter(|failure| failure.retry_at > Instant::now())
    }

    /// The fetch on its way, to wait for.
    pub(super) fn flight(&self) -> Option<Flight> {
        self.flight.as_ref().map(|going| going.flight.clone())
    }

    /// When the next fetch is due that no call causes.
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
