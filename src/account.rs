//! An AppID with its keeper, and the directory of accounts.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    endpoint::{self, Endpoint},
    issuer::{Issuer, wechat::TokenApi},
    keeper::Keeper,
    kind::Kind,
    metrics::AccountMetrics,
    secret::SecretSource,
};

/// What an account is configured with.
#[derive(Clone, Debug)]
pub struct Options {
    /// WeChat's AppID, or WeCom's corpid.
    pub appid: String,
    /// Which API it speaks.
    pub kind: Kind,
    /// WeChat's AppSecret.
    pub secret: Arc<SecretSource>,
    /// Which of WeChat's two tokens it uses.
    pub token_api: TokenApi,
    /// Fetches a day above which refusals cause none.
    pub daily_fetches: u32,
}

/// Whether `text` can be an AppID. The error is a phrase that does not repeat it.
pub fn check_appid(text: &str) -> Result<(), &'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
        return Err("is not an AppID; one looks like wx0123456789abcdef");
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
    /// WeChat's AppSecret, for the logins of users; token requests read it themselves.
    pub secret: Arc<SecretSource>,
    /// Its token.
    pub keeper: Arc<Keeper<Issuer>>,
    /// Its counters.
    pub metrics: Arc<AccountMetrics>,
    /// Where it has been accepted.
    pub worked: Worked,
}

/// Which endpoints WeChat has accepted a call on. A path that is in no table shares its place with
/// others, so that the memory is bounded; that is good enough for what it decides.
#[derive(Debug)]
pub struct Worked(Box<[AtomicBool]>);

/// Places for paths that are in no table.
const STRANGERS: usize = 1024;

impl Default for Worked {
    fn default() -> Self {
        let places = endpoint::rows() + STRANGERS;
        Self((0..places).map(|_| AtomicBool::new(false)).collect())
    }
}

impl Worked {
    /// WeChat accepted a call on `endpoint`.
    pub fn note(&self, endpoint: &Endpoint<'_>) {
        let place = self.place(endpoint);
        if !place.load(Ordering::Relaxed) {
            place.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it ever did.
    pub fn has(&self, endpoint: &Endpoint<'_>) -> bool {
        self.place(endpoint).load(Ordering::Relaxed)
    }

    fn place(&self, endpoint: &Endpoint<'_>) -> &AtomicBool {
        let stranger = || {
            let mut hash = DefaultHasher::new();
            endpoint.path().hash(&mut hash);
            endpoint::rows() + (hash.finish() as usize) % STRANGERS
        };
        &self.0[endpoint.row().unwrap_or_else(stranger)]
    }
}

/// What an app gets instead of a token, before an AppID.
pub const PLACEHOLDER: &str = "sidecar-";

impl Account {
    /// What an app gets instead of a token: it is sent back, and replaced.
    pub fn placeholder(&self) -> String {
        format!("{PLACEHOLDER}{}", self.appid)
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
