//! The two languages in which the program speaks to people, and texts in both.

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lang {
    /// English.
    En,
    /// Chinese, in simplified characters.
    Zh,
}

impl Lang {
    /// Both.
    pub const ALL: [Self; 2] = [Self::En, Self::Zh];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh",
        }
    }

    /// The language called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lang| lang.name() == name)
    }

    /// The language of messages according to the environment, which `variable` reads: LC_ALL beats LC_MESSAGES, which
    /// beats LANG.
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(set);
        match locale {
            Some(locale) if locale.to_ascii_lowercase().starts_with("zh") => Self::Zh,
            _ => Self::En,
        }
    }
}

/// A text in both languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    /// In English.
    pub en: &'static str,
    /// In Chinese.
    pub zh: &'static str,
}

impl Text {
    /// A text that is the same in both languages, such as a link.
    pub const fn both(text: &'static str) -> Self {
        Self { en: text, zh: text }
    }

    /// The text in `lang`.
    pub const fn of(self, lang: Lang) -> &'static str {
        match lang {
            Lang::En => self.en,
            Lang::Zh => self.zh,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_decides() {
        for (variables, lang) in [
            (&[][..], Lang::En),
            (&[("LANG", "zh_CN.UTF-8")], Lang::Zh),
            (&[("LANG", "ZH")], Lang::Zh),
            (&[("LANG", "zh_CN.UTF-8"), ("LC_ALL", "C")], Lang::En),
            (&[("LANG", "zh_CN.UTF-8"), ("LC_ALL", "")], Lang::Zh),
            (&[("LANG", "en_US"), ("LC_MESSAGES", "zh_TW")], Lang::Zh),
            (&[("LC_ALL", "de_DE"), ("LC_MESSAGES", "zh_CN")], Lang::En),
        ] {
            let read = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(Lang::of_environment(read), lang, "{variables:?}");
        }
        assert!(
            Lang::ALL
                .iter()
                .all(|lang| Lang::named(lang.name()) == Some(*lang))
        );
    }
}
