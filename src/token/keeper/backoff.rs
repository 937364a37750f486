//! Limits the fetches that refusals cause, so that they cannot use up the day's quota.
//!
//! A fetch in vain returns the refused token, or one that is refused as well. It doubles the wait until the
//! next fetch. An accepted token ends the wait: a new token always does; the old one, whose refusal was
//! spurious, only a limited number of times a day. The wait also ends if a token that had worked is refused
//! for all calls.

use tokio::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(600);
const DAY: Duration = Duration::from_secs(86_400);

/// How many waits an old token can end, because it works after all.
const MAX_FORGIVEN: u32 = 60;

/// After this time one more wait can be ended: 144 a day.
const FORGIVE_INTERVAL: Duration = Duration::from_secs(600);

/// The shortest time between two fetches for which the call itself is most likely to blame.
const WEAK_INTERVAL: Duration = Duration::from_secs(60);

/// How many times a day a wait ends because the token seems to have expired.
const LAST_HOPES: u32 = 60;

/// The backoff of one account's fetches.
#[derive(Clone, Debug)]
pub struct RefreshBackoff {
    /// Fetches a day. Above this, refusals cause none.
    ceiling: u32,
    wait: Duration,
    not_before: Option<Instant>,
    day: Option<Instant>,
    fetches: u32,
    /// How many waits an old token can still end, and when that was counted.
    forgiving: u32,
    counted_at: Instant,
    last_hopes: u32,
    /// When the last fetch began that weak evidence caused.
    weak_at: Option<Instant>,
    follow_up: FollowUp,
}

/// A fetch that began before a refusal may return the refused token. Then one more fetch may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FollowUp {
    No,
    Possible,
    InFlight,
}

impl RefreshBackoff {
    /// Sets another `ceiling`.
    pub fn with_ceiling(self, ceiling: u32) -> Self {
        Self { ceiling, ..self }
    }

    /// A backoff without fetches.
    pub fn new(ceiling: u32, now: Instant) -> Self {
        Self {
            ceiling,
            wait: Duration::ZERO,
            not_before: None,
            day: None,
            fetches: 0,
            forgiving: MAX_FORGIVEN,
            counted_at: now,
            last_hopes: 0,
            weak_at: None,
            follow_up: FollowUp::No,
        }
    }

    /// Whether a refusal may cause a fetch now.
    pub fn allows(&self, now: Instant) -> bool {
        self.is_below_ceiling(now) && self.not_before.is_none_or(|at| at <= now)
    }

    /// Whether a refusal may cause a fetch now for which the call itself is most likely to blame.
    pub fn allows_weak(&mut self, now: Instant) -> bool {
        self.allows(now) && self.weak_is_due(now)
    }

    /// Whether weak evidence may cause a fetch again. If so, that fetch is counted.
    pub fn weak_is_due(&mut self, now: Instant) -> bool {
        let paused = |at| now.saturating_duration_since(at) < WEAK_INTERVAL;
        let is_due = !self.weak_at.is_some_and(paused);
        if is_due {
            self.weak_at = Some(now);
        }
        is_due
    }

    /// Whether the day has fetches left.
    pub fn is_below_ceiling(&self, now: Instant) -> bool {
        self.fetches < self.ceiling || self.is_new_day(now)
    }

    /// When the day has fetches left: now, or when it ends.
    pub fn next_fetch_at(&self, now: Instant) -> Instant {
        match self.day {
            Some(day) if !self.is_below_ceiling(now) => day + DAY,
            _ => now,
        }
    }

    /// Whether a fetch may follow at once after one in vain that had begun before the refusal.
    pub fn follow_up(&mut self, now: Instant) -> bool {
        let follows = self.follow_up == FollowUp::Possible && self.is_below_ceiling(now);
        if follows {
            self.follow_up = FollowUp::InFlight;
        }
        follows
    }

    /// Whether a fetch is allowed during the wait, because the token had been accepted since the last fetch, was
    /// refused, and no call was accepted for a while.
    pub fn last_hope(&mut self, now: Instant) -> bool {
        let hope = self.has_hope(now);
        self.last_hopes += u32::from(hope);
        hope
    }

    /// Whether [`last_hope`](Self::last_hope) would allow it.
    pub fn has_hope(&self, now: Instant) -> bool {
        let hopes_left = self.last_hopes < LAST_HOPES || self.is_new_day(now);
        self.is_below_ceiling(now) && hopes_left
    }

    /// A fetch begins, whatever its cause.
    pub fn fetch(&mut self, now: Instant) {
        if self.day.is_none() || self.is_new_day(now) {
            self.day = Some(now);
            self.fetches = 0;
            self.last_hopes = 0;
        }
        self.fetches += 1;
    }

    /// The last fetch did not ask WeChat after all.
    pub fn refund(&mut self) {
        self.fetches = self.fetches.saturating_sub(1);
    }

    /// A fetch caused by a refusal was in vain.
    pub fn in_vain(&mut self, now: Instant) {
        self.wait = (self.wait * 2).clamp(FIRST, MOST);
        self.not_before = Some(now + self.wait);
        self.follow_up = match self.follow_up {
            FollowUp::InFlight => FollowUp::No,
            FollowUp::No | FollowUp::Possible => FollowUp::Possible,
        };
    }

    /// WeChat accepted the token in hand. `free` says that this is a new token that nothing speaks against.
    pub fn accepted(&mut self, free: bool, now: Instant) {
        if free || (!self.wait.is_zero() && self.forgives(now)) {
            self.end_wait();
        }
    }

    fn forgives(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.counted_at);
        let earned = since.as_secs() / FORGIVE_INTERVAL.as_secs();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(MAX_FORGIVEN);
            self.forgiving = self.forgiving.saturating_add(earned).min(MAX_FORGIVEN);
            self.counted_at = now;
        }
        let forgives = self.forgiving > 0;
        self.forgiving = self.forgiving.saturating_sub(1);
        forgives
    }

    /// A replay was refused as well, which is hardly chance. If a call was accepted since the last fetch
    /// (`was_accepted`), or calls to that endpoint were (`worked`), the token is no longer valid, and the wait ends.
    pub fn died(&mut self, was_accepted: bool, worked: bool) {
        if was_accepted || (worked && self.last_hopes < LAST_HOPES) {
            self.last_hopes += u32::from(!was_accepted);
            self.end_wait();
        }
    }

    /// Fetches in the current 24 hours. The period begins with the first fetch.
    pub fn fetches(&self) -> u32 {
        self.fetches
    }

    fn end_wait(&mut self) {
        self.wait = Duration::ZERO;
        self.not_before = None;
    }

    fn is_new_day(&self, now: Instant) -> bool {
        self.day
            .is_some_and(|began| now.saturating_duration_since(began) >= DAY)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// Fetches that all end in vain, asked for every 100 ms.
    async fn in_vain_for(backoff: &mut RefreshBackoff, time: Duration) -> u32 {
        let (from, before) = (Instant::now(), backoff.fetches);
        while from.elapsed() < time {
            if backoff.allows(Instant::now()) {
                backoff.fetch(Instant::now());
                backoff.in_vain(Instant::now());
            }
            advance(Duration::from_millis(100)).await;
        }
        backoff.fetches - before
    }

    #[tokio::test(start_paused = true)]
    async fn waits_double_from_a_second_to_ten_minutes() {
        let mut backoff = RefreshBackoff::new(500, Instant::now());
        assert_eq!(in_vain_for(&mut backoff, Duration::from_secs(10)).await, 4);
        let rest = in_vain_for(&mut backoff, DAY - Duration::from_secs(10)).await;
        assert!((100..160).contains(&rest), "{rest}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_token_that_works_ends_the_wait_and_a_ceiling_holds_all_the_same() {
        let mut backoff = RefreshBackoff::new(200, Instant::now());
        for _ in 0..200 {
            assert!(backoff.allows(Instant::now()));
            backoff.fetch(Instant::now());
            backoff.in_vain(Instant::now());
            assert!(!backoff.allows(Instant::now()));
            backoff.accepted(true, Instant::now());
        }
        assert!(!backoff.allows(Instant::now()));
        advance(DAY).await;
        assert!(backoff.allows(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_token_that_works_ends_the_wait_as_often_as_a_day_can_bear() {
        let mut backoff = RefreshBackoff::new(500, Instant::now());
        for _ in 0..MAX_FORGIVEN {
            assert!(backoff.allows(Instant::now()));
            backoff.fetch(Instant::now());
            backoff.in_vain(Instant::now());
            backoff.accepted(false, Instant::now());
        }
        backoff.fetch(Instant::now());
        backoff.in_vain(Instant::now());
        backoff.accepted(false, Instant::now());
        assert!(!backoff.allows(Instant::now()));
        advance(FORGIVE_INTERVAL).await;
        backoff.fetch(Instant::now());
        backoff.in_vain(Instant::now());
        backoff.accepted(false, Instant::now());
        assert!(backoff.allows(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_sixty_last_hopes_a_day() {
        let mut backoff = RefreshBackoff::new(500, Instant::now());
        backoff.fetch(Instant::now());
        for _ in 0..LAST_HOPES {
            assert!(backoff.last_hope(Instant::now()));
        }
        assert!(!backoff.last_hope(Instant::now()));
        advance(DAY).await;
        assert!(backoff.last_hope(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_dies_in_the_wait_ends_it() {
        let mut backoff = RefreshBackoff::new(500, Instant::now());
        for (was_accepted, worked, ends) in [
            (false, false, false),
            (true, false, true),
            (false, true, true),
        ] {
            backoff.in_vain(Instant::now());
            backoff.died(was_accepted, worked);
            assert_eq!(backoff.allows(Instant::now()), ends);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn weak_evidence_causes_a_fetch_a_minute() {
        let mut backoff = RefreshBackoff::new(500, Instant::now());
        let mut fetches = 0;
        for _ in 0..600 {
            fetches += u32::from(backoff.allows_weak(Instant::now()));
            advance(Duration::from_secs(1)).await;
        }
        assert_eq!(fetches, 10);
    }
}
