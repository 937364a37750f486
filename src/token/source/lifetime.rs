//! Reads lifetimes of tokens from the JSON of files and token servers.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::time::Duration;

/// The default lifetime of a token: WeChat's own.
pub(super) const USUAL: Duration = Duration::from_secs(7200);

/// The lifetime of a token whose source vouches for it without stating a lifetime. After it, the source is
/// read again.
pub(super) const VOUCHED: Duration = Duration::from_secs(300);

/// The lifetime of a ticket that WeChat still returns when it may have expired.
pub(in crate::token) const TICKET_VOUCHED: Duration = Duration::from_secs(240);

/// Longer lifetimes are cut to this, which an `Instant` can hold.
const MAX_SECONDS: f64 = 365.0 * 86_400.0;

/// Larger numbers are not lifetimes, but Unix times in seconds.
const MIN_UNIX_TIME: f64 = 1e9;

/// Larger numbers are Unix times in milliseconds.
const MIN_UNIX_MILLIS: f64 = 1e12;

/// The remaining lifetime. `value` is either the lifetime in seconds, which began `age` ago, or the Unix time in
/// seconds or milliseconds at which it ends. Zero if it is over, `None` if `value` is not a number.
pub(super) fn remaining(value: &Value, age: Duration) -> Option<Duration> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok()?,
        number => number.as_f64()?,
    };
    let seconds = if number > MIN_UNIX_TIME {
        let end = if number > MIN_UNIX_MILLIS {
            number / 1e3
        } else {
            number
        };
        end - SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()?
            .as_secs_f64()
    } else {
        number - age.as_secs_f64()
    };
    // A NaN becomes 0 here.
    Some(Duration::from_secs_f64(
        seconds.clamp(0.0, MAX_SECONDS).max(0.0),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn whole(value: &Value, age: u64) -> Option<u64> {
        remaining(value, Duration::from_secs(age)).map(|left| left.as_secs())
    }

    #[test]
    fn a_life_is_relative_or_a_time_in_seconds_or_milliseconds() {
        assert_eq!(whole(&json!(7200), 200), Some(7000));
        assert_eq!(whole(&json!("7200"), 0), Some(7200));
        assert_eq!(whole(&json!(60), 61), Some(0));
        assert_eq!(whole(&json!(-1), 0), Some(0));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let soon = json!(now.as_secs() + 100);
        assert!((98..=100).contains(&whole(&soon, 5000).unwrap()));
        let soon = json!(now.as_millis() as u64 + 100_000);
        assert!((98..=100).contains(&whole(&soon, 5000).unwrap()));
        assert_eq!(whole(&json!(now.as_secs() - 100), 0), Some(0));
        assert!(whole(&json!(9e300), 0).is_some());
        for nonsense in [json!(null), json!("soon"), json!([1]), json!(true)] {
            assert_eq!(whole(&nonsense, 0), None, "{nonsense}");
        }
        assert_eq!(whole(&json!("NaN"), 0), Some(0));
    }
}
