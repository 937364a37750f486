//! The schedule of fetches, as pure functions.

use tokio::time::Duration;

use crate::token::{Token, source::TokenErrorKind};

/// When a token is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// `stable_token`: WeChat renews only in the token's last 5 minutes, and returns the same token before.
    /// Replicas spread their requests over that time.
    Inside,
    /// `token`: each request creates a new one. The old one works for 5 more minutes.
    Ahead,
    /// WeCom's `gettoken`: most likely it returns the same token until that expires. Requests do no harm if
    /// they are not too frequent.
    Late,
    /// A ticket: WeChat returns the same one until it expires. So it is asked for when apps are told little of its
    /// lifetime, and shortly before it expires. One that may expire at any time is asked for more often, see
    /// [`ask_about_expiry_in`].
    Ticket,
}

/// How long before its expiry a token of [`Renewal::Late`] is first fetched again.
const LATE: Duration = Duration::from_secs(60);

/// SDKs that subtract a margin from a ticket's lifetime need more than this.
pub const LOW: Duration = Duration::from_secs(1800);

/// How long before its expiry a ticket is fetched the last time.
const LAST: Duration = Duration::from_secs(45);

/// How often a ticket is asked for that may expire at any time.
const ASK: Duration = Duration::from_secs(600);

/// After so many fetches in a day such a ticket is asked for less often, by this factor: at most about 50 times a day.
const MANY_FETCHES: u32 = 30;
const SLOWER: u32 = 8;

/// The period before its expiry in which a token with this `lifetime` is renewed.
pub fn window(lifetime: Duration) -> Duration {
    (lifetime / 4).min(Duration::from_secs(300))
}

/// How long from now to renew a token that was just fetched. `jitter` is in 0.0..1.0.
pub fn renew_in(renewal: Renewal, lifetime: Duration, jitter: f64) -> Duration {
    let ahead = match renewal {
        Renewal::Ahead => window(lifetime),
        Renewal::Inside => window(lifetime).mul_f64(0.95 - 0.45 * jitter),
        Renewal::Late => window(lifetime).min(LATE).mul_f64(0.95 - 0.45 * jitter),
        Renewal::Ticket if lifetime > LOW => LOW,
        Renewal::Ticket => (lifetime / 8).min(LAST),
    };
    lifetime - ahead
}

/// How long from now to ask whether `ticket`, which may expire at any time, is still the current one. It was fetched
/// `fetches` times today, in any way.
pub fn ask_about_expiry_in(ticket: &Token, fetches: u32, jitter: f64) -> Duration {
    let often = ASK.min(ticket.lifetime() / 12);
    let interval = if fetches < MANY_FETCHES {
        often
    } else {
        often * SLOWER
    };
    let interval = interval.mul_f64(1.0 - 0.1 * jitter);
    // Replicas ask a while after the last of them did.
    interval.saturating_sub(ticket.age())
}

/// How long to wait after a renewal returned the same token, which expires in `remaining`.
pub fn ask_again_in(renewal: Renewal, remaining: Duration, jitter: f64) -> Duration {
    let (pause, share) = match renewal {
        Renewal::Late => (LATE, 2),
        Renewal::Ticket => return renew_in(renewal, remaining, jitter),
        Renewal::Inside | Renewal::Ahead => {
            let twenty = Duration::from_secs(20);
            (twenty + twenty.mul_f64(jitter), 4)
        }
    };
    pause.min((remaining / share).max(Duration::from_millis(200)))
}

/// How long to wait after `failures` failures in a row, the last of which was of this `kind`.
pub fn back_off(kind: TokenErrorKind, failures: u32, jitter: f64) -> Duration {
    let (first, most) = kind.back_off();
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(12));
    let wait = doubled.min(most);
    // The jitter spreads the retries of many sidecars that failed at the same time. A wait that cannot grow (an
    // hour, a day) is WeChat's own, and is never shortened.
    if first == most {
        wait.mul_f64(1.0 + 0.05 * jitter)
    } else {
        wait.mul_f64(0.75 + 0.5 * jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_stable_token_is_renewed_inside_its_last_five_minutes() {
        for jitter in [0.0, 0.3, 0.999] {
            let left = 2 * HOUR - renew_in(Renewal::Inside, 2 * HOUR, jitter);
            assert!(left <= Duration::from_secs(285) && left >= Duration::from_secs(150));
            let short = Duration::from_secs(8);
            let left = short - renew_in(Renewal::Inside, short, jitter);
            assert!(left < Duration::from_secs(2) && left > short / 10);
        }
    }

    #[test]
    fn a_classic_token_is_renewed_five_minutes_ahead() {
        let at = renew_in(Renewal::Ahead, 2 * HOUR, 0.7);
        assert_eq!(at, 2 * HOUR - Duration::from_secs(300));
    }

    #[test]
    fn a_ticket_is_renewed_when_little_is_left_and_shortly_before_its_end() {
        for (left, fetched_in) in [(7000, 5200), (1801, 1), (1800, 1755), (240, 210), (8, 7)] {
            let left = Duration::from_secs(left);
            let fetched_in = Duration::from_secs(fetched_in);
            assert_eq!(renew_in(Renewal::Ticket, left, 0.5), fetched_in);
            assert_eq!(ask_again_in(Renewal::Ticket, left, 0.5), fetched_in);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_that_may_end_at_any_time_is_asked_for_every_few_minutes_but_not_all_day() {
        let ticket = |lifetime| Token::new(Secret::new("T"), lifetime);
        let fresh = ticket(2 * HOUR);
        let seconds = |fetches, jitter| ask_about_expiry_in(&fresh, fetches, jitter).as_secs();
        assert_eq!((seconds(1, 0.0), seconds(29, 1.0)), (600, 540));
        assert_eq!(seconds(30, 0.0), 4800);
        // Another replica asked 100 s ago, or long ago.
        let age = Duration::from_secs(100);
        assert_eq!(ask_about_expiry_in(&fresh.aged(age), 1, 0.0).as_secs(), 500);
        assert!(ask_about_expiry_in(&fresh.aged(HOUR), 1, 0.0).is_zero());
        let short = ticket(Duration::from_secs(12));
        assert_eq!(ask_about_expiry_in(&short, 1, 0.0).as_secs(), 1);
    }

    #[test]
    fn the_same_token_is_asked_for_again_soon_but_never_at_once() {
        for (renewal, remaining, again) in [
            (Renewal::Inside, 250_000, 30_000),
            (Renewal::Inside, 2000, 500),
            (Renewal::Inside, 0, 200),
            (Renewal::Late, 7_000_000, 60_000),
            (Renewal::Late, 50_000, 25_000),
            (Renewal::Late, 2000, 1000),
            (Renewal::Late, 0, 200),
        ] {
            let (remaining, again) = (
                Duration::from_millis(remaining),
                Duration::from_millis(again),
            );
            assert_eq!(ask_again_in(renewal, remaining, 0.5), again);
        }
    }

    #[test]
    fn failures_back_off_by_their_kind() {
        let first = back_off(TokenErrorKind::Busy, 1, 0.5);
        assert_eq!(first, Duration::from_secs(1));
        assert_eq!(
            back_off(TokenErrorKind::Busy, 40, 0.5),
            Duration::from_secs(60)
        );
        for failures in 1..20 {
            for jitter in [0.0, 0.999] {
                let wait = back_off(TokenErrorKind::WrongSecret, failures, jitter).as_secs();
                assert!((225..=1125).contains(&wait), "{wait}");
                let wait = back_off(TokenErrorKind::RefusedForADay, failures, jitter).as_secs();
                assert!((86_400..91_000).contains(&wait), "{wait}");
            }
        }
    }
}
