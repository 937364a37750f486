//! An access token and its lifetime, the sources of tokens, and the keeper that renews them.

pub mod fingerprints;
pub mod keeper;
pub mod rotation;
pub mod source;
pub mod ticket;
pub mod turns;

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicBool, Ordering},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{Duration, Instant};

use crate::secret::Secret;

/// The placeholder that an app gets instead of a token is this, followed by the account's id.
pub const PLACEHOLDER: &str = "sidecar-";

/// Characters that a query value may contain unencoded (RFC 3986 §2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// An access token or a ticket: a secret that works until it expires.
pub struct Token {
    value: Secret,
    /// The value, percent-encoded for a query.
    encoded: Secret,
    fetched_at: Instant,
    lifetime: Duration,
    expiry: Expiry,
    accepted: AtomicBool,
    tag: u16,
}

/// Whether it is known when a token expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Expiry {
    /// It works at least until the end of its lifetime.
    #[default]
    Known,
    /// It may expire at any time within its lifetime: a ticket of unknown age.
    Unknown,
}

impl Token {
    /// A token that expires in `lifetime` from now.
    pub fn new(value: Secret, lifetime: Duration) -> Self {
        let mut hash = DefaultHasher::new();
        value.expose().hash(&mut hash);
        Self {
            tag: (hash.finish() as u16).max(1),
            encoded: encode(&value),
            value,
            fetched_at: Instant::now(),
            lifetime,
            expiry: Expiry::Known,
            accepted: AtomicBool::new(false),
        }
    }

    /// The same token with this `expiry`.
    pub fn with_expiry(self, expiry: Expiry) -> Self {
        Self { expiry, ..self }
    }

    /// The same token as if it had been fetched earlier by `time`, which it has that much less to live.
    pub fn aged(&self, time: Duration) -> Self {
        // Where the clock does not reach back that far, its lifetime is shortened instead.
        let (fetched_at, lifetime) = match self.fetched_at.checked_sub(time) {
            Some(earlier) => (earlier, self.lifetime),
            None => (self.fetched_at, self.lifetime.saturating_sub(time)),
        };
        Self {
            value: self.value.clone(),
            encoded: self.encoded.clone(),
            fetched_at,
            lifetime,
            expiry: self.expiry,
            tag: self.tag,
            accepted: AtomicBool::new(self.was_accepted()),
        }
    }

    /// The secret itself.
    pub fn value(&self) -> &Secret {
        &self.value
    }

    /// The secret, percent-encoded for a query.
    pub fn encoded(&self) -> &str {
        self.encoded.expose()
    }

    /// Whether both have the same secret. Their expiry may differ: `stable_token` returns the same secret again
    /// with fewer seconds left.
    pub fn is(&self, other: &Self) -> bool {
        self.value == other.value
    }

    /// A number that tells this secret from most others, and is never 0.
    pub fn tag(&self) -> u16 {
        self.tag
    }

    /// Its lifetime when it was fetched.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// When it was fetched, or fetched again.
    pub fn fetched_at(&self) -> Instant {
        self.fetched_at
    }

    /// The time since it was fetched.
    pub fn age(&self) -> Duration {
        self.fetched_at.elapsed()
    }

    /// The time until it expires.
    pub fn remaining(&self) -> Duration {
        (self.fetched_at + self.lifetime).saturating_duration_since(Instant::now())
    }

    /// Whether it is known when it expires.
    pub fn expiry(&self) -> Expiry {
        self.expiry
    }

    /// Whether a call sent now arrives well before the token expires: not in its last 30 s, nor in the last
    /// tenth of a short lifetime.
    pub fn is_fresh(&self) -> bool {
        self.remaining() > (self.lifetime / 10).min(Duration::from_secs(30))
    }

    /// Whether it has not expired.
    pub fn is_alive(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// Notes that WeChat accepted it. Returns whether this was the first time.
    pub fn accept(&self) -> bool {
        !self.accepted.load(Ordering::Relaxed) && !self.accepted.swap(true, Ordering::Relaxed)
    }

    /// Whether WeChat has accepted a call with it.
    pub fn was_accepted(&self) -> bool {
        self.accepted.load(Ordering::Relaxed)
    }
}

/// Percent-encodes `secret` for a query.
pub fn encode(secret: &Secret) -> Secret {
    Secret::new(utf8_percent_encode(secret.expose(), UNRESERVED).to_string())
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn margins_scale_with_the_lifetime() {
        for (lifetime, margin) in [(7200.0, 30.0), (100.0, 10.0), (8.0, 0.8)] {
            let seconds = Duration::from_secs_f64;
            let token = Token::new(Secret::new("t"), seconds(lifetime));
            advance(seconds(lifetime - margin - 0.1)).await;
            assert!(token.is_fresh(), "{lifetime}");
            advance(seconds(0.2)).await;
            assert!(!token.is_fresh() && token.is_alive(), "{lifetime}");
            advance(seconds(margin)).await;
            assert!(!token.is_alive(), "{lifetime}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_aged_expires_earlier_and_is_the_same_otherwise() {
        let seconds = Duration::from_secs;
        let token = Token::new(Secret::new("t"), seconds(100)).with_expiry(Expiry::Unknown);
        token.accept();
        advance(seconds(10)).await;
        let aged = token.aged(seconds(30));
        assert_eq!((aged.age(), aged.remaining()), (seconds(40), seconds(60)));
        assert!(aged.is(&token) && aged.was_accepted() && aged.lifetime() == seconds(100));
        assert_eq!(aged.expiry(), Expiry::Unknown);
        for long in [seconds(90), Duration::MAX] {
            assert!(!token.aged(long).is_alive(), "{long:?}");
        }
    }

    #[test]
    fn what_a_query_cannot_carry_is_encoded() {
        let token = Token::new(Secret::new("a-_.~1&b=c\r\n"), Duration::from_secs(1));
        assert_eq!(token.encoded(), "a-_.~1%26b%3Dc%0D%0A");
    }
}
