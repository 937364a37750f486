//! Every key, once: its flag, its environment variable, its place in the file and its help.

use crate::settings::suggest;

/// How a key is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// Once.
    Value,
    /// As a repeated flag, comma separated in the environment, or an array in the file.
    List,
    /// As a flag alone, or as true or false.
    Switch,
}

/// What a key is when nobody sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// Nothing.
    Unset,
    /// This text, read like any other.
    Text(&'static str),
    /// Something that depends: this is how the help calls it.
    Depends(&'static str),
}

/// Something that can be configured.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// What the code calls it.
    pub id: Id,
    /// In the file, and after `--` as a flag.
    pub name: &'static str,
    /// How it is given.
    pub kind: ValueKind,
    /// What the help shows instead of a value; empty for switches.
    pub placeholder: &'static str,
    /// Its value when nobody sets it.
    pub default: DefaultValue,
    /// A value that is right.
    pub example: &'static str,
    /// Whether its value may hold a password by mistake, and so is never repeated.
    pub private: bool,
    /// The heading above it in the help.
    pub section: &'static str,
    /// What it is for.
    pub help: &'static str,
}

impl Key {
    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!(
            "{PREFIX}{}",
            self.name.to_ascii_uppercase().replace('-', "_")
        )
    }

    /// Its default as the help shows it; empty when there is none.
    pub fn default_text(&self) -> &'static str {
        match self.default {
            DefaultValue::Unset => "",
            DefaultValue::Text(text) | DefaultValue::Depends(text) => text,
        }
    }

    const fn by_default(mut self, text: &'static str) -> Self {
        self.default = DefaultValue::Text(text);
        self.example = text;
        self
    }

    const fn depending(mut self, description: &'static str) -> Self {
        self.default = DefaultValue::Depends(description);
        self
    }

    pub(super) const fn like(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }

    pub(super) const fn private(mut self) -> Self {
        self.private = true;
        self
    }

    const fn described(mut self, id: Id, section: &'static str, help: &'static str) -> Self {
        self.id = id;
        self.section = section;
        self.help = help;
        self
    }
}

const fn key(name: &'static str, kind: ValueKind, placeholder: &'static str) -> Key {
    Key {
        id: Id::Config,
        name,
        kind,
        placeholder,
        default: DefaultValue::Unset,
        example: "",
        private: false,
        section: "",
        help: "",
    }
}

pub(super) const fn value(name: &'static str, placeholder: &'static str) -> Key {
    key(name, ValueKind::Value, placeholder)
}

pub(super) const fn list(name: &'static str, placeholder: &'static str) -> Key {
    key(name, ValueKind::List, placeholder)
}

pub(super) const fn switch(name: &'static str) -> Key {
    key(name, ValueKind::Switch, "").like("true")
}

/// What environment variables of keys begin with.
pub const PREFIX: &str = "WECHAT_SIDECAR_";

/// What is wrong with the name of a key that there is not.
pub(super) const UNKNOWN: &str = "there is no such key";

/// All keys, in the order of the help.
pub fn keys() -> &'static [Key] {
    KEYS
}

/// The key called `name`, with hyphens or underscores.
pub(super) fn named(name: &str) -> Option<&'static Key> {
    let name = name.replace('_', "-");
    KEYS.iter().find(|key| key.name == name)
}

/// The key that `name` may be a misspelling of.
pub(super) fn nearest(name: &str) -> Option<&'static Key> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    named(suggest::nearest(&name, KEYS.iter().map(|key| key.name))?)
}

impl Id {
    /// The key itself.
    pub fn key(self) -> &'static Key {
        &KEYS[self as usize]
    }
}

/// The doc comments are the help.
macro_rules! keys {
    ($($section:literal { $($(#[doc = $help:literal])+ $id:ident = $key:expr;)+ })+) => {
        /// What the code calls a key.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Id { $($($(#[doc = $help])+ $id),+),+ }

        static KEYS: &[Key] = &[$($(
            $key.described(Id::$id, $section, concat!($($help),+).trim_ascii())
        ),+),+];
    };
}

keys! {
    "Where apps connect" {
        /// Where to listen: IP:port, localhost:port or unix:/path; repeatable
        Listen = list("listen", "ADDRESS").by_default("127.0.0.1:7080");
        /// Listen beyond this machine; also takes --caller-key-file or --no-caller-key
        UnsafeListen = switch("unsafe-listen");
        /// A file with the key that callers must show as X-Wechat-Sidecar-Key
        CallerKeyFile = value("caller-key-file", "FILE").like("/run/secrets/caller-key").private();
        /// Ask callers for no key, though others than this machine's can reach the port
        NoCallerKey = switch("no-caller-key");
        /// A host name that apps may call the sidecar by, beside loopback ones and WeChat's; repeatable
        AllowHost = list("allow-host", "HOST").like("wechat.internal");
        /// Accept calls that came through another proxy (X-Forwarded-For, Forwarded)
        AllowForwarded = switch("allow-forwarded");
        /// Where health, metrics and status are: IP:port
        Admin = value("admin", "ADDRESS").by_default("127.0.0.1:7081");
        /// Let "wechat-sidecar shutdown" and POST /shutdown stop the sidecar
        EnableShutdown = switch("enable-shutdown");
    }
    "The way to WeChat" {
        /// WeChat's base URL; plain http to a loopback address only
        Upstream = value("upstream", "URL").by_default("https://api.weixin.qq.com").private();
        /// A PEM file with a root certificate to trust beside the platform's
        UpstreamCa = value("upstream-ca", "FILE").like("/etc/ssl/private-root.pem");
        /// WeChat's address, instead of asking DNS
        UpstreamAddress = value("upstream-address", "IP").like("203.0.113.7");
        /// A forward proxy with a fixed IP, for WeChat's whitelist: http://… or socks5://…
        EgressProxy = value("egress-proxy", "URL").like("http://proxy.internal:3128").private();
        /// A file with user:password for the egress proxy
        EgressProxyCredentialsFile = value("egress-proxy-credentials-file", "FILE")
            .like("/run/secrets/egress-proxy").private();
        /// Look the names of WeChat's hosts up past /etc/hosts
        SkipHostsFile = switch("skip-hosts-file");
        /// How long one address may take to connect, TLS included
        ConnectTimeout = value("connect-timeout", "DURATION").by_default("3s");
        /// How long WeChat may take until the head of its reply
        UpstreamTimeout = value("upstream-timeout", "DURATION").by_default("30s");
        /// How long a body may pause, either way
        IdleTimeout = value("idle-timeout", "DURATION").by_default("60s");
    }
    "Tokens and calls" {
        /// Which of WeChat's two tokens to use: stable or classic
        TokenApi = value("token-api", "API").by_default("stable");
        /// What the app's own token requests get: placeholder, real or off
        TokenEndpoint = value("token-endpoint", "ANSWER").by_default("placeholder");
        /// Token fetches a day above which refusals cause none
        DailyFetches = value("daily-fetches", "COUNT").depending("500, or 200 with classic").like("500");
        /// Pass calls for jsapi and card tickets on to WeChat, instead of answering them from a cache
        NoTicketCache = switch("no-ticket-cache");
        /// Let calls of /cgi-bin/clear_quota/v2 pass
        AllowClearQuota = switch("allow-clear-quota");
        /// Endpoints that may be called, all others may not: /cgi-bin/message/**; repeatable
        Allow = list("allow", "PATTERN").like("/cgi-bin/message/**");
        /// Endpoints that may not be called, even if they are allowed; repeatable
        Deny = list("deny", "PATTERN").like("/cgi-bin/menu/*");
        /// The largest body that is held, so that it can be sent again
        ReplayLimit = value("replay-limit", "SIZE").by_default("16MiB");
        /// What all held bodies together may take
        ReplayMemory = value("replay-memory", "SIZE").by_default("64MiB");
        /// The HTTP status of the sidecar's own errors: http (as fits) or 200
        ErrorStatus = value("error-status", "STATUS").by_default("http");
    }
    "Sharing tokens between replicas" {
        /// A Redis in which replicas share a classic token, WeCom's and tickets: redis://… or rediss://…
        Store = value("store", "URL").like("rediss://redis.internal:6379").private();
        /// A file with user:password for the store, or with a password alone
        StorePasswordFile = value("store-password-file", "FILE").like("/run/secrets/redis").private();
        /// A file whose whole text, such as account:password, is the password for the store: AUTH with one argument
        StoreAuthFile = value("store-auth-file", "FILE").like("/run/secrets/redis-auth").private();
        /// A PEM file with a root certificate to trust for the store beside the platform's
        StoreCaFile = value("store-ca-file", "FILE").like("/etc/ssl/redis-root.pem");
        /// How tokens are written there: own, or as wxjava or wechatpy reads and writes them
        StoreFormat = value("store-format", "FORMAT").by_default("own");
        /// What keys there begin with, instead of wechat-sidecar, wx or wechatpy
        StorePrefix = value("store-prefix", "TEXT").like("wa");
    }
    "The process" {
        /// Connections of apps at once
        MaxConnections = value("max-connections", "COUNT").by_default("4096");
        /// Connections to WeChat at once
        MaxUpstream = value("max-upstream", "COUNT").by_default("1024");
        /// Connections to WeChat that each worker keeps open even if nobody calls, so that the first call after a quiet time needs no handshake; 0 for none
        KeepWarm = value("keep-warm", "COUNT").by_default("0");
        /// Threads that carry calls
        Workers = value("workers", "COUNT").depending("2, or 1 on a single CPU").like("2");
        /// How long to go on accepting calls, not ready any more, when told to stop
        ShutdownDelay = value("shutdown-delay", "DURATION").by_default("0s");
        /// How long calls in flight may then take to finish
        ShutdownGrace = value("shutdown-grace", "DURATION").by_default("20s");
        /// How log lines look: plain or json
        LogFormat = value("log-format", "FORMAT").by_default("plain");
        /// The lowest level logged, by module if wanted: info,hyper=warn
        LogLevel = value("log-level", "LEVEL").by_default("info");
        /// A TOML file with these keys; a flag or the environment names it
        Config = value("config", "FILE").like("/etc/wechat-sidecar.toml");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_stands_at_its_place_with_an_example_and_a_help() {
        for (at, key) in KEYS.iter().enumerate() {
            assert_eq!(key.id as usize, at, "{}", key.name);
            assert!(
                !key.example.is_empty() && !key.help.is_empty(),
                "{}",
                key.name
            );
            assert_eq!(
                KEYS.iter().filter(|other| other.name == key.name).count(),
                1
            );
            assert!(std::ptr::eq(
                named(&key.name.replace('-', "_")).unwrap(),
                key
            ));
        }
    }

    #[test]
    fn a_misspelling_is_recognised_and_another_word_is_not() {
        assert_eq!(nearest("lisen").map(|key| key.name), Some("listen"));
        assert_eq!(
            nearest("REPLAY_LIMITS").map(|key| key.name),
            Some("replay-limit")
        );
        assert_eq!(nearest("secret").map(|key| key.name), None);
        assert_eq!(nearest("").map(|key| key.name), None);
    }
}
