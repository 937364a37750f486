//! A rule of `pace`: a pattern of paths, and the rate of the calls to them.

use super::bucket::Rate;
use crate::{
    account::rules::Pattern,
    settings::parse::{self, ParseError},
};

/// A rule of pacing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaceRule {
    /// The paths.
    pub pattern: Pattern,
    /// The rate of all of them together.
    pub rate: Rate,
    /// The text it was read from.
    pub text: String,
}

/// Why a text is no rule, as a phrase about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PaceRuleError {
    /// It has no rate.
    #[error("is not a pattern of paths, an equals sign and a rate")]
    NoRate,
    /// Its pattern.
    #[error("{0}")]
    Pattern(&'static str),
    /// Its rate.
    #[error("has a rate that {0}")]
    Rate(#[from] ParseError),
}

impl PaceRule {
    /// Reads `/cgi-bin/message/**=5000/min`.
    pub(crate) fn parse(text: &str) -> Result<Self, PaceRuleError> {
        let (pattern, rate) = text.rsplit_once('=').ok_or(PaceRuleError::NoRate)?;
        let (pattern, rate) = (pattern.trim(), rate.trim());
        let (calls, per) = parse::rate(rate)?;
        let text = format!("{pattern}={rate}");
        let pattern = Pattern::parse(pattern).map_err(PaceRuleError::Pattern)?;
        if pattern.is_preset() {
            return Err(PaceRuleError::Pattern("is a preset, which is for deny"));
        }
        Ok(Self {
            pattern,
            rate: Rate::new(calls, per),
            text,
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Duration;

    use super::*;

    #[test]
    fn a_rule_is_a_pattern_and_a_rate() {
        let rule = PaceRule::parse(" /cgi-bin/message/** = 5000/min ").unwrap();
        assert_eq!(rule.rate, Rate::new(5000, Duration::from_secs(60)));
        assert_eq!(rule.text, "/cgi-bin/message/**=5000/min");
        for (text, says) in [
            ("", "is not a pattern of paths, an equals sign and a rate"),
            ("/x", "is not a pattern of paths"),
            ("/x=", "has a rate that is not"),
            ("/x=5000", "has a rate that is not"),
            ("x=1/s", "is no pattern: one begins with a slash"),
            ("/x?a=1=1/s", "is no pattern: one has letters"),
            ("preset:account-wide=1/s", "is a preset"),
        ] {
            let error = PaceRule::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
