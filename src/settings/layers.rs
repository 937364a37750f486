//! Layers of values. The strongest layer that has a value wins.

use std::{collections::BTreeMap, fmt::Display};

use super::{
    error::SettingError,
    parse,
    raw::{Describe, RawValue},
};

/// The effective value of each setting. `I` is the type of their ids.
pub(crate) struct Layers<I, K: 'static, P> {
    defaults: BTreeMap<I, RawValue<K, P>>,
    given: BTreeMap<I, RawValue<K, P>>,
}

impl<I: Copy + Ord, K: Describe, P: Clone + Display> Layers<I, K, P> {
    /// The lowest layer. It has an entry for every setting, even if that has no text.
    pub(crate) fn new(defaults: impl IntoIterator<Item = (I, RawValue<K, P>)>) -> Self {
        Self {
            defaults: defaults.into_iter().collect(),
            given: BTreeMap::new(),
        }
    }

    /// Adds a layer above those so far.
    pub(crate) fn lay(&mut self, layer: impl IntoIterator<Item = (I, RawValue<K, P>)>) {
        self.given.extend(layer);
    }

    /// The effective value of `id`.
    pub(crate) fn get(&self, id: I) -> &RawValue<K, P> {
        self.given.get(&id).unwrap_or_else(|| &self.defaults[&id])
    }

    /// Whether `id` was given in any layer above the lowest.
    pub(crate) fn is_set(&self, id: I) -> bool {
        self.given.contains_key(&id)
    }

    /// All values of `id`, parsed by `read`.
    pub(crate) fn list<T, E: Display>(
        &self,
        id: I,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, SettingError<P>> {
        self.get(id).list(read)
    }

    /// The value of `id`, if it has one.
    pub(crate) fn optional<T, E: Display>(
        &self,
        id: I,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, SettingError<P>> {
        self.get(id).optional(read)
    }

    /// The value of `id`, which has a default.
    pub(crate) fn value<T, E: Display>(
        &self,
        id: I,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T, SettingError<P>> {
        self.get(id).value(read)
    }

    /// Whether the switch `id` is on.
    pub(crate) fn switch(&self, id: I) -> Result<bool, SettingError<P>> {
        Ok(self.optional(id, parse::switch)?.unwrap_or(false))
    }

    /// The value that the name given for `id` stands for.
    pub(crate) fn choice<T: Clone>(
        &self,
        id: I,
        choices: &[(&str, T)],
    ) -> Result<T, SettingError<P>> {
        self.value(id, parse::one_of(choices))
    }

    /// The text that was given for `id`, unparsed. There is at most one.
    pub(crate) fn text(&self, id: I) -> Option<(&RawValue<K, P>, &str)> {
        let given = self.get(id);
        Some((given, given.text()?))
    }

    /// An error about `id`, with the place where it was given.
    pub(crate) fn error(&self, id: I, problem: &str) -> SettingError<P> {
        self.get(id).error(problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Letter;

    impl Describe for Letter {
        const HIDDEN: &'static str = "the value";

        fn example(&self) -> &str {
            "1"
        }

        fn hides(&self, _: &str) -> bool {
            false
        }
    }

    fn raw(texts: &[&str], place: &'static str) -> RawValue<Letter, &'static str> {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        RawValue {
            key: &Letter,
            texts,
            place,
        }
    }

    #[test]
    fn the_strongest_layer_that_says_something_counts() {
        let defaults = [('a', raw(&["1"], "default")), ('b', raw(&[], "default"))];
        let mut layers = Layers::new(defaults);
        assert_eq!(
            (layers.is_set('a'), layers.get('a').place),
            (false, "default")
        );
        layers.lay([('a', raw(&["2"], "file")), ('b', raw(&["3"], "file"))]);
        layers.lay([('a', raw(&["4"], "flag"))]);
        let number = |id| layers.value(id, |text| text.parse::<u8>());
        assert_eq!((number('a'), number('b')), (Ok(4), Ok(3)));
        assert_eq!(layers.error('a', "no").to_string(), "flag: no");
        assert_eq!(layers.error('b', "no").to_string(), "file: no");
    }

    #[test]
    fn what_nobody_gives_has_no_value_and_is_off() {
        let layers = Layers::new([('a', raw(&[], "default"))]);
        assert_eq!(layers.switch('a'), Ok(false));
        assert!(layers.text('a').is_none());
        let missing = layers.choice('a', &[("x", 1)]).unwrap_err();
        assert_eq!(missing.to_string(), "default: it must be set");
    }
}
