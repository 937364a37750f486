//! An AppID with its keeper, what it may call and where it was refused; and the directory of accounts.

mod accepted_endpoints;
mod account_wide;
mod directory;
mod factory;
mod ip_rejected;
mod options;
pub mod refused_endpoints;
pub mod rules;
mod upstreams;

use std::{fmt, sync::Arc};

pub use accepted_endpoints::AcceptedEndpoints;
pub use directory::{Accounts, Directory, Lookup};
pub use factory::AccountFactory;
pub use ip_rejected::{RejectedIp, RejectedIps};
pub use options::{Options, SourceOptions};
use refused_endpoints::RefusedEndpoints;

use crate::{
    client::pools::UpstreamKey,
    metrics::AccountMetrics,
    secret::SecretSource,
    token::{keeper::Keeper, source::AccountSource, ticket::Tickets},
    wechat::{api::Api, endpoint, errcode},
};

/// AppIDs and corpids have 18 characters; a corpsecret, which may stand there by mistake, has 43.
const LONGEST_APPID: usize = 32;

/// Whether `text` can be an AppID. The error is a phrase that does not repeat it.
pub fn check_appid(text: &str) -> Result<(), &'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if text.is_empty() || text.len() > LONGEST_APPID || !text.bytes().all(plain) {
        return Err("is not an AppID; one looks like wx0123456789abcdef");
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
    /// What it was opened with.
    pub options: Options,
    /// WeChat's AppSecret, for the logins of users; token requests read it themselves.
    pub secret: Option<Arc<SecretSource>>,
    /// Its token.
    pub keeper: Arc<Keeper<AccountSource>>,
    /// Its tickets.
    pub tickets: Arc<Tickets>,
    /// Its counters.
    pub metrics: Arc<AccountMetrics>,
    /// Where it has been accepted.
    pub accepted_endpoints: Arc<AcceptedEndpoints>,
    /// Where it is refused with every token.
    pub refused_endpoints: Arc<RefusedEndpoints>,
    /// Whether calls come from an IP that is not on its whitelist.
    pub ip_rejected: Arc<RejectedIps>,
    /// The way to its own WeChat or WeCom; `None` for the way of all.
    pub upstream: Option<Arc<UpstreamKey>>,
}

/// What an app gets instead of a token, before an AppID.
pub const PLACEHOLDER: &str = "sidecar-";

impl Account {
    /// Says in the log if a reply with this `code` and `body` turns calls down for their IP, which no
    /// other token mends.
    pub fn note_ip(&self, code: i64, body: &[u8]) {
        if errcode::is_about_the_ip(self.api, code)
            && let Some(seen) = self.ip_rejected.note(code, errcode::ip(body))
        {
            tracing::warn!(
                account = self.options.id(),
                "{seen}: add it in the console, or send calls from one that is (see --egress-proxy)"
            );
        }
    }

    /// What comes before every path where its calls go; usually nothing.
    pub fn prefix(&self) -> &str {
        self.upstream
            .as_ref()
            .map_or("", |way| way.connector().prefix())
    }

    /// What tells it from the others.
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

    /// What an app gets instead of a token: it is sent back, and replaced.
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
