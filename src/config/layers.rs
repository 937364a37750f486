//! Flags over environment over file over defaults, each value with the place it comes from.

use std::{collections::BTreeMap, fmt, path::Path};

use super::{
    Sources,
    accounts::Table,
    error::{ConfigError, Place},
    file,
    keys::{self, Id, Key, Kind, PREFIX, Preset},
};

/// A key's values as they were given.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) key: &'static Key,
    pub(super) texts: Vec<String>,
    pub(super) place: Place,
}

/// What was given for each key, by the layer that counts.
pub(super) struct Settings {
    given: BTreeMap<Id, Given>,
    /// The accounts of the file.
    pub(super) accounts: Vec<Table>,
    /// Sentences about what is ignored.
    pub(super) warnings: Vec<String>,
}

/// What every key said, but for accounts.
#[derive(Clone)]
pub(super) struct Said(BTreeMap<Id, Vec<String>>);

/// The keys that an account's own may replace: they take effect at once.
const OF_ACCOUNTS: [Id; 4] = [Id::TokenApi, Id::DailyFetches, Id::Allow, Id::Deny];

impl Said {
    pub(super) fn file(&self) -> Option<&Path> {
        self.0.get(&Id::Config)?.last().map(Path::new)
    }

    pub(super) fn fixed_differences(&self, other: &Self) -> Vec<&'static str> {
        let fixed = keys::keys()
            .iter()
            .filter(|key| !OF_ACCOUNTS.contains(&key.id));
        let other = fixed.filter(|key| self.0.get(&key.id) != other.0.get(&key.id));
        other.map(|key| key.name).collect()
    }
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Said").finish_non_exhaustive()
    }
}

impl Given {
    /// The error about one of its values, of which `problem` is said: "is not a size".
    pub(super) fn wrong(&self, text: &str, problem: &str) -> ConfigError {
        let Key {
            private, example, ..
        } = *self.key;
        let subject = if private {
            THE_VALUE.to_owned()
        } else {
            shown(text)
        };
        self.error(&format!("{subject} {problem}; for example {example}"))
    }

    /// An error at its place.
    pub(super) fn error(&self, problem: &str) -> ConfigError {
        ConfigError::new(self.place.clone(), problem)
    }
}

const THE_VALUE: &str = "the value";

/// A value in quotes, unless it looks like something with a password in it.
fn shown(text: &str) -> String {
    if text.contains("://") || text.contains('@') {
        return THE_VALUE.to_owned();
    }
    let beginning: String = text.chars().take(60).collect();
    format!("{beginning:?}")
}

impl Settings {
    /// Puts the layers on top of each other. Values are not looked at yet.
    pub(super) fn gather(sources: &Sources) -> Result<Self, ConfigError> {
        let upper = upper(sources);
        let (mut given, mut accounts) = (defaults(), Vec::new());
        if let Some(named) = upper.get(&Id::Config)
            && let [path] = named.texts.as_slice()
        {
            let file = file::read(Path::new(path), &named.place)?;
            given.extend(file.layer);
            accounts = file.accounts;
        }
        given.extend(upper);
        let warnings = strangers(&sources.env);
        Ok(Self {
            given,
            accounts,
            warnings,
        })
    }

    /// The same as if no file was named: this cannot fail.
    pub(super) fn without_file(sources: &Sources) -> Self {
        let mut given = defaults();
        given.extend(upper(sources));
        Self {
            given,
            accounts: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// All of it, to compare with another reading.
    pub(super) fn said(&self) -> Said {
        let said = |(id, given): (&Id, &Given)| (*id, given.texts.clone());
        Said(self.given.iter().map(said).collect())
    }

    /// What was given for `id`, or is its default.
    pub(super) fn given(&self, id: Id) -> Option<&Given> {
        self.given.get(&id)
    }

    /// Whether somebody set `id`.
    pub(super) fn is_set(&self, id: Id) -> bool {
        self.given(id)
            .is_some_and(|given| !matches!(given.place, Place::Default(_)))
    }

    /// An error about `id`, at the place where it was set.
    pub(super) fn error(&self, id: Id, problem: &str) -> ConfigError {
        let unset = || Place::Default(id.key().name);
        let place = self
            .given(id)
            .map_or_else(unset, |given| given.place.clone());
        ConfigError::new(place, problem)
    }
}

fn defaults() -> BTreeMap<Id, Given> {
    let mut layer = BTreeMap::new();
    for key in keys::keys() {
        if let Preset::Text(text) = key.preset {
            let texts = vec![text.to_owned()];
            let place = Place::Default(key.name);
            layer.insert(key.id, Given { key, texts, place });
        }
    }
    layer
}

/// The layers above the file.
fn upper(sources: &Sources) -> BTreeMap<Id, Given> {
    let mut upper = of_environment(&sources.env);
    upper.extend(of_flags(&sources.flags));
    upper
}

fn of_flags(flags: &[(Id, Vec<String>)]) -> BTreeMap<Id, Given> {
    let given = |(id, texts): &(Id, Vec<String>)| {
        let key = id.key();
        let texts = texts.clone();
        let place = Place::Flag(key.name);
        (*id, Given { key, texts, place })
    };
    flags.iter().map(given).collect()
}

/// An empty variable counts as unset.
fn of_environment(env: &[(String, String)]) -> BTreeMap<Id, Given> {
    let mut layer = BTreeMap::new();
    for key in keys::keys() {
        let variable = key.variable();
        let Some((_, text)) = env.iter().find(|(name, _)| *name == variable) else {
            continue;
        };
        let texts: Vec<String> = match key.kind {
            Kind::List => text.split(',').map(str::trim).map(str::to_owned).collect(),
            Kind::Value | Kind::Switch => vec![text.trim().to_owned()],
        };
        let texts: Vec<String> = texts.into_iter().filter(|text| !text.is_empty()).collect();
        if !texts.is_empty() {
            let place = Place::Variable(variable);
            layer.insert(key.id, Given { key, texts, place });
        }
    }
    layer
}

/// Warnings about variables that look like ours and are not.
fn strangers(env: &[(String, String)]) -> Vec<String> {
    let ours = |name: &str| keys::keys().iter().any(|key| key.variable() == name);
    let mut warnings: Vec<String> = env
        .iter()
        .filter_map(|(name, _)| Some((name, name.strip_prefix(PREFIX)?)))
        .filter(|(name, rest)| !is_service_link(rest) && !ours(name))
        .map(|(name, rest)| match keys::nearest(rest) {
            Some(key) => format!(
                "{name} is ignored: no key has this name; did you mean {}?",
                key.variable()
            ),
            None => format!("{name} is ignored: no key has this name"),
        })
        .collect();
    warnings.sort();
    warnings
}

/// Kubernetes tells every pod about every service by variables of these names.
fn is_service_link(rest: &str) -> bool {
    let rest = format!("_{rest}");
    rest.contains("_PORT") || rest.contains("_SERVICE_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_links_are_no_strangers() {
        let env = |name: &str| strangers(&[(format!("{PREFIX}{name}"), String::new())]);
        for silent in [
            "PORT",
            "SERVICE_HOST",
            "PORT_7080_TCP",
            "ADMIN_SERVICE_PORT_HTTP",
            "LISTEN",
        ] {
            assert_eq!(env(silent), Vec::<String>::new(), "{silent}");
        }
        let [warning] = &env("LISEN")[..] else {
            panic!()
        };
        assert!(
            warning.contains("did you mean WECHAT_SIDECAR_LISTEN?"),
            "{warning}"
        );
        assert_eq!(env("PURPOSE").len(), 1);
    }

    #[test]
    fn what_may_be_a_password_is_not_shown() {
        for text in ["https://a:b@c", "a:b@c", "x://y"] {
            assert_eq!(shown(text), THE_VALUE);
        }
        assert_eq!(shown("16M\n"), r#""16M\n""#);
        assert!(shown(&"x".repeat(1000)).len() < 70);
    }
}
