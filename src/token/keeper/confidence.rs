//! What a keeper believes of the token in hand, as a state machine: `(state, event, now) → (state, action)`.
//!
//! | state | meaning | a call is accepted | a call is refused | a fetch returns the same token | another one | it fails |
//! |---|---|---|---|---|---|---|
//! | `Issued` | WeChat returned it, and no call was answered since | `Accepted` | `Refused` | `Issued` | `OnTrial` | stays |
//! | `Adopted` | something else put it in place, and no call was answered since | `Accepted` | `Refused` | `Issued` | `OnTrial` | stays |
//! | `OnTrial` | it replaced a refused token, and no call was answered since | `Accepted` | `Refused` | `Issued` | `OnTrial` | stays |
//! | `Accepted` | WeChat accepted a call since the last fetch | stays | `Refused` | `Issued` | `OnTrial` | stays |
//! | `Refused` | WeChat refused a call, and accepted none since | `Accepted` | stays, or `Dead` | stays | `OnTrial` | stays, or `Dead` |
//! | `Dead` | WeChat refuses every call, and no other token can be had | `Accepted` | stays | `Refused` | `OnTrial` | stays |
//!
//! The columns are for a fetch that a refusal caused. Another token that a renewal returns is `Issued`, and one that
//! something else puts in place is `Adopted`.
//!
//! A refused call asks for an action: `Fetch` another token, `Watch` whether other calls are accepted meanwhile, or
//! `Pass` the refusal on. Some calls are refused whatever the token: those of an endpoint that this account may not
//! call, or of a caller with a mistake. So a call whose endpoint never worked, or has a history of refusals
//! ([`Refusal::suspect`]), causes a fetch only if no other call is accepted for a while.
//!
//! A token is `Dead` when there is evidence enough, and no other can be had: the fetch failed, the day's fetches are
//! used up, or WeChat returned the same token again. Enough are refusals of two endpoints, or three of one that
//! worked before. Then the keeper fetches by itself, at growing intervals, so that no call is needed to recover.
//!
//! The limits of fetches are in [`RefreshBackoff`].

mod transitions;

use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::time::{Duration, Instant};

use super::backoff::RefreshBackoff;

/// The hash of an endpoint's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathId(u64);

impl PathId {
    /// The id of `path`.
    pub fn of(path: &[u8]) -> Self {
        let mut hash = DefaultHasher::new();
        path.hash(&mut hash);
        Self(hash.finish())
    }

    /// The id with this hash.
    pub const fn from_hash(hash: u64) -> Self {
        Self(hash)
    }
}

/// A call that WeChat refused, as evidence against its token.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// Its endpoint.
    pub path: PathId,
    /// Whether this endpoint has accepted a call before, with any token.
    pub worked: bool,
    /// Whether this endpoint has refused a call before that was not the token's fault. Then a fetch needs more
    /// evidence: no call with the token is accepted for a while.
    pub suspect: bool,
    /// Whether the call itself is most likely to blame. It causes at most one fetch a minute.
    pub weak: bool,
}

/// What a keeper believes of the token in hand. See the table in the text of the [module](self).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Confidence {
    /// WeChat returned it, and no call was answered since.
    Issued,
    /// Something else put it in place, and no call was answered since.
    Adopted,
    /// It replaced a refused token, and no call was answered since.
    OnTrial,
    /// WeChat accepted a call with it since the last fetch.
    Accepted,
    /// WeChat refused a call with it, and accepted none since.
    Refused(Evidence),
    /// WeChat refuses every call with it, and no other token can be had.
    Dead(Evidence, DeadBecause),
}

/// Why there is no replacement of a dead token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadBecause {
    /// The fetch failed.
    FetchFailed,
    /// The day's fetches are used up.
    CeilingReached,
    /// WeChat returned the same token again.
    ReturnedAgain,
}

/// The refusals since a token was last accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// Two different endpoints that refused it.
    paths: [Option<RefusingPath>; 2],
    /// How many calls were refused, and how many of them for good: their replay was refused, or made no sense.
    calls: u32,
    for_good: u32,
    /// The state before the first refusal, or since the last fetch.
    before: Before,
    fetch: LastFetch,
    /// When the keeper fetches by itself.
    ask_at: Option<Instant>,
}

/// An endpoint that refused the token.
#[derive(Clone, Copy, Debug, PartialEq)]
struct RefusingPath {
    path: PathId,
    worked: bool,
    /// Whether it refused a call for good.
    for_good: bool,
}

/// The state before the first refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Issued,
    Adopted,
    OnTrial,
    Accepted,
}

/// Which send of a call was refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WhichSend {
    /// The first.
    First,
    /// The first, which is counted already.
    StillFirst,
    /// The replay, or the first send of a call that is not replayed.
    Last,
}

/// The last fetch since the first refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastFetch {
    /// There was none.
    None,
    InFlight,
    /// It failed. `account` says that the account's secret, IP or state is the cause.
    Failed {
        account: bool,
    },
    /// It returned the same token.
    Same,
}

/// What happens to a token.
#[derive(Clone, Copy, Debug)]
pub enum TokenEvent {
    /// A fetch begins, whatever its cause.
    FetchBegins,
    /// The fetch did not ask WeChat after all.
    FetchSpared,
    /// A fetch returned a token.
    Fetched(ReturnedToken),
    /// A fetch failed, or the pause after a failed one has not ended. `account` says that the account's secret, IP or
    /// state is the cause.
    FetchFailed {
        /// See above.
        account: bool,
    },
    /// A call with the token in hand was accepted. `first` says that it was the first with this token.
    Accepted {
        /// See above.
        first: bool,
    },
    /// The first send of a call was refused with the token in hand.
    Refused(Refusal),
    /// No call was accepted while a refused call watched for that.
    NothingAccepted(Refusal),
    /// A fetch that had begun before the refusal returned the refused token.
    FetchWasEarlier(Refusal),
    /// The replay of a call was refused with the token in hand, too.
    RefusedAgain(Refusal),
    /// A fetch returned the refused token, and the call is not replayed with it.
    NotReplayed(Refusal),
}

/// A token that a fetch returned.
#[derive(Clone, Copy, Debug)]
pub struct ReturnedToken {
    /// Whether it is the token that was in hand.
    pub same: bool,
    /// Whether WeChat was asked; otherwise something else had put the token in place.
    pub by_wechat: bool,
    /// Whether a refusal caused the fetch.
    pub after_refusal: bool,
}

/// What to do about a refused call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Fetch another token.
    Fetch,
    /// Wait whether other calls are accepted, and report [`TokenEvent::NothingAccepted`] otherwise.
    Watch,
    /// No fetch.
    Pass,
}

/// The state of a token: the confidence in it, and what is left of the limits.
#[derive(Clone, Debug)]
pub struct TokenState {
    /// What is believed of the token in hand.
    confidence: Confidence,
    /// Whether the token in hand was ever accepted.
    proven: bool,
    /// The limits of fetches that refusals cause.
    pub(super) backoff: RefreshBackoff,
    /// The pause before the next fetch of the keeper's own.
    ask_pause: Duration,
    traits: TokenTraits,
}

/// What is special about the tokens of an API.
#[derive(Clone, Copy, Debug)]
pub struct TokenTraits {
    /// A fetch revokes the token in hand (the classic API). Then the keeper fetches by itself only when that is dead.
    pub fetch_revokes: bool,
    /// Valid tokens are refused now and then, so that a replay with the same token makes sense.
    pub spurious_refusals: bool,
}

/// The first and the longest pause between two fetches of the keeper's own while its token is refused.
const ASK_PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// So many refused calls, and none accepted, are evidence against the token whatever the calls are.
const SEVERAL_CALLS: u32 = 5;

/// So many refusals of one endpoint that worked are refusals of every call, if no other endpoint is in use.
const ONLY_PATH: u32 = 3;

impl TokenState {
    /// The state without a token.
    pub fn new(traits: TokenTraits, daily_fetches: u32, now: Instant) -> Self {
        Self {
            confidence: Confidence::Issued,
            proven: false,
            backoff: RefreshBackoff::new(daily_fetches, now),
            ask_pause: ASK_PAUSES.0,
            traits,
        }
    }

    /// The same state with other limits.
    pub fn with_limits(self, traits: TokenTraits, daily_fetches: u32) -> Self {
        Self {
            backoff: self.backoff.with_ceiling(daily_fetches),
            traits,
            ..self
        }
    }

    /// The transition function. It reads no clock and draws no random number.
    pub fn step(mut self, event: TokenEvent, now: Instant) -> (Self, Action) {
        let mut action = Action::Pass;
        match event {
            TokenEvent::FetchBegins => self.fetch_begins(now),
            TokenEvent::FetchSpared => self.backoff.refund(),
            TokenEvent::Fetched(fetched) => self.fetched(fetched, now),
            TokenEvent::FetchFailed { account } => self.failed(account),
            TokenEvent::Accepted { first } => self.accepted(first, now),
            TokenEvent::Refused(refusal) => action = self.refused(refusal, now),
            TokenEvent::NothingAccepted(refusal) => action = self.nothing_accepted(refusal, now),
            TokenEvent::FetchWasEarlier(refusal) => action = self.fetch_was_earlier(refusal, now),
            TokenEvent::RefusedAgain(refusal) => self.refused_again(refusal, now),
            TokenEvent::NotReplayed(refusal) => {
                self.note(refusal, WhichSend::Last);
                self.ask(now);
            }
        }
        self.judge(now);
        (self, action)
    }

    /// When the keeper is to fetch by itself because the token is refused; `None` where that is left to the renewal.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let (evidence, dead) = match self.confidence {
            Confidence::Refused(evidence) => (evidence, false),
            Confidence::Dead(evidence, _) => (evidence, true),
            _ => return None,
        };
        let at = evidence
            .ask_at
            .filter(|_| dead || !self.traits.fetch_revokes)?;
        Some(at.max(self.backoff.next_fetch_at(now)))
    }

    /// What is believed of the token in hand.
    pub fn confidence(&self) -> Confidence {
        self.confidence
    }

    /// Fetches in the current 24 hours, and when those end if the limit is reached.
    pub fn fetches(&self) -> u32 {
        self.backoff.fetches()
    }

    /// Until when refusals cause no more fetches, because the day's are used up.
    pub fn ceiling_until(&self, now: Instant) -> Option<Instant> {
        let until = self.backoff.next_fetch_at(now);
        (until > now).then_some(until)
    }

    /// Whether the token was put in place by something else, and no call was accepted since.
    pub fn is_adopted(&self) -> bool {
        match self.confidence {
            Confidence::Adopted => true,
            Confidence::Refused(evidence) | Confidence::Dead(evidence, _) => {
                evidence.before == Before::Adopted
            }
            Confidence::Issued | Confidence::OnTrial | Confidence::Accepted => false,
        }
    }

    /// Whether WeChat refused a call, and accepted none since.
    pub fn is_refused(&self) -> bool {
        matches!(
            self.confidence,
            Confidence::Refused(_) | Confidence::Dead(..)
        )
    }

    /// Why the token is known to be dead, if it is.
    pub fn dead(&self) -> Option<DeadBecause> {
        match self.confidence {
            Confidence::Dead(_, because) => Some(because),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
