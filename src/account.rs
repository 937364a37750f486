//! An account: an AppID, its keeper, what it may call and where it was refused. The directory holds all accounts.

mod account_wide;
mod directory;
mod endpoint_use;
mod error;
mod factory;
mod options;
pub mod pacing;
mod problems;
pub mod refused_endpoints;
pub mod rules;
mod upstreams;

use std::{fmt, sync::Arc};

pub use directory::{Accounts, Directory, Lookup};
pub use endpoint_use::{EndpointUse, OpenCall};
pub use error::AccountError;
pub use factory::AccountFactory;
pub use options::{Options, SourceOptions};
use pacing::Pacing;
use refused_endpoints::RefusedEndpoints;

use crate::{
    client::pools::UpstreamKey,
    metrics::AccountMetrics,
    secret::SecretSource,
    token::{PLACEHOLDER, keeper::Keeper, source::AccountSource, ticket::Tickets},
    wechat::{api::Api, endpoint, hosts},
};

/// AppIDs and corpids have 18 characters. A corpsecret, which may be given by mistake, has 43.
const LONGEST_APPID: usize = 32;

/// Whether `text` can be an AppID. The error is a phrase that does not repeat it.
pub fn check_appid(text: &str) -> Result<(), &'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if text.is_empty() || text.len() > LONGEST_APPID || !text.bytes().all(plain) {
        return Err("is not an AppID; one looks like wx0123456789abcdef");
    }
    if text == "other" {
        return Err(
            "is what the metrics call many accounts; an AppID looks like wx0123456789abcdef",
        );
    }
    if endpoint::is_top_level(text) {
        return Err(
            "is the beginning of paths of WeChat's; an AppID looks like wx0123456789abcdef",
        );
    }
    if text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("looks like an AppSecret; an AppID looks like wx0123456789abcdef");
    }
    Ok(())
}

/// An account while it is served. A clone shares everything that changes.
#[derive(Clone)]
pub struct Account {
    /// WeChat's AppID, or WeCom's corpid.
    pub appid: String,
    /// Which API it speaks.
    pub api: Api,
    /// The options it was opened with.
    pub options: Options,
    /// WeChat's AppSecret, for user logins. Token requests read it themselves.
    pub secret: Option<Arc<SecretSource>>,
    /// Its token.
    pub keeper: Arc<Keeper<AccountSource>>,
    /// Its tickets.
    pub tickets: Arc<Tickets>,
    /// Its counters, and its problems.
    pub metrics: Arc<AccountMetrics>,
    /// What became of its calls.
    pub endpoint_use: Arc<EndpointUse>,
    /// The endpoints that refuse calls whatever the token.
    pub refused_endpoints: Arc<RefusedEndpoints>,
    /// How fast its calls may follow one another; `None` where no rule says so.
    pub pacing: Option<Arc<Pacing>>,
    /// Its own upstream; `None` where it uses the common one.
    pub upstream: Option<Arc<UpstreamKey>>,
}

impl Account {
    /// The path prefix of its upstream; usually empty.
    pub fn prefix(&self) -> &str {
        self.upstream
            .as_ref()
            .map_or("", |upstream| upstream.connector().prefix())
    }

    /// Whether its calls go to a private deployment, and not to Tencent.
    pub fn has_private_upstream(&self) -> bool {
        let upstream = self.upstream.as_ref();
        upstream.is_some_and(|upstream| upstream.is_private())
    }

    /// Whether its calls go to `host`: that of its own upstream, or WeCom's.
    pub fn has_host(&self, host: &str) -> bool {
        if self.api == Api::Wecom && host.eq_ignore_ascii_case(hosts::WECOM) {
            return true;
        }
        let upstream = self.upstream.as_ref();
        let mut origins = upstream
            .into_iter()
            .flat_map(|upstream| upstream.connector().origins());
        origins.any(|origin| host.eq_ignore_ascii_case(&origin.host))
    }

    /// Its unique id.
    pub fn id(&self) -> &str {
        self.options.id()
    }

    /// Whether `word` is its AppID or its name.
    pub fn is_called(&self, word: &str) -> bool {
        self.appid == word || self.options.name.as_deref() == Some(word)
    }

    /// Its AppID, and its name if it has one.
    pub fn names(&self) -> String {
        self.options.names()
    }

    /// The placeholder that an app gets instead of a token. The app sends it back, and the sidecar replaces
    /// it.
    pub fn placeholder(&self) -> String {
        format!("{PLACEHOLDER}{}", self.id())
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}
