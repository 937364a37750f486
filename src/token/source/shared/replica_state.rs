//! What one replica knows: the token in hand, those that are over, how the store and WeChat are.

use std::collections::VecDeque;

use tokio::time::{Duration, Instant};

use super::budget::Budget;
use crate::{
    metrics::Cause,
    secret::Secret,
    token::{
        Token,
        source::{
            FetchRequest, TokenError, TokenErrorKind,
            store::{StoreState, StoredToken},
        },
    },
};

/// A token that lives shorter is not worth taking.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);

/// How many tokens that are over are remembered.
const PAST: usize = 8;

/// How many replies to "how many are here?" are remembered.
const COUNTS: usize = 4;

/// How often a replica says that it is here.
const ATTENDANCE: Duration = Duration::from_secs(45);

/// What one replica knows of its account's token.
#[derive(Default)]
pub(super) struct ReplicaState {
    in_hand: Option<CurrentToken>,
    /// Tokens that were refused here, or replaced: they are never taken again.
    past: VecDeque<Secret>,
    /// The token in hand is not in the store, as far as is known.
    pub(super) unshared: bool,
    /// Since when the store does not answer those who read.
    pub(super) unreadable: Option<Instant>,
    /// The same for those who write.
    pub(super) unwritable: Option<Instant>,
    /// Whether there has been a wait for the store since it is away.
    pub(super) waited: bool,
    /// A step that takes or holds the lease has not ended well: it may be held.
    pub(super) perhaps_leased: bool,
    /// Refusals to issue a token in a row, anybody's.
    pub(super) failures: u32,
    /// The last failure of this replica's own request since its last success.
    failed: Option<TokenError>,
    budget: Budget,
    counts: VecDeque<u32>,
    counted_at: Option<Instant>,
    issuing: bool,
    /// How many times a token was issued.
    turn: u64,
}

struct CurrentToken {
    value: Secret,
    until: Instant,
}

impl CurrentToken {
    fn remaining(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// What to do about a difference between the token in hand and the store.
pub(super) enum Reconcile {
    /// Nothing.
    Stay,
    /// The one in the store is the newer.
    Take(StoredToken),
    /// The one in hand is the newer.
    Offer {
        /// What is in the store.
        over: Option<StoredToken>,
        mine: StoredToken,
    },
}

impl ReplicaState {
    /// Since when the store is of no use.
    pub(super) fn away(&self) -> Option<Instant> {
        self.unreadable.or(self.unwritable)
    }

    /// A token is wanted.
    pub(super) fn begins(&mut self, wanted: &FetchRequest) {
        self.issuing = true;
        if let Some(token) = &wanted.current {
            self.in_hand = Some(in_hand(token));
            if wanted.cause == Cause::Refusal {
                self.is_over(token.value().clone());
            }
        }
    }

    /// The wish was answered, or given up.
    pub(super) fn ends(&mut self) {
        self.issuing = false;
        self.turn += 1;
    }

    /// Something to compare with later; `None` while a token is being issued.
    pub(super) fn turn(&self) -> Option<u64> {
        (!self.issuing).then_some(self.turn)
    }

    /// Whether the token in the store answers the wish.
    pub(super) fn takes(&self, held: &StoredToken, wanted: &FetchRequest) -> bool {
        if held.lives < SHORTEST_LIFE || self.past.contains(&held.value) {
            return false;
        }
        wanted.current.as_ref().is_none_or(|token| {
            let newer = wanted.cause != Cause::Renewal || held.lives > token.remaining();
            held.value != *token.value() && newer
        })
    }

    /// `token` is in hand now.
    pub(super) fn has(&mut self, token: &Token) {
        let before = self.in_hand.replace(in_hand(token));
        if let Some(before) = before.filter(|before| before.value != *token.value()) {
            self.is_over(before.value);
        }
        self.past.retain(|past| past != token.value());
    }

    /// WeChat issued `token` while `seen` was in the store.
    pub(super) fn fetched(&mut self, token: &Token, seen: Option<&Secret>) {
        self.failures = 0;
        self.failed = None;
        self.unshared = true;
        if let Some(seen) = seen {
            self.is_over(seen.clone());
        }
        self.has(token);
    }

    /// The token in hand is in the store, and the lease by which it came there has ended.
    pub(super) fn is_shared(&mut self) {
        self.unshared = false;
        self.perhaps_leased = false;
    }

    /// This replica's own request failed: the how many-th in a row is it?
    pub(super) fn failed(&mut self, error: &TokenError) -> u32 {
        self.failures = self.failures.saturating_add(1);
        self.failed = Some(error.clone());
        self.failures
    }

    /// Whether what another replica was told holds for this one. `same`: its request would be the
    /// same.
    pub(super) fn binds(&self, error: &TokenError, same: bool) -> bool {
        match about(error) {
            Scope::Account => true,
            Scope::Request => same,
            Scope::Sender => {
                let own = self.failed.as_ref().map(TokenError::kind);
                own == Some(error.kind())
            }
        }
    }

    /// How long to let others try first: those to whom it did not happen that this replica cannot
    /// reach WeChat, or may not.
    pub(super) fn deference(&self) -> Duration {
        let alone = self.replicas().is_none_or(|replicas| replicas < 2);
        match &self.failed {
            Some(error) if !alone && about(error) == Scope::Sender => {
                Duration::from_millis(fastrand::u64(1000..2000))
            }
            _ => Duration::ZERO,
        }
    }

    /// How the token in hand and the store are brought together. `slack`: by how much the store's
    /// lives may be too short.
    pub(super) fn reconcile(&self, found: &StoreState, slack: Duration) -> Reconcile {
        let held = found.token.as_ref();
        let mine = self.in_hand.as_ref();
        let mine = mine
            .filter(|mine| mine.remaining() > SHORTEST_LIFE && !self.past.contains(&mine.value));
        let over = |value: &Secret| self.past.contains(value);
        match (held, mine) {
            (Some(held), Some(mine)) if held.value == mine.value => Reconcile::Stay,
            (Some(held), Some(mine))
                if over(&held.value) || held.lives + slack < mine.remaining() =>
            {
                self.offer(Some(held), mine)
            }
            (Some(held), _) if over(&held.value) || held.lives < SHORTEST_LIFE => Reconcile::Stay,
            (Some(held), _) => Reconcile::Take(held.clone()),
            (None, Some(mine)) => self.offer(None, mine),
            (None, None) => Reconcile::Stay,
        }
    }

    fn offer(&self, over: Option<&StoredToken>, mine: &CurrentToken) -> Reconcile {
        Reconcile::Offer {
            over: over.cloned(),
            mine: StoredToken {
                value: mine.value.clone(),
                lives: mine.remaining(),
            },
        }
    }

    /// How long to wait for a store that is away before going on without: the more replicas there
    /// are, the longer, and only once in an absence.
    pub(super) fn patience(&mut self) -> Duration {
        if std::mem::replace(&mut self.waited, true) {
            return Duration::ZERO;
        }
        let replicas = self.replicas().unwrap_or(50).min(1000);
        let most = Duration::from_millis(50) * replicas;
        let most = most.clamp(Duration::from_secs(1), Duration::from_secs(10));
        most.mul_f64(0.5 + 0.5 * fastrand::f64())
    }

    /// Whether one more fetch without the store is allowed.
    pub(super) fn spend(&mut self, daily: u32, refused: bool) -> bool {
        let replicas = self.replicas();
        self.budget.spend(daily, replicas, refused)
    }

    /// A fetch without the store failed with `error`.
    pub(super) fn refund(&mut self, error: &TokenError) {
        // A request without an answer may have been heard.
        if !matches!(error, TokenError::Slow | TokenError::Broken) {
            self.budget.refund();
        }
    }

    /// The store says how many replicas there are.
    pub(super) fn heard_replicas(&mut self, replicas: u32) {
        self.counted_at = Some(Instant::now());
        self.counts.push_back(replicas);
        if self.counts.len() > COUNTS {
            self.counts.pop_front();
        }
    }

    /// Whether it is time to say again that this one is here.
    pub(super) fn heartbeat_is_due(&self) -> bool {
        self.counted_at.is_none_or(|at| at.elapsed() > ATTENDANCE)
    }

    /// How many replicas there are; a store that was emptied forgets most of them for a while.
    pub(super) fn replicas(&self) -> Option<u32> {
        self.counts.iter().copied().max()
    }

    fn is_over(&mut self, value: Secret) {
        if !self.past.contains(&value) {
            self.past.push_back(value);
            if self.past.len() > PAST {
                self.past.pop_front();
            }
        }
    }
}

fn in_hand(token: &Token) -> CurrentToken {
    CurrentToken {
        value: token.value().clone(),
        until: Instant::now() + token.remaining(),
    }
}

/// Whom a failure is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Account,
    Request,
    Sender,
}

fn about(error: &TokenError) -> Scope {
    match error {
        TokenError::Refused { kind: meaning, .. } => match meaning {
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
            TokenErrorKind::Near
            | TokenErrorKind::NotWhitelisted
            | TokenErrorKind::AwaitsAdmin
            | TokenErrorKind::RefusedForAnHour
            | TokenErrorKind::RefusedForADay => Scope::Sender,
        },
        TokenError::Elsewhere(error) => about(error),
        TokenError::Unreachable(_)
        | TokenError::Nonsense(_)
        | TokenError::Slow
        | TokenError::Broken
        | TokenError::Store(_)
        | TokenError::Spent(_)
        | TokenError::Unusable(_)
        | TokenError::WithoutToken(_) => Scope::Sender,
    }
}
