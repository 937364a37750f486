//! The token source of an account, as its table sets it: WeChat, a file, or a server.

use std::{path::PathBuf, sync::Arc};

use http::Uri;

use super::{
    account_table::{
        TOKEN_EXPIRES_POINTER, TOKEN_FILE, TOKEN_HEADER_FILE, TOKEN_POINTER, TOKEN_SOURCE,
        TOKEN_URL, Table,
    },
    error::ConfigError,
    keys::Key,
    secrets,
    settings::Raw,
};
use crate::{
    account::SourceOptions,
    net::tls::TlsRoots,
    secret::{Secret, SecretSource},
    settings::parse,
    token::source::{token_server as server, token_server::Options},
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum SourceKind {
    Wechat,
    File,
    Http,
}

const SOURCES: [(&str, SourceKind); 3] = [
    ("wechat", SourceKind::Wechat),
    ("file", SourceKind::File),
    ("http", SourceKind::Http),
];

/// The token source that `table` sets. Servers are trusted by `tls`.
pub(super) fn source(
    table: &Table,
    tls: &TlsRoots,
    warnings: &mut Vec<String>,
) -> Result<SourceOptions, ConfigError> {
    let word = table.optional(TOKEN_SOURCE.name, parse::one_of(&SOURCES))?;
    let word = word.unwrap_or(SourceKind::Wechat);
    for (key, wanted) in [
        (TOKEN_FILE, SourceKind::File),
        (TOKEN_URL, SourceKind::Http),
        (TOKEN_HEADER_FILE, SourceKind::Http),
        (TOKEN_POINTER, SourceKind::Http),
        (TOKEN_EXPIRES_POINTER, SourceKind::Http),
    ] {
        if let Some(given) = table.given.get(key.name).filter(|_| word != wanted) {
            let wanted = SOURCES.iter().find(|(_, word)| *word == wanted);
            let wanted = wanted.map_or("", |(name, _)| name);
            let problem = format!("it takes token.source = \"{wanted}\"");
            return Err(given.error(&problem));
        }
    }
    let missing = |what: &str| {
        let place = table.given.get(TOKEN_SOURCE.name).map(|given| &given.place);
        let place = place.unwrap_or(&table.place).clone();
        Err(ConfigError::new(
            place,
            format!("this account has no {what}"),
        ))
    };
    match word {
        SourceKind::Wechat => Ok(SourceOptions::Wechat),
        SourceKind::File => match table.optional(TOKEN_FILE.name, path)? {
            Some(path) => Ok(SourceOptions::File(path)),
            None => missing("token.file to take its token from"),
        },
        SourceKind::Http => match table.optional(TOKEN_URL.name, url)? {
            Some(url) => http(table, url, tls, warnings).map(SourceOptions::Http),
            None => missing("token.url to ask for its token"),
        },
    }
}

fn http(
    table: &Table,
    url: Secret,
    tls: &TlsRoots,
    warnings: &mut Vec<String>,
) -> Result<Options, ConfigError> {
    let header = match table.text(TOKEN_HEADER_FILE.name) {
        None => None,
        Some((given, path)) => Some(header(given, path, warnings)?),
    };
    let pointed = |key: Key| -> Result<String, ConfigError> {
        let pointer = table.optional(key.name, pointer)?;
        Ok(pointer.unwrap_or_else(|| key.example.to_owned()))
    };
    Ok(Options {
        url,
        header,
        token_pointer: pointed(TOKEN_POINTER)?,
        expires_pointer: pointed(TOKEN_EXPIRES_POINTER)?,
        tls: tls.clone(),
    })
}

fn header(
    given: &Raw,
    path: &str,
    warnings: &mut Vec<String>,
) -> Result<Arc<SecretSource>, ConfigError> {
    let file = secrets::open(path, &given.place, warnings)?;
    let wrong = |problem: &str| given.error(&format!("the file {problem}"));
    server::header(&file.held()).map_err(wrong)?;
    Ok(file)
}

fn path(text: &str) -> Result<PathBuf, &'static str> {
    if text.trim().is_empty() {
        return Err("is not a path");
    }
    Ok(PathBuf::from(text.trim()))
}

fn url(text: &str) -> Result<Secret, &'static str> {
    let text = text.trim();
    let url: Uri = text.parse().map_err(|_| "is not a URL")?;
    let scheme = matches!(url.scheme_str(), Some("http" | "https"));
    if !scheme || url.host().is_none_or(str::is_empty) {
        return Err("is not a URL that begins with http:// or https://");
    }
    if url
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err("has a user and password: put an Authorization line into token.header_file");
    }
    Ok(Secret::new(text))
}

/// A JSON pointer (RFC 6901).
fn pointer(text: &str) -> Result<String, &'static str> {
    let escapes = text.split('~').skip(1);
    let escaped = |mut escapes: std::iter::Skip<std::str::Split<'_, char>>| {
        escapes.all(|rest| rest.starts_with(['0', '1']))
    };
    if !(text.is_empty() || text.starts_with('/')) || !escaped(escapes) {
        return Err("is not a JSON pointer (RFC 6901)");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_http_or_https_and_has_no_password() {
        for good in ["http://h", "https://h:8443/x?key=1", "http://[::1]:1/"] {
            assert!(url(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "h",
            "/x",
            "ftp://h",
            "http://",
            "http://u:HUNTER2@h",
            "file:///x",
        ] {
            let error = url(bad).err().unwrap();
            assert!(!error.contains("HUNTER2"), "{error}");
        }
    }

    #[test]
    fn a_pointer_is_empty_or_begins_with_a_slash() {
        for good in ["", "/", "/a", "/a/0/b~1c~0"] {
            assert!(pointer(good).is_ok(), "{good}");
        }
        for bad in ["a", "$.a", "/a~", "/a~2"] {
            assert!(pointer(bad).is_err(), "{bad}");
        }
    }
}
