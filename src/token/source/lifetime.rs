//! How long a token lives, as somebody else's JSON says it.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::time::Duration;

/// What a token's life is taken for when nobody says: WeChat's own.
pub(super) const USUAL: Duration = Duration::from_secs(7200);

/// For how long a token is good whose place vouches for it and says nothing of its life. Then the
/// place is asked again.
pub(super) const VOUCHED: Duration = Duration::from_secs(300);

/// Only the clock's range matters.
const LONGEST: f64 = 365.0 * 86_400.0;

/// Numbers above are no lives, but times: seconds since 1970.
const TIMES: f64 = 1e9;

/// Numbers above are milliseconds since 1970.
const MILLIS: f64 = 1e12;

/// What is left of a life of `value` seconds that began `age` ago, or that ends at `value`, which is
/// a time in seconds or milliseconds since 1970. Zero when it is over; `None` when that is no number.
pub(super) fn left(value: &Value, age: Duration) -> Option<Duration> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok()?,
        number => number.as_f64()?,
    };
    let seconds = if number > TIMES {
        let end = if number > MILLIS {
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
    // A NaN becomes 0 here, which is as good a life as any for it.
    Some(Duration::from_secs_f64(
        seconds.clamp(0.0, LONGEST).max(0.0),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn whole(value: &Value, age: u64) -> Option<u64> {
        left(value, Duration::from_secs(age)).map(|left| left.as_secs())
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
