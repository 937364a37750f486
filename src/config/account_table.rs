//! The table of an account in the file, and its keys.

use std::{collections::BTreeMap, fmt::Display};

use super::{
    error::{ConfigError, Provenance},
    keys::{self, Key, list, switch, value},
    settings::Raw,
};
use crate::settings::suggest;

/// The table of an account in the file.
pub(super) struct Table {
    /// The line of its beginning.
    pub(super) place: Provenance,
    pub(super) given: BTreeMap<&'static str, Raw>,
}

/// The keys of the token source.
pub(super) const TOKEN_SOURCE: Key = value("token-source", "SOURCE").like("wechat").private();
pub(super) const TOKEN_FILE: Key = value("token-file", "FILE")
    .like("/run/token/access_token")
    .private();
pub(super) const TOKEN_URL: Key = value("token-url", "URL")
    .like("http://token.internal/wechat")
    .private();
pub(super) const TOKEN_HEADER_FILE: Key = value("token-header-file", "FILE")
    .like("/run/secrets/token-header")
    .private();
pub(super) const TOKEN_POINTER: Key = value("token-token-pointer", "POINTER")
    .like("/access_token")
    .private();
pub(super) const TOKEN_EXPIRES_POINTER: Key = value("token-expires-pointer", "POINTER")
    .like("/expires_in")
    .private();

/// What the keys of its token begin with in the store.
pub(super) const STORE_PREFIX: &str = "store-prefix";

/// The keys of the account's own upstream.
pub(super) const UPSTREAM: &str = "upstream";
pub(super) const UPSTREAM_CA_FILE: &str = "upstream-ca-file";
pub(super) const UPSTREAM_PLAIN_HTTP: &str = "upstream-plain-http";

/// All keys of such a table. No value is ever repeated, because any may be an AppSecret by mistake.
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
    list("pace", "PATTERN=RATE")
        .like("/cgi-bin/message/**=5000/min")
        .private(),
    list("listen", "ADDRESS").like("127.0.0.1:7090").private(),
    value("token-api", "API").like("stable").private(),
    TOKEN_SOURCE,
    TOKEN_FILE,
    TOKEN_URL,
    TOKEN_HEADER_FILE,
    TOKEN_POINTER,
    TOKEN_EXPIRES_POINTER,
    value("daily-fetches", "COUNT").like("500").private(),
    value(STORE_PREFIX, "TEXT").like("wa").private(),
    value(UPSTREAM, "URL")
        .like("https://qyapi.weixin.qq.com")
        .private(),
    value(UPSTREAM_CA_FILE, "FILE")
        .like("/etc/ssl/private-root.pem")
        .private(),
    switch(UPSTREAM_PLAIN_HTTP).private(),
];

/// WeCom's name for `appid`.
pub(super) const CORPID: &str = "corpid";

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
        // `url` in a table is the value of the table itself.
        "token" => TOKEN_URL.name,
        plain => plain,
    });
    found.ok_or_else(|| {
        let names = KEYS.iter().map(|key| key.name).chain([CORPID]);
        let plain = plain.to_ascii_lowercase();
        let near = suggest::nearest(&plain, names);
        let problem = match near.or(plain.contains("secret").then_some("secret")) {
            Some(name) => suggest::did_you_mean(keys::UNKNOWN, spelt(name)),
            None => {
                let names: Vec<String> = KEYS.iter().map(|key| spelt(key.name)).collect();
                format!("an account has no such key; it has {}", names.join(", "))
            }
        };
        ConfigError::new(place.clone(), problem)
    })
}

/// The name as one writes it in the file.
fn spelt(name: &str) -> String {
    match name.strip_prefix("token-") {
        Some(rest) if rest != "api" => format!("token.{}", rest.replace('-', "_")),
        _ => name.replace('-', "_"),
    }
}

impl Table {
    pub(super) fn text(&self, name: &str) -> Option<(&Raw, &str)> {
        let given = self.given.get(name)?;
        Some((given, given.texts.last()?.trim()))
    }

    pub(super) fn optional<T, E: Display>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError> {
        self.given
            .get(name)
            .map(|given| given.value(read))
            .transpose()
    }
}
