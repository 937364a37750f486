//! The quotas of token requests and of calls.

use std::collections::HashMap;

use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

/// The limits of one account.
#[derive(Clone, Copy, Debug)]
pub struct TokenQuotas {
    /// Requests to `/cgi-bin/token` a day.
    pub classic_a_day: u32,
    /// Requests to `/cgi-bin/stable_token` a minute.
    pub stable_a_minute: u32,
    /// The same a day.
    pub stable_a_day: u32,
    /// Forced refreshes a day.
    pub forced_a_day: u32,
    /// The least time between two forced refreshes. An earlier one returns the current token.
    pub forced_apart: Duration,
}

impl Default for TokenQuotas {
    fn default() -> Self {
        Self {
            classic_a_day: 2_000,
            stable_a_minute: 10_000,
            stable_a_day: 500_000,
            forced_a_day: 20,
            forced_apart: Duration::from_secs(30),
        }
    }
}

/// A fixed window that begins with its first use.
#[derive(Debug)]
pub(super) struct Quota {
    limit: u32,
    window: Duration,
    since: Option<Instant>,
    used: u32,
}

impl Quota {
    pub(super) fn new(limit: u32, window: Duration) -> Self {
        Self {
            limit,
            window,
            since: None,
            used: 0,
        }
    }

    /// Uses one. Returns false if none is left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now - since >= self.window) {
            (self.since, self.used) = (Some(now), 0);
        }
        let allowed = self.used < self.limit;
        self.used = self.used.saturating_add(1);
        allowed
    }
}

/// How often an account may call a path.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallQuota {
    /// Beyond it a call is answered with 45009.
    pub a_day: Option<u32>,
    /// Beyond it a call is answered with 45011.
    pub a_minute: Option<u32>,
}

/// How often each account has called each path that has a quota.
#[derive(Debug, Default)]
pub(super) struct UsedQuotas(HashMap<(usize, String), [Window; 2]>);

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    since: Option<Instant>,
    used: u32,
}

impl Window {
    fn used(&mut self, length: Duration, now: Instant) -> &mut u32 {
        if self.since.is_none_or(|since| now - since >= length) {
            (self.since, self.used) = (Some(now), 0);
        }
        &mut self.used
    }
}

impl UsedQuotas {
    /// Counts a call of this account, or returns the errcode of the quota that is used up.
    pub(super) fn take(
        &mut self,
        account: usize,
        path: &str,
        quota: CallQuota,
        now: Instant,
    ) -> Option<i64> {
        let [day, minute] = self.0.entry((account, path.to_owned())).or_default();
        let (day, minute) = (day.used(DAY, now), minute.used(MINUTE, now));
        if quota.a_minute.is_some_and(|limit| *minute >= limit) {
            return Some(45011);
        }
        if quota.a_day.is_some_and(|limit| *day >= limit) {
            return Some(45009);
        }
        (*day, *minute) = (*day + 1, *minute + 1);
        None
    }

    /// What `/cgi-bin/openapi/quota/get` says of it.
    pub(super) fn describe(&mut self, account: usize, path: &str, quota: CallQuota) -> Value {
        let [day, _] = self.0.entry((account, path.to_owned())).or_default();
        let used = *day.used(DAY, Instant::now());
        let limit = quota.a_day.unwrap_or(10_000_000);
        let mut reply = json!({
            "errcode": 0,
            "errmsg": "ok",
            "quota": { "daily_limit": limit, "used": used, "remain": limit.saturating_sub(used) },
        });
        if let Some(calls) = quota.a_minute {
            reply["rate_limit"] = json!({ "call_count": calls, "refresh_second": 60 });
        }
        reply
    }

    /// Sets the day's numbers of an account back, or those of one path.
    pub(super) fn reset(&mut self, account: usize, path: Option<&str>) {
        self.0
            .retain(|(of, at), _| *of != account || path.is_some_and(|path| path != at));
    }
}

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
