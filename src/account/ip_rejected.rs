//! An IP that is not on the account's whitelist, as replies to calls say it.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::time::{Duration, Instant};

/// How often it is said in the log.
const EVERY: Duration = Duration::from_secs(60);

/// The last reply that turned a call down for its IP, until a call is accepted.
#[derive(Debug, Default)]
pub struct RejectedIps {
    /// So that nobody takes the lock while there is none.
    any: AtomicBool,
    last: Mutex<Option<RejectedIp>>,
}

/// What such a reply said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectedIp {
    /// The error code.
    pub code: i64,
    /// The IP that calls come from, in the eyes of WeChat or WeCom, if the reply names it.
    pub ip: Option<IpAddr>,
    said_at: Instant,
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
    /// A reply said `code`, and named `ip`. Returns it if it is time to say so in the log.
    pub fn note(&self, code: i64, ip: Option<IpAddr>) -> Option<RejectedIp> {
        let mut last = self.lock();
        let news = last.is_none_or(|seen| {
            (seen.code, seen.ip) != (code, ip) || seen.said_at.elapsed() >= EVERY
        });
        if !news {
            return None;
        }
        let said_at = Instant::now();
        *last = Some(RejectedIp { code, ip, said_at });
        self.any.store(true, Ordering::Relaxed);
        *last
    }

    /// A call was accepted.
    pub fn clear(&self) {
        if self.any.load(Ordering::Relaxed) {
            let mut last = self.lock();
            *last = None;
            self.any.store(false, Ordering::Relaxed);
        }
    }

    /// What the last such reply said, unless a call was accepted since.
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
        let unlisted = RejectedIps::default();
        let ip = |text: &str| Some(text.parse().unwrap());
        assert!(unlisted.note(60020, ip("1.2.3.4")).is_some());
        assert!(unlisted.note(60020, ip("1.2.3.4")).is_none());
        let another = unlisted.note(60020, ip("1.2.3.5")).unwrap();
        assert_eq!(
            another.to_string(),
            "calls come from 1.2.3.5, which is not on the account's whitelist (errcode 60020)"
        );
        advance(EVERY).await;
        assert!(unlisted.note(60020, ip("1.2.3.5")).is_some());
        assert!(unlisted.last().is_some());
        unlisted.clear();
        assert!(unlisted.last().is_none());
        assert!(unlisted.note(60020, ip("1.2.3.5")).is_some());
    }
}
