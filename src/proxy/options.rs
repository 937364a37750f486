//! The options of the proxy.

use std::sync::Arc;

use crate::secret::SecretSource;

/// How the token endpoints answer an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenEndpoint {
    /// With a placeholder, which the app sends back and the sidecar replaces.
    Placeholder,
    /// With the real token and its true remainder.
    Real,
    /// With 403.
    Off,
}

/// What the proxy needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the token endpoints answer an app.
    pub token_endpoint: TokenEndpoint,
    /// The largest body that is held for a replay, in bytes.
    pub replay_limit: usize,
    /// Answer our own errors with HTTP 200, for SDKs that read no other body.
    pub errors_as_200: bool,
    /// Answer calls for tickets from where tickets are kept.
    pub keep_tickets: bool,
    /// Let `/cgi-bin/clear_quota/v2` pass.
    pub allow_clear_quota: bool,
    /// Who may call.
    pub guard: GuardOptions,
}

/// Who may call.
#[derive(Clone, Debug, Default)]
pub struct GuardOptions {
    /// What callers must show in `X-Wechat-Sidecar-Key`.
    pub caller_key: Option<Arc<SecretSource>>,
    /// Host names accepted beside loopback ones and WeChat's.
    pub allow_hosts: Vec<String>,
    /// Accept calls that came through another proxy.
    pub allow_forwarded: bool,
}
