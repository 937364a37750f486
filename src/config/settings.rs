//! The engine of settings, with the keys and places of the configuration.

use super::{
    error::Provenance,
    keys::{Id, Key},
};
use crate::settings::{
    layers::Layers,
    raw::{Describe, RawValue},
};

/// The raw value of a key.
pub(super) type Raw = RawValue<Key, Provenance>;

/// The effective value of each key: of a flag, the environment, the file, or its default.
pub(super) type Settings = Layers<Id, Key, Provenance>;

impl Describe for Key {
    const HIDDEN: &'static str = "the value";

    fn example(&self) -> &str {
        self.example
    }

    /// A URL may contain a password.
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
