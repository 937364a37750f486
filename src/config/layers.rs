//! Gathers the layers: flags above the environment, above the file, above the defaults. Each value has its place.

use std::{collections::BTreeMap, fmt, path::Path};

use super::{
    Sources,
    account_table::Table,
    error::{ConfigError, Provenance},
    file,
    keys::{self, DefaultValue, Id, Key, PREFIX, ValueKind},
    settings::{Raw, Settings},
};
use crate::settings::{layers::Layers, suggest};

/// All layers. No value is parsed yet.
pub(super) struct Gathered {
    pub(super) settings: Settings,
    /// The accounts of the file.
    pub(super) accounts: Vec<Table>,
    /// Warnings about variables that are ignored.
    pub(super) warnings: Vec<String>,
}

/// The texts of all keys, except for accounts.
#[derive(Clone)]
pub(super) struct Reading(BTreeMap<Id, Vec<String>>);

/// The keys that an account may override. A change of these takes effect at once.
const OF_ACCOUNTS: [Id; 6] = [
    Id::TokenApi,
    Id::DailyFetches,
    Id::Allow,
    Id::Deny,
    Id::Pace,
    Id::PaceWait,
];

impl Reading {
    /// The texts of `settings`, to compare them with those of another configuration.
    pub(super) fn of(settings: &Settings) -> Self {
        let texts = |key: &Key| (key.id, settings.get(key.id).texts.clone());
        Self(keys::keys().iter().map(texts).collect())
    }

    /// The names of the keys that are not as they are by default, except for the file's.
    pub(super) fn unusual(&self) -> Vec<&'static str> {
        let texts = |key: &Key| match key.default {
            DefaultValue::Text(text) => vec![text.to_owned()],
            DefaultValue::Unset | DefaultValue::Depends(_) => Vec::new(),
        };
        let keys = keys::keys().iter().filter(|key| key.id != Id::Config);
        let is_off = |texts: &[String]| matches!(texts, [text] if text == "false");
        let unusual = keys.filter(|key| {
            let read = self.0.get(&key.id).map(Vec::as_slice).unwrap_or_default();
            read != texts(key) && !(key.kind == ValueKind::Switch && is_off(read))
        });
        unusual.map(|key| key.name).collect()
    }

    /// The path that the key `id` holds.
    pub(super) fn path(&self, id: Id) -> Option<&Path> {
        self.0.get(&id)?.last().map(Path::new)
    }

    pub(super) fn fixed_differences(&self, other: &Self) -> Vec<&'static str> {
        let fixed = keys::keys()
            .iter()
            .filter(|key| !OF_ACCOUNTS.contains(&key.id));
        let other = fixed.filter(|key| self.0.get(&key.id) != other.0.get(&key.id));
        other.map(|key| key.name).collect()
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").finish_non_exhaustive()
    }
}

/// Gathers all layers. No value is parsed yet.
pub(super) fn gather(sources: &Sources) -> Result<Gathered, ConfigError> {
    let upper = upper(sources);
    let (mut settings, mut accounts) = (defaults(), Vec::new());
    if let Some(named) = upper.get(&Id::Config)
        && let [path] = named.texts.as_slice()
    {
        let file = file::read(Path::new(path), &named.place)?;
        settings.lay(file.layer);
        accounts = file.accounts;
    }
    settings.lay(upper);
    Ok(Gathered {
        settings,
        accounts,
        warnings: strangers(&sources.env),
    })
}

/// Gathers all layers but the file. This cannot fail.
pub(super) fn without_file(sources: &Sources) -> Settings {
    let mut settings = defaults();
    settings.lay(upper(sources));
    settings
}

fn defaults() -> Settings {
    Layers::new(keys::keys().iter().map(|key| {
        let texts = match key.default {
            DefaultValue::Text(text) => vec![text.to_owned()],
            DefaultValue::Unset | DefaultValue::Depends(_) => Vec::new(),
        };
        let place = Provenance::Default(key.name);
        (key.id, Raw { key, texts, place })
    }))
}

/// The layers above the file.
fn upper(sources: &Sources) -> BTreeMap<Id, Raw> {
    let mut upper = of_environment(&sources.env);
    upper.extend(of_flags(&sources.flags));
    upper
}

fn of_flags(flags: &[(Id, Vec<String>)]) -> BTreeMap<Id, Raw> {
    let given = |(id, texts): &(Id, Vec<String>)| {
        let key = id.key();
        let texts = texts.clone();
        let place = Provenance::Flag(key.name);
        (*id, Raw { key, texts, place })
    };
    flags.iter().map(given).collect()
}

/// An empty variable counts as unset.
fn of_environment(env: &[(String, String)]) -> BTreeMap<Id, Raw> {
    let mut layer = BTreeMap::new();
    for key in keys::keys() {
        let variable = key.variable();
        let Some((_, text)) = env.iter().find(|(name, _)| *name == variable) else {
            continue;
        };
        let texts: Vec<String> = match key.kind {
            ValueKind::List => text.split(',').map(str::trim).map(str::to_owned).collect(),
            ValueKind::Value | ValueKind::Switch => vec![text.trim().to_owned()],
        };
        let texts: Vec<String> = texts.into_iter().filter(|text| !text.is_empty()).collect();
        if !texts.is_empty() {
            let place = Provenance::Variable(variable);
            layer.insert(key.id, Raw { key, texts, place });
        }
    }
    layer
}

/// Warnings about variables that begin like ours, and are not.
fn strangers(env: &[(String, String)]) -> Vec<String> {
    let ours = |name: &str| keys::keys().iter().any(|key| key.variable() == name);
    let mut warnings: Vec<String> = env
        .iter()
        .filter_map(|(name, _)| Some((name, name.strip_prefix(PREFIX)?)))
        .filter(|(name, rest)| !is_service_link(rest) && !ours(name))
        .map(|(name, rest)| {
            let problem = format!("{name} is ignored: no key has this name");
            match keys::nearest(rest) {
                Some(key) => suggest::did_you_mean(problem, key.variable()),
                None => problem,
            }
        })
        .collect();
    warnings.sort();
    warnings
}

/// Kubernetes sets variables of such names for every service, in every pod.
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
}
