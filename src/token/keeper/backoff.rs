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

/// How many times a day a wait ends because the token seems to have expired.
const LAST_HOPES: u32 = 60;

/// The backoff of one account's fetches.
#[derive(Clone, Debug)]
pub struct RefreshBackoff {
    /// Fetches a day. Above this, refusals cause none.
    ceiling: u32,
    wait: Duration,
    not_before: Option<Instant>,
    /// Whether WeChat accepted the current token since the last fetch.
    alive: bool,
    day: Option<Instant>,
    fetches: u32,
    /// How many waits an old token can still end, and when that was counted.
    forgiving: u32,
    counted_at: Instant,
    last_hopes: u32,
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
    pub fn new(ceiling: u32) -> Self {
        Self {
            ceiling,
            wait: Duration::ZERO,
            not_before: None,
            alive: false,
            day: None,
            fetches: 0,
            forgiving: MAX_FORGIVEN,
            counted_at: Instant::now(),
            last_hopes: 0,
            follow_up: FollowUp::No,
        }
    }

    /// Whether a refusal may cause a fetch now.
    pub fn allows(&mut self) -> bool {
        let now = Instant::now();
        self.is_below_ceiling() && self.not_before.is_none_or(|at| at <= now)
    }

    /// Whether the day has fetches left.
    pub fn is_below_ceiling(&mut self) -> bool {
        self.start_new_day();
        self.fetches < self.ceiling
    }

    /// Whether a fetch may follow at once after one in vain that had begun before the refusal.
    pub fn follow_up(&mut self) -> bool {
        let follows = self.follow_up == FollowUp::Possible && self.is_below_ceiling();
        if follows {
            self.follow_up = FollowUp::InFlight;
        }
        follows
    }

    /// Whether a fetch is allowed during the wait, because the token had worked, was refused, and no call was
    /// accepted for a while.
    pub fn last_hope(&mut self) -> bool {
        let hope = self.has_hope();
        if hope {
            self.last_hopes += 1;
        }
        hope
    }

    /// Whether [`last_hope`](Self::last_hope) would allow it.
    pub fn has_hope(&mut self) -> bool {
        self.is_below_ceiling() && self.alive && self.last_hopes < LAST_HOPES
    }

    /// A fetch begins, whatever its cause.
    pub fn fetch(&mut self) {
        self.start_new_day();
        self.fetches += 1;
        self.alive = false;
    }

    /// The last fetch did not ask WeChat after all.
    pub fn refund(&mut self) {
        self.fetches = self.fetches.saturating_sub(1);
    }

    /// A fetch caused by a refusal was in vain.
    pub fn in_vain(&mut self) {
        self.wait = (self.wait * 2).clamp(FIRST, MOST);
        self.not_before = Some(Instant::now() + self.wait);
        self.follow_up = match self.follow_up {
            FollowUp::InFlight => FollowUp::No,
            FollowUp::No | FollowUp::Possible => FollowUp::Possible,
        };
    }

    /// WeChat accepted the current token, for the first time since the last fetch.
    pub fn accepted(&mut self, new: bool) {
        self.alive = true;
        if new || (!self.wait.is_zero() && self.forgives()) {
            self.end_wait();
        }
    }

    fn forgives(&mut self) -> bool {
        let earned = self.counted_at.elapsed().as_secs() / FORGIVE_INTERVAL.as_secs();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(MAX_FORGIVEN);
            self.forgiving = self.forgiving.saturating_add(earned).min(MAX_FORGIVEN);
            self.counted_at = Instant::now();
        }
        let forgives = self.forgiving > 0;
        self.forgiving = self.forgiving.saturating_sub(1);
        forgives
    }

    /// A replay was refused as well, which is hardly chance. If the token was accepted since the last fetch, or
    /// calls to that endpoint were (`worked`), the token is no longer valid, and the wait ends.
    pub fn died(&mut self, worked: bool) {
        let was_alive = std::mem::take(&mut self.alive);
        if was_alive || (worked && self.last_hopes < LAST_HOPES) {
            self.last_hopes += u32::from(!was_alive);
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

    fn start_new_day(&mut self) {
        let began = *self.day.get_or_insert_with(Instant::now);
        if began.elapsed() >= DAY {
            self.day = Some(Instant::now());
            self.fetches = 0;
            self.last_hopes = 0;
        }
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
            if backoff.allows() {
                backoff.fetch();
                backoff.in_vain();
            }
            advance(Duration::from_millis(100)).await;
        }
        backoff.fetches - before
    }

    #[tokio::test(start_paused = true)]
    async fn waits_double_from_a_second_to_ten_minutes() {
        let mut backoff = RefreshBackoff::new(500);
        assert_eq!(in_vain_for(&mut backoff, Duration::from_secs(10)).await, 4);
        let rest = in_vain_for(&mut backoff, DAY - Duration::from_secs(10)).await;
        assert!((100..160).contains(&rest), "{rest}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_token_that_works_ends_the_wait_and_a_ceiling_holds_all_the_same() {
        let mut backoff = RefreshBackoff::new(200);
        for _ in 0..200 {
            assert!(backoff.allows());
            backoff.fetch();
            backoff.in_vain();
            assert!(!backoff.allows());
            backoff.accepted(true);
        }
        assert!(!backoff.allows());
        advance(DAY).await;
        assert!(backoff.allows());
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_token_that_works_ends_the_wait_as_often_as_a_day_can_bear() {
        let mut backoff = RefreshBackoff::new(500);
        for _ in 0..MAX_FORGIVEN {
            assert!(backoff.allows());
            backoff.fetch();
            backoff.in_vain();
            backoff.accepted(false);
        }
        backoff.fetch();
        backoff.in_vain();
        backoff.accepted(false);
        assert!(!backoff.allows());
        advance(FORGIVE_INTERVAL).await;
        backoff.fetch();
        backoff.in_vain();
        backoff.accepted(false);
        assert!(backoff.allows());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_seems_dead_is_given_a_last_hope_sixty_times_a_day() {
        let mut backoff = RefreshBackoff::new(500);
        backoff.fetch();
        assert!(!backoff.last_hope(), "it had never been alive");
        for _ in 0..LAST_HOPES {
            backoff.accepted(true);
            assert!(backoff.last_hope());
        }
        assert!(!backoff.last_hope());
        advance(DAY).await;
        assert!(backoff.last_hope());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_dies_in_the_wait_ends_it_once() {
        let mut backoff = RefreshBackoff::new(500);
        backoff.fetch();
        backoff.forgiving = 0;
        backoff.in_vain();
        backoff.died(false);
        assert!(!backoff.allows(), "it had never been alive");
        backoff.accepted(false);
        backoff.died(false);
        assert!(backoff.allows());
        backoff.fetch();
        backoff.in_vain();
        backoff.died(false);
        assert!(!backoff.allows());
        backoff.died(true);
        assert!(backoff.allows(), "it had worked there");
    }
}
