//! Parses values: durations, sizes, counts, choices, addresses.

use std::net::{Ipv4Addr, SocketAddr};

use bytesize::ByteSize;
use tokio::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// The most calls of a rate.
const MOST_CALLS: u32 = 1_000_000_000;

/// The largest size. A sidecar should hold far less.
const LARGEST: u64 = 64 << 30;

/// Why a text cannot be parsed, as a phrase about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseError {
    /// It is none of these names.
    #[error("is none of {0}")]
    NoChoice(String),
    /// It is not a switch.
    #[error("is neither true nor false")]
    NoSwitch,
    /// It is not a duration.
    #[error("is not a duration with its unit")]
    NoDuration,
    /// It is too long.
    #[error("is longer than a day")]
    TooLong,
    /// It is zero.
    #[error("is no time at all")]
    NoTime,
    /// It is not a size.
    #[error("is not a size")]
    NoSize,
    /// It is a small number without a unit, which was probably forgotten.
    #[error("is a number of bytes: write the unit, as KiB or MiB")]
    NoUnit,
    /// It is too large.
    #[error("is more than 64GiB")]
    TooLarge,
    /// It is not a number, or out of this range.
    #[error("is not a number from {0} to {1}")]
    NoCount(u32, u32),
    /// It is not a rate, or its number is out of this range.
    #[error("is not a number of calls from 1 to {0} and /s, /min, /hour or /day")]
    NoRate(u32),
    /// It is not a part of a whole.
    #[error("is no part of a whole, such as 5% or 0.05")]
    NoPart,
    /// It is not an address.
    #[error("is not an IP address and a port")]
    NoAddress,
    /// It is not a port either.
    #[error("is neither an IP address and a port nor a port")]
    NoAddressOrPort,
}

/// A part of a whole, from 0 to 1: `5%` or `0.05`.
pub(crate) fn part(text: &str) -> Result<f64, ParseError> {
    let (number, whole) = match text.strip_suffix('%') {
        Some(number) => (number.trim_end(), 100.0),
        None => (text, 1.0),
    };
    let part = number.parse::<f64>().map_err(|_| ParseError::NoPart)? / whole;
    (0.0..=1.0)
        .contains(&part)
        .then_some(part)
        .ok_or(ParseError::NoPart)
}

/// So many calls in a period: `5000/min`.
pub(crate) fn rate(text: &str) -> Result<(u32, Duration), ParseError> {
    let wrong = ParseError::NoRate(MOST_CALLS);
    let (calls, unit) = text.split_once('/').ok_or(wrong.clone())?;
    let calls = count(MOST_CALLS)(calls.trim_end()).map_err(|_| wrong.clone())?;
    let seconds = match unit.trim_start() {
        "s" => 1,
        "min" => 60,
        "hour" => 3600,
        "day" => 86_400,
        _ => return Err(wrong),
    };
    Ok((calls, Duration::from_secs(seconds)))
}

/// The value that a name stands for.
pub(crate) fn one_of<T: Clone>(choices: &[(&str, T)]) -> impl Fn(&str) -> Result<T, ParseError> {
    move |text| {
        let chosen = choices.iter().find(|(name, _)| *name == text);
        chosen.map(|(_, value)| value.clone()).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            ParseError::NoChoice(names.join(", "))
        })
    }
}

/// A switch: a word that means yes or no.
pub(crate) fn switch(text: &str) -> Result<bool, ParseError> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "on" => Ok(true),
        "0" | "no" | "off" => Ok(false),
        text => boolean(text),
    }
}

/// A boolean as YAML and JSON write it.
pub(crate) fn boolean(text: &str) -> Result<bool, ParseError> {
    text.parse().map_err(|_| ParseError::NoSwitch)
}

/// A duration of at most a day, with its unit.
pub(crate) fn pause(text: &str) -> Result<Duration, ParseError> {
    let duration = humantime::parse_duration(text).map_err(|_| ParseError::NoDuration)?;
    if duration > DAY {
        return Err(ParseError::TooLong);
    }
    Ok(duration)
}

/// A [`pause`] that is not zero.
pub(crate) fn duration(text: &str) -> Result<Duration, ParseError> {
    let duration = pause(text)?;
    if duration.is_zero() {
        return Err(ParseError::NoTime);
    }
    Ok(duration)
}

/// A number of bytes, with a unit, or without if it is none or so large that no unit can be missing.
pub(crate) fn size(text: &str) -> Result<usize, ParseError> {
    let size: ByteSize = text.parse().map_err(|_| ParseError::NoSize)?;
    if has_no_unit(text) && (1..1024).contains(&size.0) {
        return Err(ParseError::NoUnit);
    }
    let fits = usize::try_from(size.0).ok().filter(|_| size.0 <= LARGEST);
    fits.ok_or(ParseError::TooLarge)
}

/// Whether a size is a number alone.
pub(crate) fn has_no_unit(text: &str) -> bool {
    text.trim().bytes().all(|byte| byte.is_ascii_digit())
}

/// A number from 1 to `most`.
pub(crate) fn count(most: u32) -> impl Fn(&str) -> Result<u32, ParseError> {
    number(1, most)
}

/// A number from 0 to `most`.
pub(crate) fn count_or_none(most: u32) -> impl Fn(&str) -> Result<u32, ParseError> {
    number(0, most)
}

fn number(least: u32, most: u32) -> impl Fn(&str) -> Result<u32, ParseError> {
    move |text| {
        let number = text.parse().ok();
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or(ParseError::NoCount(least, most))
    }
}

/// An address and a port. No name except localhost is allowed, because its meaning could change.
pub(crate) fn address(text: &str) -> Result<SocketAddr, ParseError> {
    socket_address(text, Ipv4Addr::LOCALHOST).ok_or(ParseError::NoAddress)
}

/// An address and a port, or a port alone. `ip` stands for a missing address and for `localhost`.
pub(crate) fn address_or_port(text: &str, ip: Ipv4Addr) -> Result<SocketAddr, ParseError> {
    let port = text.parse::<u16>().ok();
    let address = port.map(|port| SocketAddr::from((ip, port)));
    address
        .or_else(|| socket_address(text, ip))
        .ok_or(ParseError::NoAddressOrPort)
}

/// An address and a port, where `localhost` stands for `ip`.
fn socket_address(text: &str, ip: Ipv4Addr) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from((ip, port.parse::<u16>().ok()?))),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_an_end() {
        assert_eq!(duration("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(pause("0s").unwrap(), Duration::ZERO);
        assert_eq!(pause("1d").unwrap(), DAY);
        for bad in [
            "",
            "3",
            "-3s",
            "30S",
            "0s",
            "1d 1ns",
            "100000000000 days",
            "99999999999999999999s",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rate_is_a_number_and_a_unit() {
        let seconds = Duration::from_secs;
        assert_eq!(rate("5000/min").unwrap(), (5000, seconds(60)));
        assert_eq!(rate("1 / s").unwrap(), (1, seconds(1)));
        assert_eq!(rate("1000/hour").unwrap(), (1000, seconds(3600)));
        assert_eq!(rate("1000000000/day").unwrap(), (1_000_000_000, DAY));
        for bad in [
            "",
            "5000",
            "/min",
            "0/s",
            "-1/s",
            "1.5/s",
            "1/minute/s",
            "1/MIN",
            "1000000001/day",
        ] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_do_not_saturate() {
        assert_eq!(size("16MiB").unwrap(), 16 << 20);
        assert_eq!(size("16 MB").unwrap(), 16_000_000);
        assert_eq!(size("0").unwrap(), 0);
        assert_eq!(size("1024").unwrap(), 1024);
        assert_eq!(size("16 B").unwrap(), 16);
        for bad in ["1", "16", "1023"] {
            assert_eq!(size(bad), Err(ParseError::NoUnit), "{bad}");
        }
        assert_eq!(size("64GiB").unwrap() as u64, LARGEST);
        for bad in [
            "",
            "lots",
            "-1",
            "65GiB",
            "99999999999GiB",
            "NaN",
            "1e9 MiB",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn counts_are_at_least_one_and_switches_are_true_or_false() {
        assert_eq!(count(256)("256").unwrap(), 256);
        assert_eq!(count_or_none(256)("0").unwrap(), 0);
        assert!(count_or_none(256)("257").is_err());
        for bad in ["", "0", "-1", "257", "1.5", "two", "99999999999999"] {
            assert!(count(256)(bad).is_err(), "{bad}");
        }
        assert!(switch("Yes").unwrap() && !switch("off").unwrap());
        assert!(switch("").is_err() && switch("maybe").is_err());
    }
}
