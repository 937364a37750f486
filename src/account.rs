//! An AppID with its keeper, and the directory of accounts.

mod open;
mod options;
pub mod rules;
mod ways;
mod worked;

use std::{fmt, sync::Arc};

pub use open::Means;
pub use options::{Options, Source};
pub use worked::Worked;

use crate::{
    endpoint, issuer::Issuer, keeper::Keeper, kind::Kind, metrics::AccountMetrics,
    secret::SecretSource, ticket::Tickets, upstream::ways::Way,
};

/// Whether `text` can be an AppID. The error is a phrase that does not repeat it.
pub fn check_appid(text: &str) -> Result<(), &'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
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

/// An account while it is served.
pub struct Account {
    /// WeChat's AppID, or WeCom's corpid.
    pub appid: String,
    /// Which API it speaks.
    pub kind: Kind,
    /// What it was opened with.
    pub options: Options,
    /// WeChat's AppSecret, for the logins of users; token requests read it themselves.
    pub secret: Option<Arc<SecretSource>>,
    /// Its token.
    pub keeper: Arc<Keeper<Issuer>>,
    /// Its tickets.
    pub tickets: Tickets,
    /// Its counters.
    pub metrics: Arc<AccountMetrics>,
    /// Where it has been accepted.
    pub worked: Worked,
    /// The way to its own WeChat or WeCom; `None` for the way of all.
    pub way: Option<Arc<Way>>,
}

/// What an app gets instead of a token, before an AppID.
pub const PLACEHOLDER: &str = "sidecar-";

impl Account {
    /// What comes before every path where its calls go; usually nothing.
    pub fn prefix(&self) -> &str {
        self.way.as_ref().map_or("", |way| way.route().prefix())
    }

    /// What an app gets instead of a token: it is sent back, and replaced.
    pub fn placeholder(&self) -> String {
        format!("{PLACEHOLDER}{}", self.options.id())
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("appid", &self.appid)
            .finish_non_exhaustive()
    }
}

/// All accounts, in the order of the configuration.
#[derive(Clone, Debug)]
pub struct Directory {
    accounts: Arc<[Arc<Account>]>,
}

impl Directory {
    /// Of `accounts`.
    pub fn new(accounts: Vec<Arc<Account>>) -> Self {
        Self {
            accounts: accounts.into(),
        }
    }

    /// The account whose call it is when the call does not say.
    pub fn default_account(&self) -> Option<&Arc<Account>> {
        match &*self.accounts {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The account with this AppID.
    pub fn get(&self, appid: &str) -> Option<&Arc<Account>> {
        self.accounts.iter().find(|account| account.appid == appid)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.accounts.iter()
    }
}
