//! The state of one replica: the current token, past tokens, and the health of the store and of WeChat.

use std::collections::VecDeque;

use tokio::time::{Duration, Instant};

use super::budget::Budget;
use crate::{
    metrics::Cause,
    secret::Secret,
    token::{
        Expiry, Token,
        source::{
            FetchRequest, TokenError, TokenErrorKind,
            store::{ForeignValue, StoreState, StoredToken},
        },
    },
};

/// A token with a shorter remaining lifetime is not used.
const MIN_LIFETIME: Duration = Duration::from_secs(1);

/// Shorter differences between the lifetimes of two tickets mean nothing.
const INACCURACY: Duration = Duration::from_secs(5);

/// How many past tokens are remembered.
const MAX_PAST: usize = 8;

/// How many counts of replicas are remembered.
const MAX_COUNTS: usize = 4;

/// How often a replica sends a heartbeat.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(45);

/// The state of one replica for one account's token.
#[derive(Default)]
pub(super) struct ReplicaState {
    current: Option<CurrentToken>,
    /// Tokens that were refused here, or replaced. They are never used again.
    past: VecDeque<Secret>,
    /// Whether the current token is not in the store, as far as is known.
    pub(super) unshared: bool,
    /// The value that stands under the token's key, as far as is known, and is no token.
    pub(super) foreign: Option<ForeignValue>,
    /// Since when reads of the store fail.
    pub(super) unreadable: Option<Instant>,
    /// Since when writes to the store fail.
    pub(super) unwritable: Option<Instant>,
    /// Whether a fetch has waited for the store since it became unavailable.
    pub(super) waited: bool,
    /// Whether this replica may have the lease, because an operation on it failed.
    pub(super) perhaps_leased: bool,
    /// Refused token requests in a row, of all replicas.
    pub(super) failures: u32,
    /// The last failure of this replica's own request since its last success.
    last_error: Option<TokenError>,
    budget: Budget,
    counts: VecDeque<u32>,
    counted_at: Option<Instant>,
    fetching: bool,
    /// The number of fetches that have ended.
    generation: u64,
}

struct CurrentToken {
    value: Secret,
    until: Instant,
    expiry: Expiry,
}

impl CurrentToken {
    fn remaining(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// What to do about a difference between the current token and the store.
pub(super) enum Reconcile {
    /// Nothing.
    Keep,
    /// Use the stored token, which is newer.
    Take(StoredToken),
    /// Store the current token, which is newer.
    Store {
        /// The token in the store.
        replaced: Option<StoredToken>,
        current: StoredToken,
    },
}

impl ReplicaState {
    /// Since when the store is unavailable.
    pub(super) fn unavailable_since(&self) -> Option<Instant> {
        self.unreadable.or(self.unwritable)
    }

    /// A fetch begins.
    pub(super) fn begin(&mut self, request: &FetchRequest) {
        self.fetching = true;
        if let Some(token) = &request.current {
            self.current = Some(current(token));
            if request.cause == Cause::Refusal {
                self.retire(token.value().clone());
            }
        }
    }

    /// The fetch has ended.
    pub(super) fn end(&mut self) {
        self.fetching = false;
        self.generation += 1;
    }

    /// A number that changes with each fetch; `None` while one is in flight.
    pub(super) fn generation(&self) -> Option<u64> {
        (!self.fetching).then_some(self.generation)
    }

    /// Whether the stored token satisfies the request.
    pub(super) fn is_usable(&self, stored: &StoredToken, request: &FetchRequest) -> bool {
        // Whatever is stored may be what leaked.
        let revokes = request.cause == Cause::Revoke;
        if revokes || stored.remaining < MIN_LIFETIME || self.past.contains(&stored.value) {
            return false;
        }
        request.current.as_ref().is_none_or(|token| {
            let newer = request.cause != Cause::Renewal || stored.remaining > token.remaining();
            stored.value != *token.value() && newer
        })
    }

    /// Whether another replica asked WeChat for the ticket later than this one did, which has `current`, and got it
    /// again or another one. The lifetime of a ticket counts from such requests.
    pub(super) fn is_newer_ticket(&self, stored: &StoredToken, current: &Token) -> bool {
        let is_used = stored.remaining >= MIN_LIFETIME && !self.past.contains(&stored.value);
        is_used
            && if stored.value == *current.value() {
                stored.remaining > current.remaining() + INACCURACY
            } else {
                stored.remaining + 3 * INACCURACY > current.remaining()
            }
    }

    /// `token` is the current one from now on.
    pub(super) fn set_current(&mut self, token: &Token) {
        let before = self.current.replace(current(token));
        if let Some(before) = before.filter(|before| before.value != *token.value()) {
            self.retire(before.value);
        }
        self.past.retain(|past| past != token.value());
    }

    /// The machine was suspended for `time`. Otherwise an old token would look newer than the store's.
    pub(super) fn suspended(&mut self, time: Duration) {
        if let Some(current) = &mut self.current {
            let earlier = current.until.checked_sub(time);
            current.until = earlier.unwrap_or_else(Instant::now);
        }
    }

    /// WeChat returned `token` while `seen` was in the store.
    pub(super) fn fetched(&mut self, token: &Token, seen: Option<&Secret>) {
        self.failures = 0;
        self.last_error = None;
        self.unshared = true;
        if let Some(seen) = seen {
            self.retire(seen.clone());
        }
        self.set_current(token);
    }

    /// The current token is in the store, and the lease has ended.
    pub(super) fn set_shared(&mut self) {
        self.unshared = false;
        self.perhaps_leased = false;
    }

    /// Notes that this replica's own request failed. Returns the number of failures in a row.
    pub(super) fn failed(&mut self, error: &TokenError) -> u32 {
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(error.clone());
        self.failures
    }

    /// Whether an error that another replica got applies to this one. `same` says whether both have the same
    /// secret.
    pub(super) fn applies(&self, error: &TokenError, same: bool) -> bool {
        match scope(error) {
            Scope::Account => true,
            Scope::Request => same,
            Scope::Sender => {
                let own = self.last_error.as_ref().map(TokenError::kind);
                own == Some(error.kind())
            }
        }
    }

    /// How long to let other replicas try first, because this one could not connect to WeChat or was refused
    /// for its IP.
    pub(super) fn deference(&self) -> Duration {
        let is_alone = self.replicas().is_none_or(|replicas| replicas < 2);
        match &self.last_error {
            Some(error) if !is_alone && scope(error) == Scope::Sender => {
                Duration::from_millis(fastrand::u64(1000..2000))
            }
            _ => Duration::ZERO,
        }
    }

    /// Compares the current token with the store. The lifetimes in the store may be too short by `skew`.
    pub(super) fn reconcile(&self, found: &StoreState, skew: Duration) -> Reconcile {
        let stored = found.token.as_ref();
        let is_past = |value: &Secret| self.past.contains(value);
        let current = self
            .current
            .as_ref()
            .filter(|current| current.remaining() > MIN_LIFETIME && !is_past(&current.value));
        match (stored, current) {
            (Some(stored), Some(current)) if stored.value == current.value => Reconcile::Keep,
            (Some(stored), Some(current))
                if is_past(&stored.value) || stored.remaining + skew < current.remaining() =>
            {
                store(Some(stored), current)
            }
            (Some(stored), _) if is_past(&stored.value) || stored.remaining < MIN_LIFETIME => {
                Reconcile::Keep
            }
            (Some(stored), _) => Reconcile::Take(stored.clone()),
            (None, Some(current)) => store(None, current),
            (None, None) => Reconcile::Keep,
        }
    }

    /// How long to wait for an unavailable store before fetching without it. It is longer with more replicas,
    /// and zero after the first wait of an outage.
    pub(super) fn store_patience(&mut self) -> Duration {
        if std::mem::replace(&mut self.waited, true) {
            return Duration::ZERO;
        }
        let replicas = self.replicas().unwrap_or(50).min(1000);
        let most = Duration::from_millis(50) * replicas;
        let most = most.clamp(Duration::from_secs(1), Duration::from_secs(10));
        most.mul_f64(0.5 + 0.5 * fastrand::f64())
    }

    /// Takes a fetch without the store from the budget, if it allows one.
    pub(super) fn spend(&mut self, daily: u32, refused: bool) -> bool {
        let replicas = self.replicas();
        self.budget.spend(daily, replicas, refused)
    }

    /// A fetch without the store failed with `error`.
    pub(super) fn refund(&mut self, error: &TokenError) {
        // A request without a reply may have taken effect.
        if !matches!(error, TokenError::TimedOut | TokenError::Panicked) {
            self.budget.refund();
        }
    }

    /// Notes how many replicas the store has counted.
    pub(super) fn note_replicas(&mut self, replicas: u32) {
        self.counted_at = Some(Instant::now());
        self.counts.push_back(replicas);
        if self.counts.len() > MAX_COUNTS {
            self.counts.pop_front();
        }
    }

    /// Whether it is time for a heartbeat.
    pub(super) fn heartbeat_is_due(&self) -> bool {
        self.counted_at
            .is_none_or(|at| at.elapsed() > HEARTBEAT_INTERVAL)
    }

    /// The number of replicas: the largest of the last counts, because a store that was emptied counts too few
    /// for a while.
    pub(super) fn replicas(&self) -> Option<u32> {
        self.counts.iter().copied().max()
    }

    fn retire(&mut self, value: Secret) {
        if !self.past.contains(&value) {
            self.past.push_back(value);
            if self.past.len() > MAX_PAST {
                self.past.pop_front();
            }
        }
    }
}

fn store(replaced: Option<&StoredToken>, current: &CurrentToken) -> Reconcile {
    Reconcile::Store {
        replaced: replaced.cloned(),
        current: StoredToken {
            value: current.value.clone(),
            remaining: current.remaining(),
            expiry: current.expiry,
        },
    }
}

fn current(token: &Token) -> CurrentToken {
    CurrentToken {
        value: token.value().clone(),
        until: Instant::now() + token.remaining(),
        expiry: token.expiry(),
    }
}

/// The replicas that an error applies to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// All replicas.
    Account,
    /// Those with the same secret.
    Request,
    /// The one that got it.
    Sender,
}

fn scope(error: &TokenError) -> Scope {
    match error {
        TokenError::Errcode { kind, .. } => match kind {
            TokenErrorKind::Busy
            | TokenErrorKind::Frozen
            | TokenErrorKind::DailyQuota
            | TokenErrorKind::MinuteQuota
            | TokenErrorKind::TooOften
            | TokenErrorKind::Forbidden
            | TokenErrorKind::Unknown => Scope::Account,
            TokenErrorKind::WrongSecret
            | TokenErrorKind::WrongRequest
            | TokenErrorKind::WrongCorpSecret
            | TokenErrorKind::WrongCorpid => Scope::Request,
            TokenErrorKind::Local
            | TokenErrorKind::NotWhitelisted
            | TokenErrorKind::AwaitsAdmin
            | TokenErrorKind::RefusedForAnHour
            | TokenErrorKind::RefusedForADay => Scope::Sender,
        },
        TokenError::Elsewhere(error) => scope(error),
        TokenError::Unreachable(_)
        | TokenError::Invalid(_)
        | TokenError::TimedOut
        | TokenError::Panicked
        | TokenError::Store(_)
        | TokenError::ForeignValue(_)
        | TokenError::BudgetSpent(_)
        | TokenError::Unusable(_)
        | TokenError::ForcedSpent(_)
        | TokenError::WithoutToken(_) => Scope::Sender,
    }
}
