//! All accounts, found by what calls and operators call them; replaced as a whole while calls go on.

use std::{collections::HashMap, sync::Arc};

use arc_swap::{ArcSwap, Guard};

use super::Account;
use crate::token::fingerprints::{Fingerprints, HistoryId};

/// All accounts of one configuration, in its order.
#[derive(Debug)]
pub struct Accounts {
    all: Box<[Arc<Account>]>,
    default: Option<usize>,
    /// By AppID and by name; `None` for a corpid that several share.
    known: HashMap<Box<str>, Option<usize>>,
    /// By what their tokens are known by.
    histories: HashMap<HistoryId, usize>,
    fingerprints: Fingerprints,
}

/// Who is called something.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// This one.
    One(&'a Arc<Account>),
    /// Several: it is a corpid that they share.
    Several,
    /// Nobody.
    Nobody,
}

impl Accounts {
    /// Of `all`, whose ids differ, and whose tokens are known in `fingerprints`.
    pub fn new(all: Vec<Arc<Account>>, fingerprints: Fingerprints) -> Self {
        let mut known = HashMap::new();
        for (at, account) in all.iter().enumerate() {
            let shared = known.insert(account.appid.as_str().into(), Some(at));
            if shared.is_some() {
                known.insert(account.appid.as_str().into(), None);
            }
        }
        for (at, account) in all.iter().enumerate() {
            if let Some(name) = &account.options.name {
                known.insert(name.as_str().into(), Some(at));
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
            known,
            histories,
            fingerprints,
        }
    }

    /// The account whose call it is when the call does not say: the one that is marked so, or the
    /// only one.
    pub fn default_account(&self) -> Option<&Arc<Account>> {
        self.all.get(self.default?)
    }

    /// Whether there is one account and no other.
    pub fn is_one(&self) -> bool {
        self.all.len() == 1
    }

    /// Who has this AppID, corpid or name.
    pub fn find(&self, word: &str) -> Found<'_> {
        // The usual case needs no hash.
        if let [only] = &*self.all {
            return match only.is_called(word) {
                true => Found::One(only),
                false => Found::Nobody,
            };
        }
        match self.known.get(word) {
            Some(Some(at)) => Found::One(&self.all[*at]),
            Some(None) => Found::Several,
            None => Found::Nobody,
        }
    }

    /// Who has this token, or had it in the last two hours; several if they take theirs from one place. An
    /// account that is here no more has none.
    pub fn with_token(&self, token: &str) -> impl Iterator<Item = &Arc<Account>> {
        let histories = self.fingerprints.find(token).into_iter();
        histories.filter_map(|history| self.all.get(*self.histories.get(&history)?))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.all.iter()
    }

    /// What they are called, for somebody who asked for none of them: a list of AppIDs and names.
    pub fn names(&self) -> String {
        let names: Vec<String> = self.iter().map(|account| account.names()).collect();
        names.join(", ")
    }
}

/// The accounts that are served now. Clones are the same; nobody who reads takes a lock.
#[derive(Clone, Debug)]
pub struct Directory(Arc<ArcSwap<Accounts>>);

impl Directory {
    /// Of `accounts`, whose tokens are known in `fingerprints`.
    pub fn new(accounts: Vec<Arc<Account>>, fingerprints: Fingerprints) -> Self {
        let accounts = Accounts::new(accounts, fingerprints);
        Self(Arc::new(ArcSwap::from_pointee(accounts)))
    }

    /// Those of now. A call that was begun keeps its account, whatever comes after.
    pub fn now(&self) -> Guard<Arc<Accounts>> {
        self.0.load()
    }

    /// Others from now on.
    pub fn replace(&self, accounts: Vec<Arc<Account>>) {
        let fingerprints = self.now().fingerprints.clone();
        self.0
            .store(Arc::new(Accounts::new(accounts, fingerprints)));
    }
}
