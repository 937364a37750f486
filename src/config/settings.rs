//! The engine of settings, for the configuration's keys and the places that their values come from.

use super::{
    error::Provenance,
    keys::{Id, Key},
};
use crate::settings::{
    layers::Layers,
    raw::{Describe, RawValue},
};

/// A key's values as they were given.
pub(super) type Raw = RawValue<Key, Provenance>;

/// What counts for each key: what a flag, the environment, the file or its default says.
pub(super) type Settings = Layers<Id, Key, Provenance>;

impl Describe for Key {
    const HIDDEN: &'static str = "the value";

    fn example(&self) -> &str {
        self.example
    }

    /// A URL may have a password in it.
    fn hides(&self, text: &str) -> bool {
        self.private || text.contains("://") || text.contains('@')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_password_is_not_shown() {
        for text in ["https://a:b@c", "a:b@c", "x://y"] {
            assert!(Id::Workers.key().hides(text), "{text}");
        }
        assert!(!Id::Workers.key().hides("16M\n"));
        assert!(Id::Store.key().hides("16M"));
    }
}
