//! An access token and the times that matter to it.

pub mod fingerprints;
pub mod keeper;
pub mod source;
pub mod ticket;

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{Duration, Instant};

use crate::secret::Secret;

/// What may stand in a query value unencoded (RFC 3986 §2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What WeChat issues: a secret that works until it expires.
pub struct Token {
    value: Secret,
    /// The value, ready for a query.
    encoded: Secret,
    issued_at: Instant,
    lifetime: Duration,
    accepted: AtomicBool,
}

impl Token {
    /// A token that WeChat says lives for `lifetime` from now.
    pub fn new(value: Secret, lifetime: Duration) -> Self {
        Self {
            encoded: encode(&value),
            value,
            issued_at: Instant::now(),
            lifetime,
            accepted: AtomicBool::new(false),
        }
    }

    /// The secret itself.
    pub fn value(&self) -> &Secret {
        &self.value
    }

    /// The secret as a query carries it.
    pub fn encoded(&self) -> &str {
        self.encoded.expose()
    }

    /// Whether this is the very token `other` is, whatever its expiry is now said to be:
    /// `stable_token` gives the same secret again with fewer seconds left.
    pub fn is(&self, other: &Self) -> bool {
        self.value == other.value
    }

    /// How long WeChat said it would live.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// When it was brought, the last time if more than once.
    pub fn fetched_at(&self) -> Instant {
        self.issued_at
    }

    /// How long ago it was brought.
    pub fn age(&self) -> Duration {
        self.issued_at.elapsed()
    }

    /// How long it still works.
    pub fn remaining(&self) -> Duration {
        (self.issued_at + self.lifetime).saturating_duration_since(Instant::now())
    }

    /// Whether a call sent now arrives well before expiry: not in the last 30 s, nor in the last
    /// tenth of a short life.
    pub fn is_fresh(&self) -> bool {
        self.remaining() > (self.lifetime / 10).min(Duration::from_secs(30))
    }

    /// Whether it works at all.
    pub fn is_alive(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// Notes that WeChat accepted it, and says whether that is news.
    pub fn accept(&self) -> bool {
        !self.accepted.load(Ordering::Relaxed) && !self.accepted.swap(true, Ordering::Relaxed)
    }

    /// Whether WeChat has accepted it in a call.
    pub fn was_accepted(&self) -> bool {
        self.accepted.load(Ordering::Relaxed)
    }
}

/// `secret` as a query carries it.
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

    #[test]
    fn what_a_query_cannot_carry_is_encoded() {
        let token = Token::new(Secret::new("a-_.~1&b=c\r\n"), Duration::from_secs(1));
        assert_eq!(token.encoded(), "a-_.~1%26b%3Dc%0D%0A");
    }
}
