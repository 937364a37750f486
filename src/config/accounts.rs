//! The accounts: of the file's tables, or the one of the environment.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{
    Sources,
    account_upstreams::{self, AccountUpstreams},
    error::{ConfigError, Provenance},
    keys::{Id, Key, list, switch, value},
    layers::{Raw, Settings},
    network, parse, secrets, token_source,
};
use crate::{
    account::{self, Options, SourceOptions, rules::Pattern},
    net::connector::ConnectOptions,
    secret::{Secret, SecretSource},
    settings::suggest,
    token::source::wechat::TokenApi,
    wechat::{api::Api, endpoint},
};

/// A table of the file that is an account.
pub(super) struct Table {
    /// Where it begins.
    pub(super) place: Provenance,
    pub(super) given: BTreeMap<&'static str, Raw>,
}

/// What stands in such a table. No value is ever repeated: an AppSecret may stand anywhere by mistake.
static KEYS: &[Key] = &[
    value("name", "NAME").like("orders").private(),
    value("appid", "APPID").like("wx0123456789abcdef").private(),
    value("secret", "SECRET").like("the AppSecret").private(),
    value("secret-file", "FILE")
        .like("/run/secrets/appsecret")
        .private(),
    value("kind", "KIND").like("wechat").private(),
    switch("default").private(),
    list("allow", "PATTERN")
        .like("/cgi-bin/message/**")
        .private(),
    list("deny", "PATTERN").like("/cgi-bin/menu/*").private(),
    list("listen", "ADDRESS").like("127.0.0.1:7090").private(),
    value("token-api", "API").like("stable").private(),
    token_source::SOURCE,
    token_source::FILE,
    token_source::URL,
    token_source::HEADER_FILE,
    token_source::TOKEN_POINTER,
    token_source::EXPIRES_POINTER,
    value("daily-fetches", "COUNT").like("500").private(),
    value(account_upstreams::UPSTREAM, "URL")
        .like("https://qyapi.weixin.qq.com")
        .private(),
    value(account_upstreams::CA_FILE, "FILE")
        .like("/etc/ssl/private-root.pem")
        .private(),
    switch(account_upstreams::PLAIN_HTTP).private(),
];

/// WeCom's word for `appid`.
const CORPID: &str = "corpid";

const KINDS: [(&str, Api); 2] = [("wechat", Api::Wechat), ("wecom", Api::Wecom)];
const APIS: [(&str, TokenApi); 2] = [("stable", TokenApi::Stable), ("classic", TokenApi::Classic)];

/// The keys of a table below `[[accounts]]`, as the documents write them.
pub fn keys() -> impl Iterator<Item = String> {
    let names = KEYS.iter().map(|key| key.name).chain([CORPID]);
    names.map(spelt)
}

/// The key called `name` in such a table.
pub(super) fn find(name: &str, place: &Provenance) -> Result<&'static Key, ConfigError> {
    let plain = name.replace('_', "-");
    let known = |name: &str| KEYS.iter().find(|key| key.name == name);
    let found = known(match &*plain {
        CORPID => "appid",
        // `url` below a table is the table's own value.
        "token" => token_source::URL.name,
        plain => plain,
    });
    found.ok_or_else(|| {
        let names = KEYS.iter().map(|key| key.name).chain([CORPID]);
        let plain = plain.to_ascii_lowercase();
        let near = suggest::nearest(&plain, names);
        let problem = match near.or(plain.contains("secret").then_some("secret")) {
            Some(name) => format!("there is no such key; did you mean {}?", spelt(name)),
            None => {
                let names: Vec<String> = KEYS.iter().map(|key| spelt(key.name)).collect();
                format!("an account has no such key; it has {}", names.join(", "))
            }
        };
        ConfigError::new(place.clone(), problem)
    })
}

/// As one would write it in the file.
fn spelt(name: &str) -> String {
    match name.strip_prefix("token-") {
        Some(rest) if rest != "api" => format!("token.{}", rest.replace('-', "_")),
        _ => name.replace('-', "_"),
    }
}

/// All accounts.
pub(super) fn accounts(
    settings: &Settings,
    given: &Sources,
    route: &ConnectOptions,
    warnings: &mut Vec<String>,
) -> Result<Vec<Options>, ConfigError> {
    let mut ways = AccountUpstreams::new(route);
    let mut accounts = Vec::new();
    match settings.accounts.first() {
        None => {
            let (appid, secret) = secrets::account(given, warnings)?;
            let mut options = Options::new(appid, Some(secret));
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
            for table in &settings.accounts {
                let mut options = account(table, settings, route, warnings)?;
                options.upstream = ways.of(table, options.api)?;
                check(table, &options, settings, &accounts)?;
                accounts.push(options);
            }
        }
    }
    warnings.extend(unwise(settings, &accounts));
    Ok(accounts)
}

/// What is allowed in a file of accounts, but unwise.
fn unwise(settings: &Settings, accounts: &[Options]) -> Vec<String> {
    let mut warnings = Vec::new();
    let says = |id, word| settings.text(id).is_some_and(|(_, text)| text == word);
    let is_wecoms = |account: &Options| account.api == Api::Wecom;
    if accounts.len() > 1 && accounts.iter().any(is_wecoms) && says(Id::TokenEndpoint, "real") {
        let warning = "with --token-endpoint real a token of WeCom's does not say whose a call is: with several \
            accounts each call for one of WeCom has to, by X-Wechat-Appid, its path or its listener";
        warnings.push(warning.to_owned());
    }
    let has_secret = |table: &Table| table.given.contains_key("secret");
    if let Some((given, path)) = settings.text(Id::Config)
        && settings.accounts.iter().any(has_secret)
        && secrets::is_open_to_all(Path::new(path))
    {
        let place = &given.place;
        warnings.push(format!(
            "{place}: everybody on this machine can read the file, which has an AppSecret in it; chmod 600 it"
        ));
    }
    warnings
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
    rules.deny = settings.list(Id::Deny, pattern)?;
    if let Some(given) = own("allow") {
        rules.allow.extend(given.list(allowed)?);
    }
    if let Some(given) = own("deny") {
        rules.deny.extend(given.list(pattern)?);
    }
    Ok(())
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::parse(text).map_err(str::to_owned)
}

/// What hurts the account is nothing to allow alone.
fn allowed(text: &str) -> Result<Pattern, String> {
    let pattern = pattern(text)?;
    if pattern.is_preset() {
        return Err("is a preset, which is for deny".to_owned());
    }
    Ok(pattern)
}

fn account(
    table: &Table,
    settings: &Settings,
    route: &ConnectOptions,
    warnings: &mut Vec<String>,
) -> Result<Options, ConfigError> {
    let kind = table
        .optional("kind", parse::one_of(&KINDS))?
        .unwrap_or_default();
    let appid = table.optional("appid", |text| {
        account::check_appid(text)
            .map(|()| text.to_owned())
            .map_err(str::to_owned)
    })?;
    let appid = appid.ok_or_else(|| {
        let word = match kind {
            Api::Wechat => "appid",
            Api::Wecom => CORPID,
        };
        ConfigError::new(table.place.clone(), format!("this account has no {word}"))
    })?;
    let source = token_source::source(table, &route.tls, warnings)?;
    let mut options = Options::new(appid, secret(table, &source, warnings)?);
    options.api = kind;
    options.source = source;
    options.name = table.optional("name", name)?;
    options.default = table.optional("default", parse::switch)?.unwrap_or(false);
    options.listen = match table.given.get("listen") {
        Some(given) => given.list(network::address)?,
        None => Vec::new(),
    };
    presets(&mut options, settings, Some(table))?;
    Ok(options)
}

/// The secret: one, as text or in a file; where tokens come from elsewhere it may be missing.
fn secret(
    table: &Table,
    source: &SourceOptions,
    warnings: &mut Vec<String>,
) -> Result<Option<Arc<SecretSource>>, ConfigError> {
    match (table.text("secret"), table.text("secret-file")) {
        (Some((given, "")), None) => Err(given.error("the AppSecret is empty")),
        (Some((_, text)), None) => Ok(Some(Arc::new(SecretSource::fixed(Secret::new(text))))),
        (None, Some((given, path))) => secrets::open(path, &given.place, warnings).map(Some),
        (Some(_), Some((given, _))) => {
            Err(given.error("this account has secret as well: keep one of them"))
        }
        (None, None) => match source {
            SourceOptions::Wechat => {
                let problem = "this account has no AppSecret: name a file that holds it as secret_file, or set secret";
                Err(ConfigError::new(table.place.clone(), problem))
            }
            SourceOptions::File(_) | SourceOptions::Http(_) => Ok(None),
        },
    }
}

/// A name that can be a segment of a path, and is none of WeChat's.
fn name(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let begins = text.starts_with(|first: char| first.is_ascii_alphanumeric());
    if text.len() > 64 || !begins || !text.bytes().all(plain) {
        return Err(
            "is no name of at most 64 letters, digits, hyphens, underscores and dots".to_owned(),
        );
    }
    if endpoint::is_top_level(text) {
        return Err("is the beginning of paths of WeChat's: choose another name".to_owned());
    }
    Ok(text.to_owned())
}

/// Whether an account can stand beside those `before` it.
fn check(
    table: &Table,
    options: &Options,
    settings: &Settings,
    before: &[Options],
) -> Result<(), ConfigError> {
    let wrong = |name: &str, problem: &str| {
        let place = table
            .given
            .get(name)
            .map_or(&table.place, |given| &given.place);
        Err(ConfigError::new(place.clone(), problem))
    };
    let same = |one: &str, two: &str| one.eq_ignore_ascii_case(two);
    for other in before {
        if let Some(name) = &options.name
            && other.name.as_deref().is_some_and(|other| same(other, name))
        {
            return wrong("name", "another account has this name");
        }
        let called = |one: &Options, two: &Options| {
            one.name
                .as_deref()
                .is_some_and(|name| same(name, &two.appid))
                && one.appid != two.appid
        };
        if called(options, other) || called(other, options) {
            return wrong("name", "the name of one account is the AppID of another");
        }
        if same(&other.appid, &options.appid) {
            if options.api == Api::Wechat || other.api == Api::Wechat {
                return wrong("appid", "another account has this AppID");
            }
            if options.name.is_none() || other.name.is_none() {
                return wrong(
                    "appid",
                    "another account has this corpid: give each of them a name",
                );
            }
        }
        if options.default && other.default {
            return wrong("default", "another account is the default already");
        }
    }
    let taken = before.iter().flat_map(|other| &other.listen);
    if let Some(given) = table.given.get("listen") {
        network::check_also(settings, given, &options.listen, &taken.collect::<Vec<_>>())?;
    }
    Ok(())
}

impl Table {
    pub(super) fn text(&self, name: &str) -> Option<(&Raw, &str)> {
        let given = self.given.get(name)?;
        Some((given, given.texts.last()?.trim()))
    }

    pub(super) fn optional<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        self.given
            .get(name)
            .map(|given| given.value(read))
            .transpose()
    }
}
