//! What a source can do about a leaked token, and how often WeChat lets it.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use tokio::time::{Duration, Instant};

use super::{TokenError, redis::TokenSlot};

/// How long WeChat still accepts a token that it has replaced.
pub const OVERLAP: Duration = Duration::from_secs(300);

/// The pause between two forced refreshes. WeChat wants 30 s from one request to the next; sooner it refreshes nothing.
pub const APART: Duration = Duration::from_secs(31);

/// The forced refreshes that WeChat allows for an AppID in a day.
pub const FORCED_A_DAY: u32 = 20;

const DAY: Duration = Duration::from_secs(86_400);

/// How a source revokes the token in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationMethod {
    /// By two forced refreshes of the stable token. The second one ends it at once.
    TwoRefreshes,
    /// By one request for a classic token. It works for [`OVERLAP`] more.
    OneRequest,
}

impl RevocationMethod {
    /// Its name, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::TwoRefreshes => "two_forced_refreshes",
            Self::OneRequest => "one_request",
        }
    }

    /// What it does, and when the old token is dead.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::TwoRefreshes => {
                "two forced refreshes, 31 s apart, replace the stable token twice: the first leaves the old token working, \
                 for 5 minutes at most, and the second ends it at once"
            }
            Self::OneRequest => {
                "one request replaces the classic token: WeChat accepts the old one for 5 minutes more, which nothing \
                 can shorten"
            }
        }
    }

    /// How long from the beginning until the old token is refused everywhere. The time of the requests themselves is
    /// not counted.
    pub fn old_token_dead_in(self) -> Duration {
        match self {
            Self::TwoRefreshes => APART,
            Self::OneRequest => OVERLAP,
        }
    }
}

/// The pause between two forced refreshes of a token that lives for `lifetime`.
pub fn apart(lifetime: Duration) -> Duration {
    APART.min(lifetime / 8)
}

/// Why a source cannot revoke its tokens. Shown as whose job that is, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRevocable {
    /// WeCom returns the same token until it expires.
    #[error(
        "WeCom returns the same token until it expires, so no request revokes it: an administrator of the corp can \
         reset the secret in WeCom's console, and then put the new one where this account's secret is"
    )]
    Wecom,
    /// Something else writes the token file.
    #[error(
        "its tokens come from a file, and the sidecar has no secret to ask for others: revoke the token where it is \
         made, and the sidecar uses the next one that is written"
    )]
    File,
    /// A server has the tokens.
    #[error(
        "its tokens come from a server of your own, and the sidecar has no secret to ask WeChat for others: revoke the \
         token where that server gets it"
    )]
    Http,
    /// It is no access_token.
    #[error("only an access_token can be revoked")]
    NoToken,
}

/// Counts the forced refreshes of an AppID: those of all replicas where there is a store, or else of this process.
pub struct ForcedRefreshes {
    store: Option<TokenSlot>,
    /// When the current 24 hours began, and how many there were since.
    day: Mutex<Option<(Instant, u32)>>,
}

impl ForcedRefreshes {
    /// Counts in `store`, if there is one.
    pub fn new(store: Option<TokenSlot>) -> Self {
        Self {
            store,
            day: Mutex::new(None),
        }
    }

    /// Counts one. The error says when there is room again.
    ///
    /// While the store is unavailable, only those of this process count: WeChat itself refuses what is too many.
    pub(super) async fn count(&self) -> Result<(), TokenError> {
        let here = self.room_here();
        let there = match &self.store {
            Some(slot) => slot.count_forced(FORCED_A_DAY).await.ok(),
            None => None,
        };
        match there.unwrap_or(here) {
            Some(wait) => Err(TokenError::ForcedSpent(wait)),
            None => {
                self.add_here();
                Ok(())
            }
        }
    }

    /// When there is room again; `None` if there is some.
    fn room_here(&self) -> Option<Duration> {
        let day = self.day.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = (*day)?;
        let left = DAY.saturating_sub(since.elapsed());
        (count >= FORCED_A_DAY && !left.is_zero()).then_some(left)
    }

    fn add_here(&self) {
        let mut day = self.day.lock().unwrap_or_else(PoisonError::into_inner);
        *day = match *day {
            Some((since, count)) if since.elapsed() < DAY => Some((since, count + 1)),
            _ => Some((Instant::now(), 1)),
        };
    }
}

impl fmt::Debug for ForcedRefreshes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForcedRefreshes").finish_non_exhaustive()
    }
}

/// A time in words: "3 h 20 min", "5 min" or "40 s".
pub(super) fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{} s", seconds.max(1)),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn twenty_a_day_are_allowed_and_the_next_is_told_when_there_is_room() {
        let forced = ForcedRefreshes::new(None);
        forced.count().await.unwrap();
        advance(Duration::from_secs(3600)).await;
        for _ in 1..FORCED_A_DAY {
            forced.count().await.unwrap();
        }
        let refused = forced.count().await.unwrap_err();
        assert_eq!(
            refused,
            TokenError::ForcedSpent(DAY - Duration::from_secs(3600))
        );
        assert!(refused.to_string().contains("23 h 0 min"), "{refused}");
        assert!(!refused.was_sent());
        advance(DAY - Duration::from_secs(3600)).await;
        forced.count().await.unwrap();
    }

    #[test]
    fn tokens_that_live_for_a_few_minutes_need_no_half_minute_between_refreshes() {
        let seconds = Duration::from_secs;
        for (lifetime, pause) in [(7200, 31), (248, 31), (80, 10)] {
            assert_eq!(apart(seconds(lifetime)), seconds(pause));
        }
    }
}
