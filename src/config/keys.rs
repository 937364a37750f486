//! The table of all keys. A row defines a flag, an environment variable, a key of the file, and the help.

use crate::settings::suggest;

/// How a key is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// With one value.
    Value,
    /// With several values: a repeated flag, separated by commas in the environment, an array in the file.
    List,
    /// With a flag without a value, or with true or false.
    Switch,
}

/// The value of a key that is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// No value.
    Unset,
    /// This text, which is parsed like one that was set.
    Text(&'static str),
    /// A value that depends on something else. This is its description in the help.
    Depends(&'static str),
}

/// A key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name in the code.
    pub id: Id,
    /// Its name in the file and, after `--`, as a flag.
    pub name: &'static str,
    /// How it is set.
    pub kind: ValueKind,
    /// The placeholder of the value in the help; empty for switches.
    pub placeholder: &'static str,
    /// Its default.
    pub default: DefaultValue,
    /// A valid value.
    pub example: &'static str,
    /// Whether its value may contain a password by mistake. Such a value is never repeated.
    pub private: bool,
    /// Its heading in the help.
    pub section: &'static str,
    /// Its help text.
    pub help: &'static str,
}

impl Key {
    /// The name of its environment variable.
    pub fn variable(&self) -> String {
        format!(
            "{PREFIX}{}",
            self.name.to_ascii_uppercase().replace('-', "_")
        )
    }

    /// Its default as the help shows it; empty if there is none.
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

/// The prefix of the environment variables of keys.
pub const PREFIX: &str = "WECHAT_SIDECAR_";

/// The error for the name of an unknown key.
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
        /// The name of a key in the code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Id { $($($(#[doc = $help])+ $id),+),+ }

        static KEYS: &[Key] = &[$($(
            $key.described(Id::$id, $section, concat!($($help),+).trim_ascii())
        ),+),+];
    };
}

keys! {
    "Where apps connect" {
        /// Where apps connect: IP:port, localhost:port (IPv4 and IPv6) or unix:/path; repeatable
        Listen = list("listen", "ADDRESS").by_default("127.0.0.1:7080");
        /// Where apps connect by https, with certificates of the sidecar's own CA: IP:port or localhost:port; repeatable
        TlsListen = list("tls-listen", "ADDRESS").like("127.0.0.1:7443");
        /// Listen on addresses that other machines can reach; also takes --caller-key-file or --no-caller-key
        UnsafeListen = switch("unsafe-listen");
        /// A file with the key that callers must send as X-Wechat-Sidecar-Key
        CallerKeyFile = value("caller-key-file", "FILE").like("/run/secrets/caller-key").private();
        /// Ask callers for no key, even if other machines can reach the port
        NoCallerKey = switch("no-caller-key");
        /// One more host name by which apps may call the sidecar, beside loopback names and WeChat's hosts; repeatable
        AllowHost = list("allow-host", "HOST").like("wechat.internal");
        /// Accept calls that came through another proxy (X-Forwarded-For, Forwarded)
        AllowForwarded = switch("allow-forwarded");
        /// Where health, metrics and status are: IP:port
        Admin = value("admin", "ADDRESS").by_default("127.0.0.1:7081");
        /// Allow "wechat-sidecar shutdown" and POST /shutdown to stop the sidecar
        EnableShutdown = switch("enable-shutdown");
        /// Allow "wechat-sidecar revoke" and POST /revoke to revoke a leaked token
        EnableRevoke = switch("enable-revoke");
    }
    "The connection to WeChat" {
        /// The base URL of WeChat; plain http is for loopback addresses only
        Upstream = value("upstream", "URL").by_default("https://api.weixin.qq.com").private();
        /// A PEM file with a certificate to trust beside the system's: a root, or a server's own; read again when it changes
        UpstreamCa = value("upstream-ca", "FILE").like("/etc/ssl/private-root.pem");
        /// The IP address of WeChat; DNS is then not asked
        UpstreamAddress = value("upstream-address", "IP").like("203.0.113.7");
        /// A forward proxy with a fixed IP, for WeChat's whitelist: http://… or socks5://…
        EgressProxy = value("egress-proxy", "URL").like("http://proxy.internal:3128").private();
        /// A file with user:password for the egress proxy
        EgressProxyCredentialsFile = value("egress-proxy-credentials-file", "FILE")
            .like("/run/secrets/egress-proxy").private();
        /// Ignore /etc/hosts when the names of WeChat's hosts are looked up
        SkipHostsFile = switch("skip-hosts-file");
        /// How long connecting to a host may take when its addresses are known, TLS included
        ConnectTimeout = value("connect-timeout", "DURATION").by_default("3s");
        /// How long WeChat may take until the head of its reply
        UpstreamTimeout = value("upstream-timeout", "DURATION").by_default("30s");
        /// How long a body may pause, in either direction
        IdleTimeout = value("idle-timeout", "DURATION").by_default("60s");
    }
    "Apps that call WeChat by https" {
        /// A folder that keeps the local CA, so that a restart does not break apps that trust it
        CaDir = value("ca-dir", "DIR").like("/var/lib/wechat-sidecar");
        /// A folder to write the files to by which apps trust the local CA
        TrustDir = value("trust-dir", "DIR").like("/var/lib/wechat-trust");
        /// A PEM file with roots of your own that those files also hold
        TrustAlso = value("trust-also", "FILE").like("/etc/ssl/company-root.pem");
    }
    "Tokens and calls" {
        /// WeChat's API that issues tokens: stable or classic
        TokenApi = value("token-api", "API").by_default("stable");
        /// The answer to token requests of the app: placeholder, real or off
        TokenEndpoint = value("token-endpoint", "ANSWER").by_default("placeholder");
        /// Once so many tokens were fetched in a day, refusals cause no more fetches
        DailyFetches = value("daily-fetches", "COUNT").depending("500, or 200 with classic").like("500");
        /// Pass calls for jsapi and card tickets on to WeChat instead of answering them from a cache
        NoTicketCache = switch("no-ticket-cache");
        /// Pass calls of /cgi-bin/clear_quota/v2 on
        AllowClearQuota = switch("allow-clear-quota");
        /// Endpoints that may be called; all others may not: /cgi-bin/message/**; repeatable
        Allow = list("allow", "PATTERN").like("/cgi-bin/message/**");
        /// Endpoints that may not be called, even if they are allowed; repeatable
        Deny = list("deny", "PATTERN").like("/cgi-bin/menu/*");
        /// How fast an account's calls may follow one another, by their paths; the first pattern that matches counts: /cgi-bin/message/**=5000/min, or /s, /hour or /day; repeatable
        Pace = list("pace", "PATTERN=RATE").like("/cgi-bin/message/**=5000/min");
        /// How long a call above such a rate waits for its turn
        PaceWait = value("pace-wait", "DURATION").by_default("5s");
        /// Also send WeChat this header of calls, which stays here otherwise: authorization, baggage, cookie, traceparent, tracestate or x-real-ip; repeatable
        ForwardHeader = list("forward-header", "NAME").like("traceparent");
        /// The largest body that is held, so that it can be sent again
        ReplayLimit = value("replay-limit", "SIZE").by_default("16MiB");
        /// The memory for all held bodies together, with what their calls take
        ReplayMemory = value("replay-memory", "SIZE")
            .depending("64MiB, or a quarter of the memory limit if that is less").like("64MiB");
        /// The HTTP status of the sidecar's own errors: http (a fitting one) or 200
        ErrorStatus = value("error-status", "STATUS").by_default("http");
    }
    "Sharing tokens between replicas" {
        /// A Redis in which replicas share classic tokens, WeCom's tokens and tickets: redis://… or rediss://…
        Store = value("store", "URL").like("rediss://redis.internal:6379").private();
        /// A file with user:password for the store, or with a password alone
        StorePasswordFile = value("store-password-file", "FILE").like("/run/secrets/redis").private();
        /// A file whose whole text, such as account:password, is the password for the store: AUTH with one argument
        StoreAuthFile = value("store-auth-file", "FILE").like("/run/secrets/redis-auth").private();
        /// The same for the store: a PEM file with a root certificate, or that of the server
        StoreCaFile = value("store-ca-file", "FILE").like("/etc/ssl/redis-root.pem");
        /// How tokens are written to the store: own, or as wxjava or wechatpy reads and writes them
        StoreFormat = value("store-format", "FORMAT").by_default("own");
        /// The beginning of the keys in the store, instead of wechat-sidecar, wx or wechatpy
        StorePrefix = value("store-prefix", "TEXT").like("wa");
    }
    "The process" {
        /// Connections of apps at the same time, or fewer if the limit of open files is too low
        MaxConnections = value("max-connections", "COUNT").by_default("4096");
        /// Connections to WeChat at the same time, or fewer if the limit of open files is too low
        MaxUpstream = value("max-upstream", "COUNT").by_default("1024");
        /// Connections to WeChat that each worker keeps open even if nobody calls; the first call after a quiet time then needs no handshake; 0 for none
        KeepWarm = value("keep-warm", "COUNT").by_default("0");
        /// Threads that carry calls
        Workers = value("workers", "COUNT").depending("2, or 1 on a single CPU").like("2");
        /// When told to stop: how long to go on accepting calls, while not ready
        ShutdownDelay = value("shutdown-delay", "DURATION").by_default("0s");
        /// How long calls in flight may then take to finish
        ShutdownGrace = value("shutdown-grace", "DURATION").by_default("20s");
        /// So many accounts, the first ones of the file, have series of their own in /metrics; the others are summed as account="other"
        MetricsAccounts = value("metrics-accounts", "COUNT").by_default("200");
        /// The format of log lines: plain or json
        LogFormat = value("log-format", "FORMAT").by_default("plain");
        /// The lowest level that is logged, by module if wanted: info,hyper=warn
        LogLevel = value("log-level", "LEVEL").by_default("info");
        /// Log each call: its account, endpoint, outcome and durations; never a query or a body
        AccessLog = switch("access-log");
        /// Which part of the calls that go well is in the access log: 1% or 0.01; all others always are
        AccessLogSample = value("access-log-sample", "PART").by_default("100%");
        /// Send a span of each call to this OpenTelemetry collector, by OTLP over HTTP; /v1/traces is added if there is no path
        OtlpEndpoint = value("otlp-endpoint", "URL").like("http://collector:4318/v1/traces").private();
        /// A file with headers for the collector, one a line, as Authorization: Bearer …
        OtlpHeadersFile = value("otlp-headers-file", "FILE").like("/run/secrets/otlp-headers").private();
        /// A TOML file with these keys; only a flag or the environment can name it
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
