//! Which endpoints an account may call: patterns of decoded paths.

use std::fmt;

use super::account_wide;

/// Which endpoints an account may call. One that `deny` has is forbidden, and so is one that `allow`
/// has not, unless that is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What may be called; empty for everything.
    pub allow: Vec<Pattern>,
    /// What may not, whatever `allow` has.
    pub deny: Vec<Pattern>,
}

/// The rule that forbids an endpoint, as an app is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// A pattern of `deny`.
    #[error("this endpoint is forbidden by deny = {0:?} of this account")]
    Denied(Pattern),
    /// No pattern of `allow`.
    #[error("this endpoint is not one that allow of this account has")]
    NotAllowed,
    /// A character that no path of WeChat's has, and that a server might read in another way.
    #[error(
        "where an account has allow or deny, a path consists of letters, digits, hyphens, underscores and slashes"
    )]
    Strange,
}

/// A pattern of paths: `*` stands for any characters of a segment, `**` for any at all.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    /// As it was given.
    text: String,
    steps: Vec<Step>,
}

/// What a pattern wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// This character.
    One(u8),
    /// Any number of characters but slashes.
    Some,
    /// Any number of any characters.
    Any,
}

/// So many steps fit into the bits of a number.
const LONGEST: usize = 120;

/// What `deny` calls the list of endpoints that hurt the whole account.
pub const ACCOUNT_WIDE: &str = "preset:account-wide";

impl Rules {
    /// Whether the endpoint at `path` may be called: decoded, in lower case, without a slash at its
    /// end, as [`Endpoint::path`](crate::wechat::endpoint::Endpoint::path) is.
    pub fn check(&self, path: &[u8]) -> Result<(), Forbidden> {
        self.check_denied(path)?;
        if !self.allow.is_empty() && !self.allow.iter().any(|pattern| pattern.has(path)) {
            return Err(Forbidden::NotAllowed);
        }
        Ok(())
    }

    /// The same for an endpoint that is answered here: what is allowed is about calls that go on.
    pub fn check_denied(&self, path: &[u8]) -> Result<(), Forbidden> {
        if self.allow.is_empty() && self.deny.is_empty() {
            return Ok(());
        }
        if !path.iter().copied().all(is_plain) {
            return Err(Forbidden::Strange);
        }
        if let Some(pattern) = self.deny.iter().find(|pattern| pattern.has(path)) {
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

    /// Whether it is a list and no pattern.
    pub fn is_preset(&self) -> bool {
        self.text == ACCOUNT_WIDE
    }

    /// Whether `path` is one of its own.
    fn has(&self, path: &[u8]) -> bool {
        if self.is_preset() {
            return account_wide::hurts_the_account(path);
        }
        // Bit n: the first n steps are done.
        let mut reached = self.skip(1);
        for byte in path {
            let mut next = 0_u128;
            for (at, step) in self.steps.iter().enumerate() {
                if reached & (1 << at) == 0 {
                    continue;
                }
                match step {
                    Step::One(wanted) if wanted == byte => next |= 1 << (at + 1),
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

    /// The same with what comes after a star that stands for nothing.
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

/// Whether paths of WeChat's and WeCom's have this character, in lower case.
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
