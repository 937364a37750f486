//! The clock of this machine, compared with the `Date` of WeChat's reply.

use std::time::{Duration, SystemTime};

use super::report::{Check, Finding};

/// An error of the clock that is worth a warning.
const NOTABLE: Duration = Duration::from_secs(30);

/// An error by which certificates and expiries go wrong.
const HARMFUL: Duration = Duration::from_secs(300);

/// When a call was sent and its reply arrived, by this machine, and when it was answered, by the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClockSample {
    pub(super) sent: SystemTime,
    pub(super) received: SystemTime,
    /// A `Date` has whole seconds, and the rest is cut off.
    pub(super) date: SystemTime,
}

impl ClockSample {
    /// By how many seconds this clock is ahead for certain, whatever part of the round trip came before the server's
    /// reply. It is negative if the clock is behind, and 0 if it may be right.
    fn seconds_ahead(self) -> f64 {
        let least = seconds(self.date + Duration::from_secs(1), self.sent);
        let most = seconds(self.date, self.received);
        if least > 0.0 { least } else { most.min(0.0) }
    }
}

/// How many seconds `to` is after `from`.
fn seconds(from: SystemTime, to: SystemTime) -> f64 {
    match to.duration_since(from) {
        Ok(after) => after.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}

/// Whether the clock is right, by the reply of `host`.
pub(super) fn finding(host: &str, sample: ClockSample) -> Finding {
    let ahead = sample.seconds_ahead();
    let off = Duration::from_secs_f64(ahead.abs());
    let direction = if ahead > 0.0 { "ahead of" } else { "behind" };
    let wrong = format!(
        "the clock of this machine is {} s {direction} that of {host}",
        off.as_secs()
    );
    let advice =
        "set the clock (NTP): certificates are judged by it, and so is the expiry of tokens";
    let finding = if off > HARMFUL {
        Finding::failed(Check::Clock, host, wrong).advise(advice)
    } else if off > NOTABLE {
        Finding::warning(Check::Clock, host, wrong).advise(advice)
    } else {
        let right = format!("the clock of this machine agrees with that of {host}");
        Finding::ok(Check::Clock, host, right)
    };
    let round_trip = seconds(sample.sent, sample.received).max(0.0) * 1000.0;
    finding
        .detail("seconds_ahead", ahead.round() as i64)
        .detail("round_trip_ms", round_trip.round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::report::Severity;

    #[test]
    fn an_error_counts_only_beyond_the_round_trip_and_the_second_that_a_date_leaves_out() {
        let at = |millis: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let date = 1_000_000;
        for (sent, received, ahead, severity) in [
            // Right, with a round trip of any length.
            (1_000_000, 1_000_100, 0, Severity::Ok),
            (960_000, 1_040_000, 0, Severity::Ok),
            (1_000_900, 1_001_000, 0, Severity::Ok),
            (1_030_900, 1_031_000, 30, Severity::Ok),
            (1_031_100, 1_031_200, 30, Severity::Warning),
            (969_000, 969_900, -30, Severity::Warning),
            (600_000, 969_900, -30, Severity::Warning),
            (1_301_000, 1_301_100, 300, Severity::Warning),
            (1_301_100, 1_301_200, 300, Severity::Failed),
            (0, 100, -1000, Severity::Failed),
        ] {
            let sample = ClockSample {
                sent: at(sent),
                received: at(received),
                date: at(date),
            };
            let finding = finding("a.test", sample);
            assert_eq!(finding.severity, severity, "{sent} {finding:?}");
            assert_eq!(finding.details["seconds_ahead"], ahead, "{sent}");
        }
    }
}
