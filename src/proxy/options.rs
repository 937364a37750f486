//! The options of the proxy.

use std::sync::Arc;

use super::private_headers::PrivateHeaders;
use crate::{record::Recorder, secret::SecretSource};

/// How the token endpoints answer an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenEndpoint {
    /// With a placeholder, which the app sends back and the sidecar replaces.
    Placeholder,
    /// With the real token and its true remaining lifetime.
    Real,
    /// With 403.
    Off,
}

/// The options of the proxy.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the token endpoints answer an app.
    pub token_endpoint: TokenEndpoint,
    /// The largest body that is held for a replay, in bytes.
    pub replay_limit: usize,
    /// Answers our own errors with HTTP 200, for SDKs that ignore the body of others.
    pub errors_as_200: bool,
    /// Answers calls for tickets from the cache.
    pub keep_tickets: bool,
    /// Passes calls of `/cgi-bin/clear_quota/v2` on.
    pub allow_clear_quota: bool,
    /// Which headers of calls stay here.
    pub private_headers: PrivateHeaders,
    /// Which calls are accepted.
    pub guard: GuardOptions,
    /// Is told of each call, if anybody wants that.
    pub recorder: Option<Recorder>,
}

/// Which calls are accepted.
#[derive(Clone, Debug, Default)]
pub struct GuardOptions {
    /// The key that callers must send in `X-Wechat-Sidecar-Key`.
    pub caller_key: Option<Arc<SecretSource>>,
    /// Host names that are accepted in addition to loopback names and WeChat's hosts.
    pub allow_hosts: Vec<String>,
    /// Accepts calls that came through another proxy.
    pub allow_forwarded: bool,
}
