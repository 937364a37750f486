//! Which endpoints an account may call: patterns of decoded paths.

use std::fmt;

use super::account_wide;
use crate::wechat::{
    api::Api,
    endpoint::{self, Credential, Endpoint},
};

/// Which endpoints an account may call. An endpoint is forbidden if a pattern of `deny` matches it, or if
/// `allow` is not empty and none of its patterns matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Patterns of endpoints that may be called; empty for all.
    pub allow: Vec<Pattern>,
    /// Patterns of endpoints that may not be called. They win over `allow`.
    pub deny: Vec<Pattern>,
}

/// The rule that forbids an endpoint, as the app is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// A pattern of `deny`.
    #[error("this endpoint is forbidden by deny = {0:?} of this account")]
    Denied(Pattern),
    /// No pattern of `allow`.
    #[error("this endpoint is not one that allow of this account has")]
    NotAllowed,
    /// A character that no path of WeChat's has, and that a server might interpret differently.
    #[error(
        "where an account has allow or deny, a path consists of letters, digits, hyphens, underscores and slashes"
    )]
    Strange,
}

/// A pattern of paths: `*` stands for any characters of a segment, `**` for any at all.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// The text it was read from.
    text: String,
    steps: Vec<Step>,
}

/// One step of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// This character.
    One(u8),
    /// Any number of characters but slashes.
    Some,
    /// Any number of any characters.
    Any,
}

/// The most steps of a pattern. The states of a match are the bits of a `u128`.
const LONGEST: usize = 120;

/// The name, in `deny`, of the list of endpoints that can harm the whole account.
pub const ACCOUNT_WIDE: &str = "preset:account-wide";

impl Rules {
    /// Checks whether the endpoint at `path` may be called. The path is decoded, in lower case, and has no
    /// slash at its end, as [`Endpoint::path`](crate::wechat::endpoint::Endpoint::path) is.
    pub fn check(&self, path: &[u8]) -> Result<(), Forbidden> {
        self.check_denied(path)?;
        if !self.allow.is_empty() && !self.allow.iter().any(|pattern| pattern.matches(path)) {
            return Err(Forbidden::NotAllowed);
        }
        Ok(())
    }

    /// Checks whether `endpoint` may be called.
    pub fn check_endpoint(&self, endpoint: &Endpoint<'_>) -> Result<(), Forbidden> {
        if endpoint.is_trimmed() && !self.is_empty() {
            return Err(Forbidden::Strange);
        }
        match endpoint.credential {
            Credential::TokenRequest => self.check_denied(endpoint.path()),
            _ => self.check(endpoint.path()),
        }
    }

    fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// Checks `deny` only, for endpoints that the sidecar answers itself. `allow` is about calls to WeChat.
    pub fn check_denied(&self, path: &[u8]) -> Result<(), Forbidden> {
        if self.is_empty() {
            return Ok(());
        }
        if !path.iter().copied().all(is_plain) {
            return Err(Forbidden::Strange);
        }
        if let Some(pattern) = self.deny.iter().find(|pattern| pattern.matches(path)) {
            return Err(Forbidden::Denied(pattern.clone()));
        }
        Ok(())
    }
}

impl Pattern {
    /// Reads a pattern. The error is a phrase that does not repeat it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let steps = if text == ACCOUNT_WIDE {
            Vec::new()
        } else if text.starts_with("preset:") {
            return Err("is no preset; there is preset:account-wide");
        } else {
            steps(text)?
        };
        let text = text.to_owned();
        Ok(Self { text, steps })
    }

    /// Whether it is the name of a list.
    pub fn is_preset(&self) -> bool {
        self.text == ACCOUNT_WIDE
    }

    /// Whether it matches a documented path of `api`, so that it is probably spelt as it was meant.
    pub fn is_known(&self, api: Api) -> bool {
        let literal = self.steps.iter().map_while(|step| match step {
            Step::One(byte) => Some(*byte),
            Step::Some | Step::Any => None,
        });
        // Few paths begin like it, and thousands of accounts may have rules of their own.
        let literal: Vec<u8> = literal.collect();
        let begins = |path: &&str| {
            let beginning = path.as_bytes().get(..literal.len());
            beginning.is_some_and(|path| path.eq_ignore_ascii_case(&literal))
        };
        let mut near = endpoint::rows_of(api).map(endpoint::label).filter(begins);
        self.is_preset() || near.any(|path| self.matches(path.to_ascii_lowercase().as_bytes()))
    }

    /// Whether it matches `path`.
    pub fn matches(&self, path: &[u8]) -> bool {
        if self.is_preset() {
            return account_wide::is_account_wide(path);
        }
        // Bit n is set if the first n steps match.
        let mut reached = self.skip(1);
        for byte in path {
            let mut next = 0_u128;
            for (at, step) in self.steps.iter().enumerate() {
                if reached & (1 << at) == 0 {
                    continue;
                }
                match step {
                    Step::One(expected) if expected == byte => next |= 1 << (at + 1),
                    Step::Some if *byte != b'/' => next |= 1 << at,
                    Step::Any => next |= 1 << at,
                    Step::One(_) | Step::Some => {}
                }
            }
            if next == 0 {
                return false;
            }
            reached = self.skip(next);
        }
        reached & (1 << self.steps.len()) != 0
    }

    /// Adds the states that are reached when a star matches nothing.
    fn skip(&self, mut reached: u128) -> u128 {
        for (at, step) in self.steps.iter().enumerate() {
            if matches!(step, Step::Some | Step::Any) && reached & (1 << at) != 0 {
                reached |= 1 << (at + 1);
            }
        }
        reached
    }
}

fn steps(text: &str) -> Result<Vec<Step>, &'static str> {
    let text = text.to_ascii_lowercase();
    if !text.starts_with(['/', '*']) {
        return Err("is no pattern: one begins with a slash");
    }
    if !text.bytes().all(|byte| is_plain(byte) || byte == b'*') {
        return Err(
            "is no pattern: one has letters, digits, hyphens, underscores, slashes and stars",
        );
    }
    if text.contains("//") || text.contains("***") || (text.len() > 1 && text.ends_with('/')) {
        return Err("is a pattern that no path can match");
    }
    let mut steps = Vec::new();
    for byte in text.bytes() {
        match (byte, steps.last()) {
            (b'*', Some(Step::Some)) => {
                steps.pop();
                steps.push(Step::Any);
            }
            (b'*', _) => steps.push(Step::Some),
            (byte, _) => steps.push(Step::One(byte)),
        }
    }
    if steps.len() > LONGEST {
        return Err("is a pattern of more than 120 characters");
    }
    Ok(steps)
}

/// Whether lower-case paths of WeChat and WeCom may have this character.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"/-_".contains(&byte)
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

#[cfg(test)]
mod tests;
