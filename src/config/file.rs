//! The TOML file: a flat table of keys, each remembered with its line.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{
    error::{ConfigError, Place},
    keys::{self, Id, Key, Kind},
    layers::Given,
};

/// What the file at `path` says. The error shows no line of it: a line may hold a secret.
pub(super) fn read(path: &Path, named_at: &Place) -> Result<BTreeMap<Id, Given>, ConfigError> {
    let text = fs::read_to_string(path).map_err(|error| {
        ConfigError::new(
            named_at.clone(),
            format!("the file cannot be read: {error}"),
        )
    })?;
    let file = File { path, text: &text };
    let table = DeTable::parse(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        ConfigError::new(
            file.line(at),
            format!("the file is not TOML: {}", error.message()),
        )
    })?;
    let mut layer = BTreeMap::new();
    for (name, value) in table.get_ref() {
        let place = file.key(name.get_ref(), name.span().start);
        let key = find(name.get_ref(), &place)?;
        let texts = texts(key, value.get_ref())
            .map_err(|problem| ConfigError::new(place.clone(), problem))?;
        if layer
            .insert(
                key.id,
                Given {
                    key,
                    texts,
                    place: place.clone(),
                },
            )
            .is_some()
        {
            return Err(ConfigError::new(
                place,
                "the key stands here twice, with hyphens and with underscores",
            ));
        }
    }
    Ok(layer)
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn line_of(&self, at: usize) -> usize {
        let before = self.text.as_bytes().iter().take(at);
        before.filter(|byte| **byte == b'\n').count() + 1
    }

    fn line(&self, at: usize) -> Place {
        let path = PathBuf::from(self.path);
        let line = self.line_of(at);
        Place::Line { path, line }
    }

    fn key(&self, name: &str, at: usize) -> Place {
        let path = PathBuf::from(self.path);
        let line = self.line_of(at);
        Place::File {
            key: name.escape_debug().to_string(),
            path,
            line,
        }
    }
}

fn find(name: &str, place: &Place) -> Result<&'static Key, ConfigError> {
    let wrong = |problem: String| Err(ConfigError::new(place.clone(), problem));
    match keys::named(name) {
        Some(key) if key.id == Id::Config => wrong("a file cannot name another file".to_owned()),
        Some(key) => Ok(key),
        None => wrong(match keys::nearest(name) {
            Some(key) => format!("there is no such key; did you mean {}?", key.name),
            None if is_credential(name) => {
                "credentials come from the environment: WECHAT_APPID, and WECHAT_SECRET_FILE or WECHAT_SECRET".to_owned()
            }
            None => "there is no such key; see wechat-sidecar --help".to_owned(),
        }),
    }
}

fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["secret", "appid", "app-id", "app_id"]
        .iter()
        .any(|word| name.contains(word))
}

/// A value as the texts that a flag would have. The error is a sentence without the value.
fn texts(key: &Key, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let expected = match key.kind {
        Kind::Value => "a string",
        Kind::List => "a string or an array of strings",
        Kind::Switch => "true or false",
    };
    let wrong = || {
        let found = value.type_str();
        format!(
            "{expected} is expected here, not a value of type {found}; for example \"{}\"",
            key.example
        )
    };
    let text = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(digits) if key.kind == Kind::Value => Some(
            i64::from_str_radix(digits.as_str(), digits.radix())
                .ok()?
                .to_string(),
        ),
        DeValue::Boolean(on) if key.kind == Kind::Switch => Some(on.to_string()),
        _ => None,
    };
    match value {
        DeValue::Array(values) if key.kind == Kind::List => {
            let texts = values
                .iter()
                .map(|value| text(value.get_ref()))
                .collect::<Option<_>>();
            texts.ok_or_else(wrong)
        }
        value => Ok(vec![text(value).ok_or_else(wrong)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(text: &str) -> Result<BTreeMap<Id, Given>, String> {
        let path = std::env::temp_dir().join(format!(
            "file-{}-{}.toml",
            std::process::id(),
            fastrand::u64(..)
        ));
        fs::write(&path, text).unwrap();
        let read = read(&path, &Place::Flag("config"));
        fs::remove_file(&path).unwrap();
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn values_come_as_texts_with_their_lines() {
        let file = "# hello\nlisten = ['127.0.0.1:1', 'unix:/x']\nworkers = 0x10\nunsafe_listen = true\nallow-host = 'a'";
        let layer = reading(file).unwrap();
        assert_eq!(layer[&Id::Listen].texts, ["127.0.0.1:1", "unix:/x"]);
        assert_eq!(layer[&Id::Workers].texts, ["16"]);
        assert_eq!(layer[&Id::UnsafeListen].texts, ["true"]);
        assert_eq!(layer[&Id::AllowHost].texts, ["a"]);
        let Place::File { key, line, .. } = &layer[&Id::UnsafeListen].place else {
            panic!()
        };
        assert_eq!((key.as_str(), *line), ("unsafe_listen", 4));
    }

    #[test]
    fn mistakes_are_named_with_their_line_and_without_the_value() {
        for (file, says) in [
            ("a=1\n", "a in"),
            (
                "\nlisen = 'HUNTER2'",
                "line 2: there is no such key; did you mean listen?",
            ),
            ("appsecret = 'HUNTER2'", "WECHAT_SECRET"),
            ("config = 'HUNTER2'", "cannot name another file"),
            ("replay-limit = '1'\nreplay_limit = 'HUNTER2'", "twice"),
            (
                "replay-limit = ['HUNTER2']",
                "a string is expected here, not a value of type array",
            ),
            ("replay-limit = 1.5", "not a value of type float"),
            ("unsafe-listen = 1", "true or false is expected"),
            ("listen = [1]", "array of strings"),
            ("[listen]\nx = 'HUNTER2'", "not a value of type table"),
            ("listen = 'HUNTER2", "line 1: the file is not TOML"),
            ("\n\nupstream = HUNTER2", "line 3: the file is not TOML"),
            ("HUNTER2", "line 1: the file is not TOML"),
            (
                "upstream = 'a'\nupstream = 'HUNTER2'",
                "line 2: the file is not TOML",
            ),
            ("upstream.HUNTER2 = 'HUNTER2'", "not a value of type table"),
            ("workers = 99999999999999999999", "a string is expected"),
        ] {
            let Err(error) = reading(file) else {
                panic!("{file}")
            };
            assert!(error.contains(says), "{file}: {error}");
            assert!(!error.contains("HUNTER2"), "{error}");
        }
    }
}
