//! Reads the TOML file: keys and tables of keys, each value with its line.

mod lenient;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{
    account_table::{self, Table},
    error::{ConfigError, Provenance},
    keys::{self, Id, Key, ValueKind},
    settings::Raw,
};
use crate::settings::suggest;
pub(super) use lenient::admin;

/// The contents of a file.
#[derive(Default)]
pub(super) struct Contents {
    /// The keys that are also flags.
    pub(super) layer: BTreeMap<Id, Raw>,
    /// The tables below `accounts`.
    pub(super) accounts: Vec<Table>,
}

/// The name of the array of account tables.
const ACCOUNTS: &str = "accounts";

/// Reads the file at `path`. The error shows no line of it, because a line may contain a secret.
pub(super) fn read(path: &Path, named_at: &Provenance) -> Result<Contents, ConfigError> {
    let text = fs::read_to_string(path).map_err(|error| unreadable(&error, named_at))?;
    let file = File::new(path, &text);
    let table = DeTable::parse(&text).map_err(|error| file.not_toml(&error))?;
    let mut contents = Contents::default();
    for (name, value) in table.get_ref() {
        if name.get_ref() == ACCOUNTS {
            let place = file.key(ACCOUNTS, name.span().start);
            contents.accounts = tables(&file, value.get_ref(), &place)?;
        }
    }
    no_misspelt_accounts(&file, table.get_ref())?;
    let others = flat(&file, table.get_ref(), "", &|name| name == ACCOUNTS)?;
    contents.layer = gather(others, find, |key| key.id)?;
    Ok(contents)
}

/// Refuses tables whose name is nearly that of the accounts.
fn no_misspelt_accounts(file: &File<'_>, table: &DeTable<'_>) -> Result<(), ConfigError> {
    for (name, value) in table {
        let (text, value) = (name.get_ref(), value.get_ref());
        let is_table = matches!(value, DeValue::Array(_) | DeValue::Table(_));
        let is_near = suggest::nearest(text, [ACCOUNTS].into_iter()).is_some();
        if is_table && is_near && *text != ACCOUNTS && keys::named(text).is_none() {
            let problem = suggest::did_you_mean(keys::UNKNOWN, "[[accounts]]");
            return Err(ConfigError::new(file.key(text, name.span().start), problem));
        }
    }
    Ok(())
}

fn unreadable(error: &io::Error, named_at: &Provenance) -> ConfigError {
    let problem = format!("the file cannot be read: {error}");
    ConfigError::new(named_at.clone(), problem)
}

/// The tables in an array of accounts.
fn tables(
    file: &File<'_>,
    value: &DeValue<'_>,
    place: &Provenance,
) -> Result<Vec<Table>, ConfigError> {
    let wrong = || {
        let problem = "accounts stand here as tables, each below a line [[accounts]]";
        ConfigError::new(place.clone(), problem)
    };
    let DeValue::Array(values) = value else {
        return Err(wrong());
    };
    let table = |value: &toml::Spanned<DeValue<'_>>| {
        let DeValue::Table(table) = value.get_ref() else {
            return Err(wrong());
        };
        let found = flat(file, table, "", &|_| false)?;
        Ok(Table {
            place: file.line(value.span().start),
            given: gather(found, account_table::find, |key| key.name)?,
        })
    };
    values.iter().map(table).collect()
}

/// A value, with its full name and its place.
struct Leaf<'a> {
    name: String,
    place: Provenance,
    value: &'a DeValue<'a>,
}

impl Leaf<'_> {
    /// Converts it to a value of `key`.
    fn given(self, key: &'static Key) -> Result<Raw, ConfigError> {
        let Self { place, value, .. } = self;
        match texts(key, value) {
            Ok(texts) => Ok(Raw { key, texts, place }),
            Err(problem) => Err(ConfigError::new(place, problem)),
        }
    }
}

/// All values in `table` and in the tables below it. `[x]` with `y` in it is the same as `x-y`, and with `url` in it
/// the same as `x`.
fn flat<'a>(
    file: &File<'_>,
    table: &'a DeTable<'a>,
    above: &str,
    is_left_out: &dyn Fn(&str) -> bool,
) -> Result<Vec<Leaf<'a>>, ConfigError> {
    let mut found = Vec::new();
    for (name, value) in table {
        let (name, at) = (name.get_ref(), name.span().start);
        let whole = match (above, &**name) {
            ("", name) => name.to_owned(),
            (above, "url") => above.to_owned(),
            (above, name) => format!("{above}-{name}"),
        };
        match value.get_ref() {
            _ if is_left_out(name) && above.is_empty() => {}
            DeValue::Table(inner) => found.extend(flat(file, inner, &whole, is_left_out)?),
            value => found.push(Leaf {
                place: file.key(&whole, at),
                name: whole,
                value,
            }),
        }
    }
    Ok(found)
}

/// The keys in `found`. Each may occur once.
fn gather<T: Ord>(
    found: Vec<Leaf<'_>>,
    find: impl Fn(&str, &Provenance) -> Result<&'static Key, ConfigError>,
    id: impl Fn(&'static Key) -> T,
) -> Result<BTreeMap<T, Raw>, ConfigError> {
    let mut layer = BTreeMap::new();
    for found in found {
        let key = find(&found.name, &found.place)?;
        let place = found.place.clone();
        let given = found.given(key)?;
        if layer.insert(id(key), given).is_some() {
            let problem = "the key stands here twice, in two spellings";
            return Err(ConfigError::new(place, problem));
        }
    }
    Ok(layer)
}

struct File<'a> {
    path: &'a Path,
    /// Where its lines end.
    line_ends: Vec<usize>,
}

impl<'a> File<'a> {
    fn new(path: &'a Path, text: &str) -> Self {
        let line_ends = text.match_indices('\n').map(|(at, _)| at).collect();
        Self { path, line_ends }
    }

    fn line_of(&self, at: usize) -> usize {
        self.line_ends.partition_point(|end| *end < at) + 1
    }

    fn line(&self, at: usize) -> Provenance {
        let path = PathBuf::from(self.path);
        let line = self.line_of(at);
        Provenance::Line { path, line }
    }

    fn not_toml(&self, error: &toml::de::Error) -> ConfigError {
        let at = error.span().map_or(0, |span| span.start);
        let problem = format!("the file is not TOML: {}", error.message());
        ConfigError::new(self.line(at), problem)
    }

    fn key(&self, name: &str, at: usize) -> Provenance {
        let path = PathBuf::from(self.path);
        let line = self.line_of(at);
        Provenance::File {
            key: name.escape_debug().to_string(),
            path,
            line,
        }
    }
}

fn find(name: &str, place: &Provenance) -> Result<&'static Key, ConfigError> {
    let wrong = |problem: String| Err(ConfigError::new(place.clone(), problem));
    match keys::named(name) {
        Some(key) if key.id == Id::Config => wrong("a file cannot name another file".to_owned()),
        Some(key) => Ok(key),
        None => wrong(match keys::nearest(name) {
            Some(key) => suggest::did_you_mean(keys::UNKNOWN, key.name),
            None if is_credential(name) => {
                "credentials stand below [[accounts]] as appid, and secret_file or secret; or come from the environment: WECHAT_APPID, and WECHAT_SECRET_FILE or WECHAT_SECRET".to_owned()
            }
            None => format!("{}; see wechat-sidecar --help", keys::UNKNOWN),
        }),
    }
}

fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["secret", "appid", "app-id", "app_id"]
        .iter()
        .any(|word| name.contains(word))
}

/// Converts a value to the texts that a flag would have. The error is a sentence without the value.
fn texts(key: &Key, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let expected = match key.kind {
        ValueKind::Value => "a string",
        ValueKind::List => "a string or an array of strings",
        ValueKind::Switch => "true or false",
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
        DeValue::Integer(digits) if key.kind == ValueKind::Value => Some(
            i64::from_str_radix(digits.as_str(), digits.radix())
                .ok()?
                .to_string(),
        ),
        DeValue::Boolean(on) if key.kind == ValueKind::Switch => Some(on.to_string()),
        _ => None,
    };
    match value {
        DeValue::Array(values) if key.kind == ValueKind::List => {
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

    fn reading(text: &str) -> Result<Contents, String> {
        let path = std::env::temp_dir().join(format!(
            "file-{}-{}.toml",
            std::process::id(),
            fastrand::u64(..)
        ));
        fs::write(&path, text).unwrap();
        let read = read(&path, &Provenance::Flag("config"));
        fs::remove_file(&path).unwrap();
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn values_come_as_texts_with_their_lines() {
        let file = "# hello\nlisten = ['127.0.0.1:1', 'unix:/x']\nworkers = 0x10\nunsafe_listen = true\nallow-host = 'a'";
        let layer = reading(file).unwrap().layer;
        assert_eq!(layer[&Id::Listen].texts, ["127.0.0.1:1", "unix:/x"]);
        assert_eq!(layer[&Id::Workers].texts, ["16"]);
        assert_eq!(layer[&Id::UnsafeListen].texts, ["true"]);
        assert_eq!(layer[&Id::AllowHost].texts, ["a"]);
        let Provenance::File { key, line, .. } = &layer[&Id::UnsafeListen].place else {
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
            (
                "[listen]\nx = 'HUNTER2'",
                "line 2: there is no such key; did you mean listen?",
            ),
            ("[listen]\nurl = 1", "listen in"),
            (
                "[replay]\nlimit = '1'\nlimits = 'HUNTER2'",
                "line 3: there is no such key; did you mean replay-limit?",
            ),
            ("replay-limit = '1'\n[replay]\nlimit = 'HUNTER2'", "twice"),
            ("accounts = 'HUNTER2'", "each below a line [[accounts]]"),
            (
                "[accounts]\nsecret = 'HUNTER2'",
                "each below a line [[accounts]]",
            ),
            (
                "[[account]]\nsecret = 'HUNTER2'",
                "line 1: there is no such key; did you mean [[accounts]]?",
            ),
            (
                "[acounts]\nsecret = 'HUNTER2'",
                "did you mean [[accounts]]?",
            ),
            ("accounts = ['HUNTER2']", "each below a line [[accounts]]"),
            (
                "[[accounts]]\nappsecret = 'HUNTER2'",
                "line 2: there is no such key; did you mean secret?",
            ),
            ("[[accounts]]\nsecret = [1]", "a string is expected here"),
            (
                "[[accounts]]\nsecret-file = 'a'\nsecret_file = 'HUNTER2'",
                "line 3: the key stands here twice",
            ),
            (
                "[[accounts]]\n[accounts.tokens]\nsource = 'HUNTER2'",
                "line 3: there is no such key; did you mean token.source?",
            ),
            ("listen = 'HUNTER2", "line 1: the file is not TOML"),
            ("\n\nupstream = HUNTER2", "line 3: the file is not TOML"),
            ("HUNTER2", "line 1: the file is not TOML"),
            (
                "upstream = 'a'\nupstream = 'HUNTER2'",
                "line 2: the file is not TOML",
            ),
            ("upstream.x = 'HUNTER2'", "there is no such key"),
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
