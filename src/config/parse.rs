//! Texts to values: durations, sizes, counts, choices. Their errors are phrases about the text.

use bytesize::ByteSize;
use tokio::time::Duration;

use super::{
    error::ConfigError,
    keys::Id,
    layers::{Raw, Settings},
};

const DAY: Duration = Duration::from_secs(86_400);

/// Far more than a sidecar should hold.
const LARGEST: u64 = 64 << 30;

impl Raw {
    /// All values, as `read` understands them.
    pub(crate) fn list<T>(
        &self,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, ConfigError> {
        let read = |text: &String| read(text).map_err(|problem| self.wrong(text, &problem));
        self.texts.iter().map(read).collect()
    }

    /// The value, as `read` understands it.
    pub(crate) fn value<T>(
        &self,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let last = self.list(read)?.pop();
        last.ok_or_else(|| self.error("it must be set"))
    }
}

impl Settings {
    /// All values of `id`, as `read` understands them.
    pub(crate) fn list<T>(
        &self,
        id: Id,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, ConfigError> {
        self.given(id)
            .map_or_else(|| Ok(Vec::new()), |given| given.list(read))
    }

    /// The value of `id`, if it has one.
    pub(crate) fn optional<T>(
        &self,
        id: Id,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        Ok(self.list(id, read)?.pop())
    }

    /// The value of `id`, which has a default.
    pub(crate) fn value<T>(
        &self,
        id: Id,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        self.optional(id, read)?
            .ok_or_else(|| self.error(id, "it must be set"))
    }

    /// Whether the switch `id` is on.
    pub(crate) fn switch(&self, id: Id) -> Result<bool, ConfigError> {
        Ok(self.optional(id, switch)?.unwrap_or(false))
    }

    /// The value that goes by the name that was given for `id`.
    pub(crate) fn choice<T: Clone>(&self, id: Id, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        self.value(id, one_of(choices))
    }

    /// The one text given for `id`, whatever it says.
    pub(crate) fn text(&self, id: Id) -> Option<(&Raw, &str)> {
        let given = self.given(id)?;
        Some((given, given.texts.last()?))
    }
}

/// The value that goes by a name.
pub(crate) fn one_of<T: Clone>(choices: &[(&str, T)]) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        let chosen = choices.iter().find(|(name, _)| *name == text);
        chosen.map(|(_, value)| value.clone()).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            format!("is none of {}", names.join(", "))
        })
    }
}

/// A word that means yes or no.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("is neither true nor false".to_owned()),
    }
}

/// A time with its unit, of at most a day.
pub(crate) fn pause(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|_| "is not a duration with its unit".to_owned())?;
    if duration > DAY {
        return Err("is longer than a day".to_owned());
    }
    Ok(duration)
}

/// A [`pause`] that is not nothing.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = pause(text)?;
    if duration.is_zero() {
        return Err("is no time at all".to_owned());
    }
    Ok(duration)
}

/// A number of bytes, with a unit or without.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let size: ByteSize = text.parse().map_err(|_| "is not a size".to_owned())?;
    let fits = usize::try_from(size.0).ok().filter(|_| size.0 <= LARGEST);
    fits.ok_or_else(|| "is more than 64GiB".to_owned())
}

/// A number from 1 to `most`.
pub(crate) fn count(most: u32) -> impl Fn(&str) -> Result<u32, String> {
    move |text| {
        let count = text.parse().ok().filter(|count| (1..=most).contains(count));
        count.ok_or_else(|| format!("is not a number from 1 to {most}"))
    }
}

/// A number from 0 to `most`.
pub(crate) fn count_or_none(most: u32) -> impl Fn(&str) -> Result<u32, String> {
    move |text| {
        let count = text.parse().ok().filter(|count| *count <= most);
        count.ok_or_else(|| format!("is not a number from 0 to {most}"))
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
    fn sizes_do_not_saturate() {
        assert_eq!(size("16MiB").unwrap(), 16 << 20);
        assert_eq!(size("16 MB").unwrap(), 16_000_000);
        assert_eq!(size("0").unwrap(), 0);
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
    fn counts_are_at_least_one_and_switches_are_words() {
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
