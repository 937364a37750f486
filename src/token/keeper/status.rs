//! What a keeper tells about its token.

use std::{fmt, sync::Arc};

use tokio::time::{Duration, Instant};

use super::{
    Keeper, NoToken,
    confidence::DeadBecause,
    state::{FetchFailure, State},
};
use crate::token::{
    Token,
    source::{TokenError, TokenSource},
};

/// The status of a keeper, for the admin port.
#[derive(Debug)]
pub struct Status {
    /// The current token, expired or not.
    pub token: Option<Arc<Token>>,
    /// The time until the next fetch that no call causes.
    pub renews_in: Duration,
    /// The last failure since the last success.
    pub error: Option<NoToken>,
    /// Whether the first fetch has ended.
    pub tried: bool,
    /// Fetches in the current 24 hours.
    pub fetches: u32,
    /// Set while WeChat refuses the token for every call, and no other can be had.
    pub known_dead: Option<KnownDead>,
}

/// Whether calls have a token, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenPresence {
    /// There is one, which WeChat takes as far as that is known.
    Usable,
    /// There is none, and the first fetch has not ended.
    Pending,
    /// There is none, or WeChat refuses it for every call.
    Missing,
}

/// WeChat refuses the token for every call, and no other can be had. Shown as the reason why not.
#[derive(Clone, Debug)]
pub struct KnownDead {
    /// Why no other token can be had.
    pub because: DeadBecause,
    /// Whether something else puts the tokens in place: a file, a server or other replicas.
    pub adopted: bool,
    /// The last failed fetch, if that is why.
    pub error: Option<TokenError>,
    /// The time until the next fetch.
    pub retry_after: Duration,
}

impl KnownDead {
    /// The reason, with a failed fetch told by `explain`.
    pub fn reason(&self, explain: impl FnOnce(&TokenError) -> String) -> String {
        match (self.because, &self.error) {
            (DeadBecause::FetchFailed, Some(error)) => {
                format!("no other can be had: {}", explain(error))
            }
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for KnownDead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.retry_after.as_secs();
        match (self.because, &self.error) {
            (DeadBecause::FetchFailed, Some(error)) => {
                write!(f, "no other can be had: {}", error.sentence())
            }
            (DeadBecause::FetchFailed, None) => f.write_str("no other can be had"),
            (DeadBecause::CeilingReached, _) => write!(
                f,
                "the day's token requests (--daily-fetches) are used up: the next one follows in {seconds} s; find out who revokes the token, or whether the AppSecret was reset"
            ),
            (DeadBecause::ReturnedAgain, _) if self.adopted => write!(
                f,
                "the source of tokens still has the same one: see what keeps that fresh; the next look follows in {seconds} s"
            ),
            (DeadBecause::ReturnedAgain, _) => write!(
                f,
                "WeChat returns the same one again: the next token request follows in {seconds} s; see whether the account is blocked in WeChat's console"
            ),
        }
    }
}

impl<S: TokenSource> Keeper<S> {
    /// The status, for the admin port.
    pub fn status(&self) -> Status {
        let state = self.lock();
        Status {
            token: self.in_hand(),
            renews_in: state.due().saturating_duration_since(Instant::now()),
            error: state.failure.as_ref().map(FetchFailure::report),
            tried: state.tried,
            fetches: state.token.fetches(),
            known_dead: self.known_dead(&state),
        }
    }

    /// Whether calls have a token. This is for pages that look at all accounts.
    pub fn presence(&self) -> TokenPresence {
        let state = self.lock();
        let token = self.token.load();
        let is_alive = token.as_ref().is_some_and(|token| token.is_alive());
        match (is_alive && state.token.dead().is_none(), state.tried) {
            (true, _) => TokenPresence::Usable,
            (false, true) => TokenPresence::Missing,
            (false, false) => TokenPresence::Pending,
        }
    }

    /// Why the token in hand is known to be dead, if it is.
    fn known_dead(&self, state: &State) -> Option<KnownDead> {
        let because = state.token.dead()?;
        let next = state.due().saturating_duration_since(Instant::now());
        Some(KnownDead {
            because,
            adopted: state.token.is_adopted(),
            error: state.failure.as_ref().map(|failure| failure.error.clone()),
            retry_after: next,
        })
    }
}
