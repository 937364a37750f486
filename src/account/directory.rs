//! All accounts, found by AppID, name or token. They are replaced as a whole while calls go on.

use std::{collections::HashMap, sync::Arc};

use arc_swap::{ArcSwap, Guard};

use super::Account;
use crate::token::fingerprints::{Fingerprints, HistoryId};

/// How many accounts an error message names.
const NAMED: usize = 20;

/// All accounts of one configuration, in its order.
#[derive(Debug)]
pub struct Accounts {
    all: Box<[Arc<Account>]>,
    default: Option<usize>,
    /// Indexes by AppID and by name; `None` for a corpid that several accounts share.
    by_name: HashMap<Box<str>, Option<usize>>,
    /// Indexes by the history that holds an account's token fingerprints.
    histories: HashMap<HistoryId, usize>,
    fingerprints: Fingerprints,
}

/// The result of a search by AppID, corpid or name.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'a> {
    /// One account.
    One(&'a Arc<Account>),
    /// Several accounts share this corpid.
    Ambiguous,
    /// No account has it.
    Unknown,
}

impl Accounts {
    /// Indexes `all`. Their ids must differ; `fingerprints` holds their tokens.
    pub fn new(all: Vec<Arc<Account>>, fingerprints: Fingerprints) -> Self {
        let mut by_name = HashMap::new();
        for (at, account) in all.iter().enumerate() {
            let shared = by_name.insert(account.appid.as_str().into(), Some(at));
            if shared.is_some() {
                by_name.insert(account.appid.as_str().into(), None);
            }
        }
        for (at, account) in all.iter().enumerate() {
            if let Some(name) = &account.options.name {
                by_name.insert(name.as_str().into(), Some(at));
            }
        }
        let histories = all.iter().enumerate().filter_map(|(at, account)| {
            let history = account.keeper.history()?;
            Some((history.id(), at))
        });
        let histories = histories.collect();
        let marked = all.iter().position(|account| account.options.default);
        let default = marked.or((all.len() == 1).then_some(0));
        Self {
            all: all.into(),
            default,
            by_name,
            histories,
            fingerprints,
        }
    }

    /// The account of a call that names none: the one marked as default, or the only one.
    pub fn default_account(&self) -> Option<&Arc<Account>> {
        self.all.get(self.default?)
    }

    /// Whether there is exactly one account.
    pub fn is_one(&self) -> bool {
        self.all.len() == 1
    }

    /// Finds the account with this AppID, corpid or name.
    pub fn find(&self, word: &str) -> Lookup<'_> {
        // With one account, which is the usual case, no hash is needed.
        if let [only] = &*self.all {
            return match only.is_called(word) {
                true => Lookup::One(only),
                false => Lookup::Unknown,
            };
        }
        match self.by_name.get(word) {
            Some(Some(at)) => Lookup::One(&self.all[*at]),
            Some(None) => Lookup::Ambiguous,
            None => Lookup::Unknown,
        }
    }

    /// The accounts that have this token, or had it in the last two hours. There are several only if they
    /// take their tokens from the same source. Accounts that were removed are not found.
    pub fn with_token(&self, token: &str) -> impl Iterator<Item = &Arc<Account>> {
        let histories = self.fingerprints.find(token).into_iter();
        histories.filter_map(|history| self.all.get(*self.histories.get(&history)?))
    }

    /// Whether the calls of an account go to `host`.
    pub fn has_host(&self, host: &str) -> bool {
        self.iter().any(|account| account.has_host(host))
    }

    /// All accounts, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.all.iter()
    }

    /// A list of the AppIDs and names, for error messages: the first ones, and how many more there are.
    pub fn names(&self) -> String {
        let named = self.iter().take(NAMED).map(|account| account.names());
        let names = named.collect::<Vec<_>>().join(", ");
        match self.all.len().saturating_sub(NAMED) {
            0 => names,
            more => format!("{names} and {more} more"),
        }
    }
}

/// The accounts that are served now. Clones share the same accounts. Readers take no lock.
#[derive(Clone, Debug)]
pub struct Directory(Arc<ArcSwap<Accounts>>);

impl Directory {
    /// Serves `accounts`; `fingerprints` holds their tokens.
    pub fn new(accounts: Vec<Arc<Account>>, fingerprints: Fingerprints) -> Self {
        let accounts = Accounts::new(accounts, fingerprints);
        Self(Arc::new(ArcSwap::from_pointee(accounts)))
    }

    /// The current accounts. A running call keeps its account when they are replaced.
    pub fn now(&self) -> Guard<Arc<Accounts>> {
        self.0.load()
    }

    /// The same, for those who keep them for longer than a moment.
    pub fn all(&self) -> Arc<Accounts> {
        self.0.load_full()
    }

    /// Replaces all accounts.
    pub fn replace(&self, accounts: Vec<Arc<Account>>) {
        let fingerprints = self.now().fingerprints.clone();
        self.0
            .store(Arc::new(Accounts::new(accounts, fingerprints)));
    }
}
