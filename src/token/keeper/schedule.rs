//! When to ask for a token next: pure functions of what is known.

use tokio::time::Duration;

use crate::token::source::TokenErrorKind;

/// How a token is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// `stable_token`: WeChat renews only when asked in the token's last 5 minutes, and gives the
    /// same token before. Replicas spread themselves over that time.
    Inside,
    /// `token`: each request mints a new one; the old one works 5 minutes more.
    Ahead,
    /// WeCom's `gettoken`: most likely the same token comes until it expires, and asking is harmless,
    /// if it is not done too often.
    Late,
    /// A ticket: nobody says how old it is, so half of what is left of its life is trusted.
    Halfway,
}

/// How long before its expiry a token is asked for first that will hardly be renewed before.
const LATE: Duration = Duration::from_secs(60);

/// The time before expiry in which a token of this `lifetime` is renewed.
pub fn window(lifetime: Duration) -> Duration {
    (lifetime / 4).min(Duration::from_secs(300))
}

/// How long from now to renew a token that was just brought. `dice` is in 0.0..1.0.
pub fn renew_in(renewal: Renewal, lifetime: Duration, dice: f64) -> Duration {
    let ahead = match renewal {
        Renewal::Ahead => window(lifetime),
        Renewal::Inside => window(lifetime).mul_f64(0.95 - 0.45 * dice),
        Renewal::Late => window(lifetime).min(LATE).mul_f64(0.95 - 0.45 * dice),
        Renewal::Halfway => lifetime.mul_f64(0.5 - 0.05 * dice),
    };
    lifetime - ahead
}

/// How long to wait when a renewal brought the same token, which has `remaining` to live.
pub fn ask_again_in(renewal: Renewal, remaining: Duration, dice: f64) -> Duration {
    let (pause, share) = match renewal {
        Renewal::Late => (LATE, 2),
        Renewal::Halfway => return renew_in(renewal, remaining, dice),
        Renewal::Inside | Renewal::Ahead => {
            let twenty = Duration::from_secs(20);
            (twenty + twenty.mul_f64(dice), 4)
        }
    };
    pause.min((remaining / share).max(Duration::from_millis(200)))
}

/// How long to wait after `failures` failures in a row, the last of which meant `meaning`.
pub fn back_off(meaning: TokenErrorKind, failures: u32, dice: f64) -> Duration {
    let (first, most) = meaning.back_off();
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(12));
    let wait = doubled.min(most);
    // Half of it is certain: many sidecars that failed together shall not come back together.
    // A wait that cannot grow (a day, an hour) was set by WeChat, and is kept in full.
    if first == most {
        wait.mul_f64(1.0 + 0.05 * dice)
    } else {
        wait.mul_f64(0.75 + 0.5 * dice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_stable_token_is_renewed_inside_its_last_five_minutes() {
        for dice in [0.0, 0.3, 0.999] {
            let left = 2 * HOUR - renew_in(Renewal::Inside, 2 * HOUR, dice);
            assert!(left <= Duration::from_secs(285) && left >= Duration::from_secs(150));
            let short = Duration::from_secs(8);
            let left = short - renew_in(Renewal::Inside, short, dice);
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
        for dice in [0.0, 0.999] {
            let at = renew_in(Renewal::Halfway, 2 * HOUR, dice).as_secs();
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
            for dice in [0.0, 0.999] {
                let wait = back_off(TokenErrorKind::WrongSecret, failures, dice).as_secs();
                assert!((225..=1125).contains(&wait), "{wait}");
                let wait = back_off(TokenErrorKind::RefusedForADay, failures, dice).as_secs();
                assert!((86_400..91_000).contains(&wait), "{wait}");
            }
        }
    }
}
