//! How often refusals may cause a fetch: so seldom that they cannot burn the day's quota.
//!
//! A fetch in vain (it brought the refused token back, or one that was refused as well) doubles the
//! wait until the next. A token that WeChat accepts ends the wait: always when it is new; when it is
//! the old one, which shows that the refusal was WeChat's whim, only as often as a day can bear.
//! A token that had worked and is refused by all, while the wait forbids a fetch, ends it as well.

use tokio::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(600);
const DAY: Duration = Duration::from_secs(86_400);

/// How many waits are forgiven, because the refused token works after all, before that takes time.
const FORGIVEN: u32 = 60;

/// How long it takes until one more is forgiven: 144 a day.
const FORGIVEN_EVERY: Duration = Duration::from_secs(600);

/// How many times a day a wait ends because the token seems dead.
const LAST_HOPES: u32 = 60;

/// The pace of one account's fetches.
#[derive(Clone, Debug)]
pub struct RefreshBackoff {
    /// Fetches a day above which refusals cause none.
    ceiling: u32,
    wait: Duration,
    not_before: Option<Instant>,
    /// Whether WeChat accepted the token in hand since the last fetch.
    alive: bool,
    day: Option<Instant>,
    fetches: u32,
    /// How many waits can be forgiven, and when that was counted.
    forgiving: u32,
    counted_at: Instant,
    last_hopes: u32,
    follow_up: FollowUp,
}

/// A fetch that began before a refusal and ends in vain says nothing about it; one more may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FollowUp {
    No,
    Possible,
    InFlight,
}

impl RefreshBackoff {
    /// The same, with another `ceiling`.
    pub fn below(self, ceiling: u32) -> Self {
        Self { ceiling, ..self }
    }

    /// No fetch yet.
    pub fn new(ceiling: u32) -> Self {
        Self {
            ceiling,
            wait: Duration::ZERO,
            not_before: None,
            alive: false,
            day: None,
            fetches: 0,
            forgiving: FORGIVEN,
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
        self.turn_the_day();
        self.fetches < self.ceiling
    }

    /// Whether a fetch may follow at once that one in vain which had begun before the refusal.
    pub fn follow_up(&mut self) -> bool {
        let follows = self.follow_up == FollowUp::Possible && self.is_below_ceiling();
        if follows {
            self.follow_up = FollowUp::InFlight;
        }
        follows
    }

    /// The token had worked, was refused, and for a while nobody's call was accepted: whether a
    /// fetch is allowed for that, though the wait is not over.
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

    /// A fetch begins, for whatever reason.
    pub fn fetch(&mut self) {
        self.turn_the_day();
        self.fetches += 1;
        self.alive = false;
    }

    /// The fetch that ended did not ask WeChat after all.
    pub fn was_spared(&mut self) {
        self.fetches = self.fetches.saturating_sub(1);
    }

    /// A fetch that a refusal had caused was in vain.
    pub fn in_vain(&mut self) {
        self.wait = (self.wait * 2).clamp(FIRST, MOST);
        self.not_before = Some(Instant::now() + self.wait);
        self.follow_up = match self.follow_up {
            FollowUp::InFlight => FollowUp::No,
            FollowUp::No | FollowUp::Possible => FollowUp::Possible,
        };
    }

    /// WeChat accepted the token in hand, for the first time since the last fetch.
    pub fn accepted(&mut self, new: bool) {
        self.alive = true;
        if new || (!self.wait.is_zero() && self.forgives()) {
            self.end_wait();
        }
    }

    fn forgives(&mut self) -> bool {
        let earned = self.counted_at.elapsed().as_secs() / FORGIVEN_EVERY.as_secs();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(FORGIVEN);
            self.forgiving = self.forgiving.saturating_add(earned).min(FORGIVEN);
            self.counted_at = Instant::now();
        }
        let forgives = self.forgiving > 0;
        self.forgiving = self.forgiving.saturating_sub(1);
        forgives
    }

    /// A second send was refused, too, which is hardly chance. If the token had worked since the
    /// last fetch, or calls to that endpoint had (`worked`), it is dead now, and the wait is over.
    pub fn died(&mut self, worked: bool) {
        let was_alive = std::mem::take(&mut self.alive);
        if was_alive || (worked && self.last_hopes < LAST_HOPES) {
            self.last_hopes += u32::from(!was_alive);
            self.end_wait();
        }
    }

    /// Fetches in the current 24 hours, which begin with the first.
    pub fn fetches(&self) -> u32 {
        self.fetches
    }

    fn end_wait(&mut self) {
        self.wait = Duration::ZERO;
        self.not_before = None;
    }

    fn turn_the_day(&mut self) {
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
    async fn in_vain_for(pace: &mut RefreshBackoff, time: Duration) -> u32 {
        let (from, before) = (Instant::now(), pace.fetches);
        while from.elapsed() < time {
            if pace.allows() {
                pace.fetch();
                pace.in_vain();
            }
            advance(Duration::from_millis(100)).await;
        }
        pace.fetches - before
    }

    #[tokio::test(start_paused = true)]
    async fn waits_double_from_a_second_to_ten_minutes() {
        let mut pace = RefreshBackoff::new(500);
        assert_eq!(in_vain_for(&mut pace, Duration::from_secs(10)).await, 4);
        let rest = in_vain_for(&mut pace, DAY - Duration::from_secs(10)).await;
        assert!((100..160).contains(&rest), "{rest}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_token_that_works_ends_the_wait_and_a_ceiling_holds_all_the_same() {
        let mut pace = RefreshBackoff::new(200);
        for _ in 0..200 {
            assert!(pace.allows());
            pace.fetch();
            pace.in_vain();
            assert!(!pace.allows());
            pace.accepted(true);
        }
        assert!(!pace.allows());
        advance(DAY).await;
        assert!(pace.allows());
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_token_that_works_ends_the_wait_as_often_as_a_day_can_bear() {
        let mut pace = RefreshBackoff::new(500);
        for _ in 0..FORGIVEN {
            assert!(pace.allows());
            pace.fetch();
            pace.in_vain();
            pace.accepted(false);
        }
        pace.fetch();
        pace.in_vain();
        pace.accepted(false);
        assert!(!pace.allows());
        advance(FORGIVEN_EVERY).await;
        pace.fetch();
        pace.in_vain();
        pace.accepted(false);
        assert!(pace.allows());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_seems_dead_is_given_a_last_hope_sixty_times_a_day() {
        let mut pace = RefreshBackoff::new(500);
        pace.fetch();
        assert!(!pace.last_hope(), "it had never been alive");
        for _ in 0..LAST_HOPES {
            pace.accepted(true);
            assert!(pace.last_hope());
        }
        assert!(!pace.last_hope());
        advance(DAY).await;
        assert!(pace.last_hope());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_dies_in_the_wait_ends_it_once() {
        let mut pace = RefreshBackoff::new(500);
        pace.fetch();
        pace.forgiving = 0;
        pace.in_vain();
        pace.died(false);
        assert!(!pace.allows(), "it had never been alive");
        pace.accepted(false);
        pace.died(false);
        assert!(pace.allows());
        pace.fetch();
        pace.in_vain();
        pace.died(false);
        assert!(!pace.allows());
        pace.died(true);
        assert!(pace.allows(), "it had worked there");
    }
}
