//! The store in which replicas share tokens.

use std::{path::Path, sync::Arc};

use super::{error::ConfigError, keys::Id, secrets, settings::Settings};
use crate::{
    account,
    net::{origin, tls::TrustFiles},
    token::source::redis::{Credentials, Format, Options},
};

/// The warning about `redis://`.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    tls: bool,
    host: String,
    port: u16,
    database: i64,
}

const FORMATS: [(&str, Format); 3] = [
    ("own", Format::Own),
    ("wxjava", Format::Wxjava),
    ("wechatpy", Format::Wechatpy),
];

const WANT_STORE: [Id; 5] = [
    Id::StorePasswordFile,
    Id::StoreAuthFile,
    Id::StoreCaFile,
    Id::StoreFormat,
    Id::StorePrefix,
];

/// The options of the store, if there is one.
pub(super) fn store(
    settings: &Settings,
    trust: &TrustFiles,
    warnings: &mut Vec<String>,
) -> Result<Option<Options>, ConfigError> {
    let format = settings.choice(Id::StoreFormat, &FORMATS)?;
    let prefix = settings.optional(Id::StorePrefix, prefix)?;
    let Some(url) = settings.optional(Id::Store, parse)? else {
        return match WANT_STORE.into_iter().find(|id| settings.is_set(*id)) {
            Some(id) => Err(settings.error(id, "there is no --store that it could be for")),
            None => Ok(None),
        };
    };
    if !url.tls && settings.is_set(Id::StoreCaFile) {
        let problem = "the --store is not spoken to over TLS: that takes rediss://";
        return Err(settings.error(Id::StoreCaFile, problem));
    }
    if !url.tls && !origin::is_loopback(&url.host) {
        warnings.push(CLEAR.to_owned());
    }
    let extra = settings.text(Id::StoreCaFile).map(|(_, path)| path);
    let tls = match url.tls {
        true => {
            let tls = trust.load(extra.map(Path::new), Id::StoreCaFile.key().name);
            Some(tls.map_err(|problem| settings.error(Id::StoreCaFile, &problem.to_string()))?)
        }
        false => None,
    };
    Ok(Some(Options {
        host: url.host,
        port: url.port,
        database: url.database,
        tls,
        credentials: credentials(settings, warnings)?,
        format,
        prefix,
    }))
}

fn credentials(
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> Result<Option<Credentials>, ConfigError> {
    let pair = secrets::secret(settings, Id::StorePasswordFile, warnings)?;
    let one = secrets::secret(settings, Id::StoreAuthFile, warnings)?;
    match (pair, one) {
        (Some(_), Some(_)) => {
            let problem = "store-password-file is set as well: keep one of them";
            Err(settings.error(Id::StoreAuthFile, problem))
        }
        (Some(pair), None) => Ok(Some(Credentials::UserAndPassword(pair))),
        (None, one) => Ok(one.map(Credentials::OneArgument)),
    }
}

/// Warnings about the store and these accounts.
pub(super) fn advise(
    store: Option<&Options>,
    accounts: &[Arc<account::Options>],
) -> Option<&'static str> {
    match store {
        None if accounts.iter().any(|one| one.fetch_revokes_others()) => Some(CLASSIC),
        Some(_) if !accounts.iter().any(|one| one.uses_store()) => Some(NEEDLESS),
        Some(_) | None => None,
    }
}

const CLASSIC: &str = "with --token-api classic each token request ends the token of everybody else: \
    replicas, and other programs that use this AppID, kick out each other's. Let replicas share \
    theirs by --store, run one sidecar, or use the stable API, which needs no store";

const NEEDLESS: &str = "--store holds tickets, but no account's token: with --token-api stable \
    WeChat itself gives all replicas the same one";

const CLEAR: &str = "--store is spoken to without TLS: whoever can read that network reads the \
    tokens; rediss:// is the way around";

fn parse(text: &str) -> Result<Url, &'static str> {
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let (tls, usual) = match scheme {
        "redis" => (false, 6379),
        "rediss" => (true, 6379),
        "redis-sentinel" | "rediss-sentinel" | "redis+sentinel" => {
            return Err("is for Sentinel, which is not supported: name a Redis itself");
        }
        _ => return Err("is not a redis:// or rediss:// URL"),
    };
    if text.contains('@') {
        let problem = "holds credentials: put them into a file, and name it by store-password-file";
        return Err(problem);
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let authority: http::uri::Authority = authority
        .parse()
        .map_err(|_| "holds no host that makes sense")?;
    let port = match authority.as_str().rsplit_once(':') {
        Some((_, digits)) if !digits.ends_with(']') => {
            digits.parse().map_err(|_| "holds a port that is none")?
        }
        _ => usual,
    };
    let host = authority.host().trim_matches(['[', ']']);
    if host.is_empty() {
        return Err("holds no host");
    }
    let database = match path {
        "" => 0,
        path => path
            .parse::<u16>()
            .map_err(|_| "may end in the number of a database, and in nothing else")?
            .into(),
    };
    Ok(Url {
        tls,
        host: host.to_owned(),
        port,
        database,
    })
}

/// What keys begin with.
pub(super) fn prefix(text: &str) -> Result<String, &'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/".contains(&b);
    if text.is_empty() || text.len() > 100 || !text.bytes().all(plain) {
        return Err("is not what a key can begin with");
    }
    Ok(text.trim_end_matches(':').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_maybe_a_port_and_a_database() {
        for (text, tls, host, port, database) in [
            ("redis://localhost", false, "localhost", 6379, 0),
            ("rediss://r.internal:6380/3", true, "r.internal", 6380, 3),
            ("redis://[::1]:7000/", false, "::1", 7000, 0),
            ("redis://[::1]", false, "::1", 6379, 0),
        ] {
            let host = host.to_owned();
            let url = Url {
                tls,
                host,
                port,
                database,
            };
            assert_eq!(parse(text), Ok(url), "{text}");
        }
    }

    #[test]
    fn what_is_no_such_url_is_refused_without_being_repeated() {
        for text in [
            "",
            "HUNTER2",
            "http://HUNTER2",
            "redis://",
            "redis://:HUNTER2@host",
            "redis://user:HUNTER2@host/0",
            "redis://host:HUNTER2",
            "redis://host/HUNTER2",
            "redis://host:6379?password=HUNTER2",
            "redis-sentinel://HUNTER2",
        ] {
            let error = parse(text).unwrap_err();
            assert!(!error.contains("HUNTER2"), "{error}");
        }
        let error = parse("redis://user:pw@host").unwrap_err();
        assert!(error.contains("store-password-file"), "{error}");
    }

    #[test]
    fn a_prefix_is_plain() {
        assert_eq!(prefix("team:wx:"), Ok("team:wx".to_owned()));
        for text in ["", "!", "a b", "a{b}", "ä"] {
            assert!(prefix(text).is_err(), "{text}");
        }
    }
}
