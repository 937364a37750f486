//! The raw value of a setting, and the errors about it.

use std::fmt::Display;

use super::error::SettingError;

/// What errors need to know about a setting.
pub(crate) trait Describe {
    /// The words that stand for a value that must not be repeated.
    const HIDDEN: &'static str;

    /// A valid value.
    fn example(&self) -> &str;

    /// Whether `text` may contain a secret.
    fn hides(&self, text: &str) -> bool;
}

/// The texts of a setting, not parsed yet. There may be none.
#[derive(Clone)]
pub(crate) struct RawValue<K: 'static, P> {
    /// The description of the setting.
    pub(crate) key: &'static K,
    /// The texts. There are several if the setting is a list, or was given more than once.
    pub(crate) texts: Vec<String>,
    /// The place where it was given.
    pub(crate) place: P,
}

impl<K: Describe, P: Clone + Display> RawValue<K, P> {
    /// The last text, which counts if only one can.
    pub(crate) fn text(&self) -> Option<&str> {
        self.texts.last().map(String::as_str)
    }

    /// All values, parsed by `read`. Its error is a phrase about the text: "is not a size".
    pub(crate) fn list<T, E: Display>(
        &self,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, SettingError<P>> {
        let read = |text: &String| read(text).map_err(|problem| self.invalid(text, problem));
        self.texts.iter().map(read).collect()
    }

    /// The value, parsed by `read`, if there is one.
    pub(crate) fn optional<T, E: Display>(
        &self,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, SettingError<P>> {
        Ok(self.list(read)?.pop())
    }

    /// The value, parsed by `read`.
    pub(crate) fn value<T, E: Display>(
        &self,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T, SettingError<P>> {
        self.optional(read)?
            .ok_or_else(|| self.error("it must be set"))
    }

    /// An error with its place. `problem` is a sentence.
    pub(crate) fn error(&self, problem: &str) -> SettingError<P> {
        SettingError::new(self.place.clone(), problem)
    }

    /// An error about its value. `problem` is a phrase about it.
    pub(crate) fn objection(&self, problem: &str) -> SettingError<P> {
        let subject = self.subject(self.text().unwrap_or_default());
        self.error(&format!("{subject} {problem}"))
    }

    /// The error about a `text` that cannot be parsed.
    fn invalid(&self, text: &str, problem: impl Display) -> SettingError<P> {
        let (subject, example) = (self.subject(text), self.key.example());
        self.error(&format!("{subject} {problem}; for example {example}"))
    }

    /// The beginning of `text` in quotes, or the words that stand for it.
    fn subject(&self, text: &str) -> String {
        if self.key.hides(text) {
            return K::HIDDEN.to_owned();
        }
        let beginning: String = text.chars().take(60).collect();
        format!("{beginning:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Limit;

    impl Describe for Limit {
        const HIDDEN: &'static str = "the value";

        fn example(&self) -> &str {
            "16MiB"
        }

        fn hides(&self, text: &str) -> bool {
            text.contains("HUNTER2")
        }
    }

    fn raw(texts: &[&str]) -> RawValue<Limit, &'static str> {
        RawValue {
            key: &Limit,
            texts: texts.iter().map(|text| (*text).to_owned()).collect(),
            place: "--limit",
        }
    }

    fn error(text: &str) -> String {
        let read = |_: &str| Err::<(), _>("is not a size");
        raw(&[text]).value(read).unwrap_err().to_string()
    }

    #[test]
    fn an_error_names_the_place_and_the_value_and_an_example() {
        assert_eq!(
            error("16M\n"),
            r#"--limit: "16M\n" is not a size; for example 16MiB"#
        );
        assert!(error(&"x".repeat(1000)).len() < 120);
        let objection = raw(&["1", "2"]).objection("is too much").to_string();
        assert_eq!(objection, r#"--limit: "2" is too much"#);
    }

    #[test]
    fn what_may_be_a_password_is_not_shown() {
        assert_eq!(
            error("HUNTER2"),
            "--limit: the value is not a size; for example 16MiB"
        );
        let objection = raw(&["HUNTER2"]).objection("is too much").to_string();
        assert_eq!(objection, "--limit: the value is too much");
    }

    #[test]
    fn the_last_text_counts_and_all_of_them_are_read() {
        let read = |text: &str| text.parse::<u8>();
        assert_eq!(raw(&["1", "2"]).value(read), Ok(2));
        assert_eq!(raw(&["1", "2"]).list(read), Ok(vec![1, 2]));
        assert!(raw(&["x", "2"]).value(read).is_err());
        assert_eq!(raw(&[]).optional(read), Ok(None));
        let missing = raw(&[]).value(read).unwrap_err().to_string();
        assert_eq!(missing, "--limit: it must be set");
    }
}
