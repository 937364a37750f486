//! The table of all settings of a sidecar. A row defines an annotation, a default and the help.

use crate::settings::raw::Describe;

/// A setting, given by an annotation of the pod or its namespace, or by `--set`.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name: after the prefix in an annotation, and before the `=` of `--set`.
    pub name: &'static str,
    /// Its default; empty if it has none.
    pub preset: &'static str,
    /// A valid value.
    pub example: &'static str,
    /// Whether an empty value unsets it.
    pub optional: bool,
    /// Whether its value may be an AppSecret by mistake. Such a value is never repeated.
    pub private: bool,
    /// Its help text.
    pub help: &'static str,
}

impl Describe for Setting {
    const HIDDEN: &'static str = "its value";

    fn example(&self) -> &str {
        self.example
    }

    fn hides(&self, _: &str) -> bool {
        self.private
    }
}

macro_rules! is_private {
    (private) => {
        true
    };
    () => {
        false
    };
}

/// The doc comments are the help.
macro_rules! settings {
    ($($(#[doc = $help:literal])+ $id:ident = $name:literal, $preset:expr, $example:literal, $optional:literal $(, $private:ident)?;)+) => {
        /// The name of a setting in the code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum SettingId { $($(#[doc = $help])+ $id),+ }

        static SETTINGS: &[(SettingId, Setting)] = &[$((SettingId::$id, Setting {
            name: $name,
            preset: $preset,
            example: $example,
            optional: $optional,
            private: is_private!($($private)?),
            help: concat!($($help),+).trim_ascii(),
        })),+];
    };
}

settings! {
    /// The Secret with the AppID and the AppSecret
    Secret = "secret", "wechat-sidecar", "wechat-sidecar", false, private;
    /// The key of the AppID in the Secret
    AppidKey = "appid-key", "appid", "appid", false, private;
    /// The key of the AppSecret in the Secret
    SecretKey = "secret-key", "secret", "secret", false, private;
    /// The AppID itself, instead of a key of the Secret
    Account = "account", "", "wx0123456789abcdef", true, private;
    /// Where the accounts are: secret (one, in the Secret) or config-map (the accounts of its wechat-sidecar.toml)
    Accounts = "accounts", "secret", "config-map", false;
    /// Where the app reaches the sidecar: a loopback address and a port, or a port
    Listen = "listen", "127.0.0.1:7080", "127.0.0.1:7080", false;
    /// Where probes and metrics are: the address that stands for all, and a port
    Admin = "admin", "0.0.0.0:7081", "0.0.0.0:7081", false;
    /// How the sidecar stands in the pod: native (Kubernetes 1.29 or newer) or classic
    Sidecar = "sidecar", "native", "native", false;
    /// How the app finds the sidecar: base-url or transparent
    Mode = "mode", "base-url", "transparent", false;
    /// In transparent mode: whether the sidecar also serves https, with a CA that the app's containers trust
    Https = "https", "false", "true", false;
    /// With https: more hosts that lead to the sidecar, as accounts of WeCom or with an upstream of their own need
    HttpsHosts = "https-hosts", "", "qyapi.weixin.qq.com", true;
    /// With https: clients whose roots are replaced, because none can be added: requests, java, wget, perl or all
    TrustEnv = "trust-env", "", "requests,java", true;
    /// With https: a ConfigMap with a company's roots, for clients whose roots are replaced
    TrustAlso = "trust-also", "", "company-roots", true;
    /// The key of the company's roots in the ConfigMap
    TrustAlsoKey = "trust-also-key", "ca.crt", "ca.crt", false;
    /// Whether the pod is ready only while the sidecar has a token
    Readiness = "readiness", "false", "true", false;
    /// The CPU that the sidecar requests
    CpuRequest = "cpu-request", "10m", "10m", true;
    /// The memory that the sidecar requests
    MemoryRequest = "memory-request", "32Mi", "32Mi", true;
    /// The CPU that the sidecar is held to
    CpuLimit = "cpu-limit", "", "500m", true;
    /// The memory that the sidecar is held to
    MemoryLimit = "memory-limit", "128Mi", "128Mi", true;
    /// The sidecar's image
    Image = "image", concat!("wechat-sidecar:", env!("CARGO_PKG_VERSION")), "registry.example/wechat-sidecar:0.1.0", false;
    /// When the image is pulled: Always, IfNotPresent or Never
    ImagePullPolicy = "image-pull-policy", "", "IfNotPresent", true;
    /// A Secret with which the image is pulled
    ImagePullSecret = "image-pull-secret", "", "registry-credentials", true;
    /// The user and group that the sidecar runs as; empty to let the cluster choose, as OpenShift does
    RunAsUser = "run-as-user", "65532", "65532", true;
    /// How the kubelet probes the sidecar: http, exec, or auto, which is exec where there is a service mesh
    Probes = "probes", "auto", "exec", false;
    /// A ConfigMap whose key wechat-sidecar.toml has more of the configuration; mounted at /etc/wechat-sidecar
    ConfigMap = "config-map", "", "wechat-sidecar", true;
    /// The lowest level logged
    LogLevel = "log-level", "", "info", true;
    /// How long a classic sidecar goes on accepting calls when told to stop
    ShutdownDelay = "shutdown-delay", "", "25s", true;
}

/// All settings, in the order of the documents.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().map(|(_, setting)| setting)
}

impl SettingId {
    /// The setting itself.
    pub fn setting(self) -> &'static Setting {
        &SETTINGS[self as usize].1
    }

    /// The setting called `name`.
    pub(super) fn named(name: &str) -> Option<Self> {
        let mut all = SETTINGS.iter();
        all.find(|(_, setting)| setting.name == name)
            .map(|(id, _)| *id)
    }

    /// All settings.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        SETTINGS.iter().map(|(id, _)| *id)
    }
}
