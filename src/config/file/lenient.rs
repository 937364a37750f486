//! Finds one key of a file, whatever else is wrong with the file.

use std::{fs, path::Path};

use toml::de::DeTable;

use super::{ConfigError, File, Id, Provenance, Raw, flat, unreadable};

/// Finds `admin` in the file at `path`, in spite of mistakes in other keys, lines that are not TOML, and comments in
/// another encoding. It is an error if the key may be there and cannot be read.
pub(in crate::config) fn admin(
    path: &Path,
    named_at: &Provenance,
) -> Result<Option<Raw>, ConfigError> {
    let bytes = fs::read(path).map_err(|error| unreadable(&error, named_at))?;
    let text = String::from_utf8_lossy(&bytes);
    let (given, mistake) = admin_in(path, &text)?;
    let Some(mistake) = mistake.filter(|_| given.is_none()) else {
        return Ok(given);
    };
    // A bracket or a quote that is never closed hides the lines after it.
    let before_tables = text.lines().take_while(|line| !line.starts_with('['));
    for (at, line) in before_tables.enumerate() {
        if line.trim_start().starts_with(Id::Admin.key().name) {
            // The line gets its number in the whole file.
            let text = "\n".repeat(at) + line;
            if let (Some(given), None) = admin_in(path, &text)? {
                return Ok(Some(given));
            }
        }
    }
    Err(mistake)
}

/// The value of `admin` as far as the text can be parsed, and the first line that is not TOML.
fn admin_in(path: &Path, text: &str) -> Result<(Option<Raw>, Option<ConfigError>), ConfigError> {
    let (key, file) = (Id::Admin.key(), File::new(path, text));
    let (table, errors) = DeTable::parse_recoverable(text);
    let found = flat(&file, table.get_ref(), "", &|name| name != key.name)?;
    let found = found.into_iter().find(|found| found.name == key.name);
    let given = found.map(|found| found.given(key)).transpose()?;
    Ok((given, errors.first().map(|error| file.not_toml(error))))
}
