//! The accounts: of the file's tables, or the one of the environment.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use tokio::time::Duration;

use super::{
    Sources,
    account_table::{CORPID, STORE_PREFIX, Table},
    account_upstreams::AccountUpstreams,
    error::ConfigError,
    keys::Id,
    neighbours::Neighbours,
    network, secrets,
    settings::Settings,
    store, token_source,
};
use crate::{
    account::{self, Options, SourceOptions, pacing::PaceRule, rules::Pattern},
    net::connector::ConnectOptions,
    secret::{Secret, SecretSource, trim},
    settings::parse,
    token::source::wechat::TokenApi,
    wechat::{api::Api, endpoint},
};

/// The longest wait for a turn.
const LONGEST_PACE_WAIT: Duration = Duration::from_secs(60);

const KINDS: [(&str, Api); 2] = [("wechat", Api::Wechat), ("wecom", Api::Wecom)];
const APIS: [(&str, TokenApi); 2] = [("stable", TokenApi::Stable), ("classic", TokenApi::Classic)];

/// All accounts: those of `tables`, or that of the environment.
pub(super) fn accounts(
    settings: &Settings,
    tables: &[Table],
    given: &Sources,
    connect: &ConnectOptions,
    warnings: &mut Vec<String>,
) -> Result<Vec<Arc<Options>>, ConfigError> {
    let upstreams = AccountUpstreams::new(connect, &given.trust);
    let (mut accounts, mut before) = (Vec::new(), Neighbours::default());
    match tables.first() {
        None => {
            let (appid, secret) = secrets::account(given, warnings)?;
            let mut options = Options::new(appid, Some(secret));
            options.appid_place = Some(secrets::APPID.into());
            presets(&mut options, settings, None)?;
            accounts.push(options);
        }
        Some(first) => {
            if let Some(variable) = secrets::credential(given) {
                let problem = format!(
                    "{variable} is set as well: accounts stand in the file or in the environment, not in both"
                );
                return Err(ConfigError::new(first.place.clone(), problem));
            }
            for table in tables {
                let mut options = account(table, settings, connect, warnings)?;
                options.upstream = upstreams.of(table, options.api)?;
                check(table, &options, settings, &before)?;
                before.add(&options);
                accounts.push(options);
            }
        }
    }
    warnings.extend(unwise(settings, tables, &accounts));
    Ok(accounts.into_iter().map(Arc::new).collect())
}

/// What is allowed in a file of accounts, but unwise.
fn unwise(settings: &Settings, tables: &[Table], accounts: &[Options]) -> Vec<String> {
    let mut warnings = Vec::new();
    let says = |id, word| settings.text(id).is_some_and(|(_, text)| text == word);
    let is_wecoms = |account: &Options| account.api == Api::Wecom;
    if accounts.len() > 1 && accounts.iter().any(is_wecoms) && says(Id::TokenEndpoint, "real") {
        let warning = "with --token-endpoint real a token of WeCom's does not say whose a call is: with several \
            accounts each call for one of WeCom has to, by X-Wechat-Appid, its path or its listener";
        warnings.push(warning.to_owned());
    }
    warnings.extend(unknown_rules(accounts));
    let has_secret = |table: &Table| table.given.contains_key("secret");
    if let Some((given, path)) = settings.text(Id::Config)
        && tables.iter().any(has_secret)
        && secrets::is_open_to_all(Path::new(path))
    {
        let place = &given.place;
        warnings.push(format!(
            "{place}: {}, which has an AppSecret in it; chmod 600 it",
            secrets::OPEN_TO_ALL
        ));
    }
    warnings
}

/// Warnings about rules that match no documented path of any account that they are for.
fn unknown_rules(accounts: &[Options]) -> Vec<String> {
    let mut found: Vec<(&'static str, &Pattern, bool)> = Vec::new();
    let (mut places, mut asked) = (HashMap::new(), HashSet::new());
    for account in accounts {
        let rules = &account.rules;
        let allow = rules.allow.iter().map(|pattern| ("allow", pattern));
        let deny = rules.deny.iter().map(|pattern| ("deny", pattern));
        let pace = account.pacing.rules.iter();
        let pace = pace.map(|rule| ("pace", &rule.pattern));
        for (key, pattern) in allow.chain(deny).chain(pace) {
            // Most accounts have the same rules, so each is looked up once for each API.
            let place = *places.entry((key, pattern)).or_insert_with(|| {
                found.push((key, pattern, false));
                found.len() - 1
            });
            if asked.insert((place, account.api)) {
                found[place].2 |= pattern.is_known(account.api);
            }
        }
    }
    let unknown = found.iter().filter(|(_, _, known)| !known);
    unknown
        .map(|(key, pattern, _)| {
            format!("{key} = {pattern:?} matches no documented path: is it misspelt?")
        })
        .collect()
}

/// What an account has by the keys at the top of the file, the flags and the environment, unless its
/// own table says otherwise. What these forbid, and allow, is added to its own.
fn presets(
    options: &mut Options,
    settings: &Settings,
    own: Option<&Table>,
) -> Result<(), ConfigError> {
    let own = |name| own.and_then(|table| table.given.get(name));
    options.token_api = match (options.api, own("token-api")) {
        (Api::Wecom, Some(given)) => {
            return Err(given.error("WeCom has one token API: drop this key"));
        }
        (Api::Wecom, None) => TokenApi::Stable,
        (Api::Wechat, Some(given)) => given.value(parse::one_of(&APIS))?,
        (Api::Wechat, None) => settings.value(Id::TokenApi, parse::one_of(&APIS))?,
    };
    let ceiling = match own("daily-fetches") {
        Some(given) => Some(given.value(parse::count(100_000))?),
        None => settings.optional(Id::DailyFetches, parse::count(100_000))?,
    };
    options.daily_fetches = ceiling.unwrap_or(match options.token_api {
        TokenApi::Stable => 500,
        TokenApi::Classic => 200,
    });
    let rules = &mut options.rules;
    rules.allow = settings.list(Id::Allow, allowed)?;
    rules.deny = settings.list(Id::Deny, Pattern::parse)?;
    if let Some(given) = own("allow") {
        rules.allow.extend(given.list(allowed)?);
    }
    if let Some(given) = own("deny") {
        rules.deny.extend(given.list(Pattern::parse)?);
    }
    options.pacing.wait = settings.value(Id::PaceWait, pace_wait)?;
    let pace = &mut options.pacing.rules;
    if let Some(given) = own("pace") {
        pace.extend(given.list(PaceRule::parse)?);
    }
    pace.extend(settings.list(Id::Pace, PaceRule::parse)?);
    Ok(())
}

/// An app that waits longer has probably given up.
fn pace_wait(text: &str) -> Result<Duration, String> {
    let wait = parse::pause(text).map_err(|problem| problem.to_string())?;
    match wait <= LONGEST_PACE_WAIT {
        true => Ok(wait),
        false => Err("is longer than a minute".to_owned()),
    }
}

/// What hurts the account is nothing to allow alone.
fn allowed(text: &str) -> Result<Pattern, &'static str> {
    let pattern = Pattern::parse(text)?;
    if pattern.is_preset() {
        return Err("is a preset, which is for deny");
    }
    Ok(pattern)
}

fn account(
    table: &Table,
    settings: &Settings,
    connect: &ConnectOptions,
    warnings: &mut Vec<String>,
) -> Result<Options, ConfigError> {
    let kind = table
        .optional("kind", parse::one_of(&KINDS))?
        .unwrap_or_default();
    let appid = table.optional("appid", |text| {
        account::check_appid(text).map(|()| text.to_owned())
    })?;
    let appid = appid.ok_or_else(|| {
        let word = match kind {
            Api::Wechat => "appid",
            Api::Wecom => CORPID,
        };
        ConfigError::new(table.place.clone(), format!("this account has no {word}"))
    })?;
    let source = token_source::source(table, &connect.tls, warnings)?;
    let mut options = Options::new(appid, secret(table, kind, &source, warnings)?);
    let place = table.given.get("appid").map(|given| &given.place);
    options.appid_place = place.map(|place| place.without_line().into());
    options.api = kind;
    options.source = source;
    options.name = table.optional("name", name)?;
    options.default = table.optional("default", parse::switch)?.unwrap_or(false);
    options.listen = match table.given.get("listen") {
        Some(given) => given.list(network::address)?,
        None => Vec::new(),
    };
    options.store_prefix = store_prefix(table, settings)?;
    presets(&mut options, settings, Some(table))?;
    Ok(options)
}

fn store_prefix(table: &Table, settings: &Settings) -> Result<Option<String>, ConfigError> {
    match table.given.get(STORE_PREFIX) {
        Some(given) if !settings.is_set(Id::Store) => {
            Err(given.error("there is no --store that it could be for"))
        }
        Some(given) => given.value(store::prefix).map(Some),
        None => Ok(None),
    }
}

/// The secret: one, as text or in a file; where tokens come from elsewhere it may be missing.
fn secret(
    table: &Table,
    api: Api,
    source: &SourceOptions,
    warnings: &mut Vec<String>,
) -> Result<Option<Arc<SecretSource>>, ConfigError> {
    let (given, secret) = match (table.text("secret"), table.text("secret-file")) {
        (Some((given, text)), None) => match trim(text) {
            "" => return Err(given.error("the AppSecret is empty")),
            text => {
                let secret = SecretSource::fixed(Secret::new(text));
                let secret = secret.given_by(given.place.without_line());
                (given, Arc::new(secret))
            }
        },
        (None, Some((given, path))) => (given, secrets::open(path, &given.place, warnings)?),
        (Some(_), Some((given, _))) => {
            return Err(given.error("this account has secret as well: keep one of them"));
        }
        (None, None) => match source {
            SourceOptions::Wechat => {
                let problem = "this account has no AppSecret: name a file that holds it as secret_file, or set secret";
                return Err(ConfigError::new(table.place.clone(), problem));
            }
            SourceOptions::File(_) | SourceOptions::Http(_) => return Ok(None),
        },
    };
    warnings.extend(secrets::odd_look(api, &secret, &given.place));
    Ok(Some(secret))
}

/// A name that can be a segment of a path, and is none of WeChat's.
fn name(text: &str) -> Result<String, &'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let begins = text.starts_with(|first: char| first.is_ascii_alphanumeric());
    if text.len() > 64 || !begins || !text.bytes().all(plain) {
        return Err("is no name of at most 64 letters, digits, hyphens, underscores and dots");
    }
    if endpoint::is_top_level(text) {
        return Err("is the beginning of paths of WeChat's: choose another name");
    }
    Ok(text.to_owned())
}

/// Whether an account can stand beside those `before` it.
fn check(
    table: &Table,
    options: &Options,
    settings: &Settings,
    before: &Neighbours,
) -> Result<(), ConfigError> {
    if let Err((name, problem)) = before.check(options) {
        let given = table.given.get(name);
        let place = given.map_or(&table.place, |given| &given.place);
        return Err(ConfigError::new(place.clone(), problem));
    }
    match table.given.get("listen") {
        Some(given) => network::check_also(settings, given, &options.listen, &before.addresses),
        None => Ok(()),
    }
}
