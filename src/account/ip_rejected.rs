//! The last reply that rejected a call because its IP is not on the account's whitelist.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::time::{Duration, Instant};

/// How often it is logged.
const EVERY: Duration = Duration::from_secs(60);

/// The last reply that rejected a call for its IP, until a call is accepted.
#[derive(Debug, Default)]
pub struct RejectedIps {
    /// Whether there is one. Spares the lock while there is none.
    any: AtomicBool,
    last: Mutex<Option<RejectedIp>>,
}

/// The content of such a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectedIp {
    /// The error code.
    pub code: i64,
    /// The IP that WeChat or WeCom sees calls come from, if the reply names it.
    pub ip: Option<IpAddr>,
    logged_at: Instant,
}

impl fmt::Display for RejectedIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(ip) => write!(f, "calls come from {ip}")?,
            None => f.write_str("calls come from an IP")?,
        }
        write!(
            f,
            ", which is not on the account's whitelist (errcode {})",
            self.code
        )
    }
}

impl RejectedIps {
    /// Notes a reply with this `code` and `ip`. Returns it if it should be logged now.
    pub fn note(&self, code: i64, ip: Option<IpAddr>) -> Option<RejectedIp> {
        let mut last = self.lock();
        let should_log = last.is_none_or(|seen| {
            (seen.code, seen.ip) != (code, ip) || seen.logged_at.elapsed() >= EVERY
        });
        if !should_log {
            return None;
        }
        let logged_at = Instant::now();
        *last = Some(RejectedIp {
            code,
            ip,
            logged_at,
        });
        self.any.store(true, Ordering::Relaxed);
        *last
    }

    /// Forgets the reply, since a call was accepted.
    pub fn clear(&self) {
        if self.any.load(Ordering::Relaxed) {
            let mut last = self.lock();
            *last = None;
            self.any.store(false, Ordering::Relaxed);
        }
    }

    /// The last such reply, unless a call was accepted since.
    pub fn last(&self) -> Option<RejectedIp> {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Option<RejectedIp>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_said_once_a_minute_and_whenever_it_is_another_until_a_call_is_accepted() {
        let rejected = RejectedIps::default();
        let ip = |text: &str| Some(text.parse().unwrap());
        assert!(rejected.note(60020, ip("1.2.3.4")).is_some());
        assert!(rejected.note(60020, ip("1.2.3.4")).is_none());
        let another = rejected.note(60020, ip("1.2.3.5")).unwrap();
        assert_eq!(
            another.to_string(),
            "calls come from 1.2.3.5, which is not on the account's whitelist (errcode 60020)"
        );
        advance(EVERY).await;
        assert!(rejected.note(60020, ip("1.2.3.5")).is_some());
        assert!(rejected.last().is_some());
        rejected.clear();
        assert!(rejected.last().is_none());
        assert!(rejected.note(60020, ip("1.2.3.5")).is_some());
    }
}
