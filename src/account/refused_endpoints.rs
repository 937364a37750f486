//! Endpoints that refuse every token. Their refusals are cached, so that an app that calls them in a loop
//! causes no token requests.
//!
//! The replay of a call is practically never refused by chance. If it is refused, the endpoint refuses
//! this token for good: for example, an API that this type of account may not call always answers 40001.
//! Until a call there is accepted or the token changes, calls are sent once and cause no fetch. If the
//! endpoint has accepted calls before, the token may have expired between the two sends. Such an endpoint
//! is blocked only when it refuses again with a token that was confirmed after the first refusal.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::time::{Duration, Instant};

use crate::token::Token;

/// How many refusals are kept for one account.
const MOST: usize = 256;

/// Longer paths are not cached.
const LONGEST_PATH: usize = 256;

/// How long an endpoint is blocked for a token that was not confirmed.
const UNCONFIRMED: Duration = Duration::from_secs(60);

/// How long an endpoint is blocked for every token if it never accepted a call and refused two tokens.
/// With the classic API each further attempt would revoke the token of all others.
const ANY_TOKEN: Duration = Duration::from_secs(3600);

/// How many calls a second are still sent to a blocked endpoint.
const MAX_CALLS_PER_SECOND: u32 = 10;

/// A reply of WeChat's that refused the token.
#[derive(Clone, Debug)]
pub struct CachedRefusal {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, whole.
    pub body: Bytes,
}

/// What is known when a replay is refused.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    /// The endpoint has accepted calls before.
    pub worked: bool,
    /// WeChat confirmed that the token is the current one.
    pub confirmed: bool,
}

#[derive(Debug)]
struct RefusedEndpoint {
    path: Box<[u8]>,
    token: Arc<Token>,
    answer: CachedRefusal,
    /// Whether the endpoint is blocked for this token, and until when if not for good.
    firm: bool,
    until: Option<Instant>,
    /// Until when it is blocked for every token, because two were refused.
    any_token_until: Option<Instant>,
    /// When the replay was refused.
    refused_at: Instant,
    /// The start of the current second, and the calls in it.
    second_began: Instant,
    calls: u32,
}

/// The refusals of an account, oldest first.
#[derive(Debug, Default)]
pub struct RefusedEndpoints {
    /// So that nobody takes the lock while there are none.
    count: AtomicUsize,
    entries: Mutex<Vec<RefusedEndpoint>>,
}

impl RefusedEndpoints {
    /// A second send of a call to `path` was refused with `token`.
    pub fn add(&self, path: &[u8], token: &Arc<Token>, answer: CachedRefusal, evidence: Evidence) {
        if path.len() > LONGEST_PATH {
            return;
        }
        let now = Instant::now();
        let mut entries = self.lock();
        let before = entries.iter().position(|entry| entry.is(path));
        let before = before.map(|at| entries.remove(at));
        let mut entry = RefusedEndpoint {
            path: path.into(),
            token: token.clone(),
            answer,
            firm: !evidence.worked,
            until: (!evidence.confirmed).then(|| now + UNCONFIRMED),
            any_token_until: None,
            refused_at: now,
            second_began: now,
            calls: 0,
        };
        if let Some(before) = before {
            if before.token.is(token) {
                let again = evidence.confirmed && token.fetched_at() > before.refused_at;
                entry.firm |= before.firm || again;
                entry.until = entry.until.filter(|_| before.until.is_some());
                entry.any_token_until = before.any_token_until;
                (entry.second_began, entry.calls) = (before.second_began, before.calls);
                if !again {
                    entry.refused_at = before.refused_at;
                }
            } else if !evidence.worked && evidence.confirmed && before.firm {
                entry.any_token_until = Some(now + ANY_TOKEN);
            }
        }
        if entries.len() == MOST {
            entries.remove(0);
        }
        entries.push(entry);
        self.count.store(entries.len(), Ordering::Relaxed);
    }

    /// Whether `path` is blocked for `token`.
    pub fn knows(&self, path: &[u8], token: &Token) -> bool {
        self.find(path, token, |_| ()).is_some()
    }

    /// Counts a call to `path` that is about to be sent with `token`. Returns the cached refusal if there
    /// have been too many calls in this second.
    pub fn cached_refusal(&self, path: &[u8], token: &Token) -> Option<CachedRefusal> {
        self.find(path, token, |entry| {
            if entry.second_began.elapsed() >= Duration::from_secs(1) {
                entry.second_began = Instant::now();
                entry.calls = 0;
            }
            entry.calls += 1;
            (entry.calls > MAX_CALLS_PER_SECOND).then(|| entry.answer.clone())
        })?
    }

    /// Unblocks `path`, since a call to it was accepted.
    pub fn forget(&self, path: &[u8]) {
        if self.count.load(Ordering::Relaxed) > 0 {
            let mut entries = self.lock();
            entries.retain(|entry| !entry.is(path));
            self.count.store(entries.len(), Ordering::Relaxed);
        }
    }

    fn find<T>(
        &self,
        path: &[u8],
        token: &Token,
        found: impl FnOnce(&mut RefusedEndpoint) -> T,
    ) -> Option<T> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut entries = self.lock();
        let at = entries.iter().position(|entry| entry.is(path))?;
        let entry = &mut entries[at];
        let now = Instant::now();
        let any_token = entry.any_token_until.is_some_and(|until| now < until);
        let this_token = entry.token.is(token) && entry.until.is_none_or(|until| now < until);
        (any_token || (entry.firm && this_token)).then(|| found(entry))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RefusedEndpoint>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RefusedEndpoint {
    fn is(&self, path: &[u8]) -> bool {
        *self.path == *path
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::secret::Secret;

    const NEVER: Evidence = Evidence {
        worked: false,
        confirmed: true,
    };
    const ONCE: Evidence = Evidence {
        worked: true,
        confirmed: true,
    };

    fn token(value: &str) -> Arc<Token> {
        Arc::new(Token::new(Secret::new(value), Duration::from_secs(7200)))
    }

    fn answer() -> CachedRefusal {
        CachedRefusal {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"{\"errcode\":40001}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ten_calls_a_second_pass_and_the_rest_is_answered() {
        let (refused, old) = (RefusedEndpoints::default(), token("old"));
        assert!(refused.cached_refusal(b"/x", &old).is_none());
        refused.add(b"/x", &old, answer(), NEVER);
        for _ in 0..3 {
            let answered = (0..25).filter(|_| refused.cached_refusal(b"/x", &old).is_some());
            assert_eq!(answered.count(), 15);
            advance(Duration::from_secs(1)).await;
        }
        assert!(refused.cached_refusal(b"/y", &old).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn another_token_or_a_success_ends_it() {
        let (refused, old) = (RefusedEndpoints::default(), token("old"));
        refused.add(b"/x", &old, answer(), NEVER);
        assert!(refused.knows(b"/x", &token("old")));
        assert!(!refused.knows(b"/x", &token("new")));
        refused.add(b"/x", &old, answer(), NEVER);
        refused.forget(b"/x");
        assert!(!refused.knows(b"/x", &old));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let (refused, old) = (RefusedEndpoints::default(), token("old"));
        for at in 0..1000 {
            let path = format!("/{at}");
            refused.add(path.as_bytes(), &old, answer(), NEVER);
        }
        refused.add(&[b'x'; 1000], &old, answer(), NEVER);
        assert_eq!(refused.lock().len(), MOST);
        assert!(refused.knows(b"/999", &old) && !refused.knows(b"/0", &old));
    }

    #[tokio::test(start_paused = true)]
    async fn a_path_that_has_worked_is_given_a_second_chance_with_a_token_confirmed_since() {
        let (refused, old) = (RefusedEndpoints::default(), token("old"));
        advance(Duration::from_secs(1)).await;
        for _ in 0..3 {
            refused.add(b"/x", &old, answer(), ONCE);
            assert!(!refused.knows(b"/x", &old));
        }
        advance(Duration::from_secs(1)).await;
        refused.add(b"/x", &token("old"), answer(), ONCE);
        assert!(refused.knows(b"/x", &old));
    }

    #[tokio::test(start_paused = true)]
    async fn a_path_that_never_worked_and_refused_two_tokens_is_given_up_for_an_hour() {
        let refused = RefusedEndpoints::default();
        refused.add(b"/x", &token("one"), answer(), NEVER);
        refused.add(b"/x", &token("two"), answer(), NEVER);
        assert!(refused.knows(b"/x", &token("three")));
        advance(ANY_TOKEN).await;
        assert!(!refused.knows(b"/x", &token("three")));
        refused.add(b"/x", &token("three"), answer(), NEVER);
        refused.forget(b"/x");
        assert!(!refused.knows(b"/x", &token("three")));
    }

    #[tokio::test(start_paused = true)]
    async fn with_a_token_that_nobody_confirmed_a_path_is_given_up_for_a_minute() {
        let (refused, old) = (RefusedEndpoints::default(), token("old"));
        let unconfirmed = Evidence {
            confirmed: false,
            ..NEVER
        };
        refused.add(b"/x", &old, answer(), unconfirmed);
        assert!(refused.knows(b"/x", &old));
        advance(UNCONFIRMED).await;
        assert!(!refused.knows(b"/x", &old));
    }
}
