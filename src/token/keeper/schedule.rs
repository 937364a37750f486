//! The schedule of fetches, as pure functions.

use tokio::time::Duration;

use crate::token::source::TokenErrorKind;

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
    /// A ticket: its age is unknown, so it is renewed after half of its remaining lifetime.
    Halfway,
}

/// How long before its expiry a token of [`Renewal::Late`] is first fetched again.
const LATE: Duration = Duration::from_secs(60);

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
        Renewal::Halfway => lifetime.mul_f64(0.5 - 0.05 * jitter),
    };
    lifetime - ahead
}

/// How long to wait after a renewal returned the same token, which expires in `remaining`.
pub fn ask_again_in(renewal: Renewal, remaining: Duration, jitter: f64) -> Duration {
    let (pause, share) = match renewal {
        Renewal::Late => (LATE, 2),
        Renewal::Halfway => return renew_in(renewal, remaining, jitter),
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
    fn a_ticket_is_renewed_after_half_of_what_is_left() {
        for jitter in [0.0, 0.999] {
            let at = renew_in(Renewal::Halfway, 2 * HOUR, jitter).as_secs();
            assert!((3600..4000).contains(&at), "{at}");
        }
        let again = ask_again_in(Renewal::Halfway, HOUR, 0.0);
        assert_eq!(again, HOUR / 2);
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
