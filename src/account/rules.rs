//! Which endpoints an account may call: patterns of decoded paths.

use std::fmt;

/// Which endpoints an account may call. An endpoint that `deny` has is forbidden, and so is one that
/// `allow` has not, unless it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What may be called; empty for everything.
    pub allow: Vec<Pattern>,
    /// What may not, whatever `allow` has.
    pub deny: Vec<Pattern>,
}

/// A pattern of paths: `*` stands for any characters of a segment, `**` for any at all.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Reads a pattern. The error is a phrase that does not repeat it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let plain = |b: u8| b.is_ascii_graphic() && !b"%?#\\".contains(&b);
        if !text.starts_with(['/', '*']) || !text.bytes().all(plain) {
            return Err("is not a pattern of decoded paths");
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
