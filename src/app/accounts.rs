//! The accounts that are served. They are opened, changed and removed while calls go on.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::Arc,
};

use tokio::task::AbortHandle;

use super::open_listeners::{Listeners, OpenListener, SpareListeners};
use crate::{
    account::{Account, AccountError, AccountFactory, Directory, Options},
    net::listen_addr::ListenAddr,
    rt::{pieces, retire::retire},
    secret::SecretSource,
    server::{Listener, Speaks},
};

/// Why the accounts cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("account {account}: {reason}")]
pub struct AccountsError {
    /// The name of the account.
    account: String,
    #[source]
    reason: Unserved,
}

/// Why an account cannot be served.
#[derive(Debug, thiserror::Error)]
enum Unserved {
    /// Its options do not fit together.
    #[error(transparent)]
    Options(#[from] AccountError),
    /// Its listener cannot be opened.
    #[error("listen: {address} cannot be listened on: {error}")]
    Listen {
        address: ListenAddr,
        #[source]
        error: io::Error,
    },
}

/// All accounts, with their tasks and listeners.
pub(super) struct ServedAccounts {
    factory: AccountFactory,
    directory: Directory,
    kept: Vec<ServedAccount>,
    /// The most connections of apps.
    max_connections: usize,
}

/// An account with its task and listeners, which end when this is dropped.
struct ServedAccount {
    account: Arc<Account>,
    renewal: RenewalTask,
    listeners: Vec<OpenListener>,
}

/// The task that renews a token.
struct RenewalTask(AbortHandle);

impl Drop for RenewalTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An account of a new configuration, before all of that is known to be possible.
struct Update {
    account: Arc<Account>,
    /// Where it was in the list of those before.
    before: Option<usize>,
    /// The source that its secret will use.
    secret: Option<Arc<SecretSource>>,
    bound: Vec<NewListener>,
}

/// The accounts that are served while a new configuration is looked at.
struct KnownAccounts<'a> {
    /// Where each is in the list, by its id.
    places: HashMap<&'a str, usize>,
    /// The addresses of all their listeners.
    addresses: HashSet<&'a ListenAddr>,
}

enum NewListener {
    /// It is open already, for this account or another.
    Before(ListenAddr),
    New(ListenAddr, Listener),
}

/// How many accounts were added, changed and removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) added: usize,
    pub(super) changed: usize,
    pub(super) removed: usize,
}

impl ServedAccounts {
    /// Opens accounts with `factory`. The error names the account.
    pub(super) fn new(
        accounts: Vec<Arc<Options>>,
        factory: AccountFactory,
        max_connections: usize,
    ) -> Result<Self, AccountsError> {
        let mut all = Vec::new();
        for options in accounts {
            let account = options.open(&factory);
            let account = account.map_err(|reason| AccountsError::of(options.id(), reason))?;
            all.push(Arc::new(account));
        }
        factory.place_series(&all);
        let directory = Directory::new(all.clone(), factory.fingerprints().clone());
        let mut served = Self {
            factory,
            directory,
            kept: Vec::new(),
            max_connections,
        };
        served.fit_to_number();
        served.kept = all.into_iter().map(ServedAccount::new).collect();
        served.limit_waiters();
        Ok(served)
    }

    /// Many accounts fetch tokens in turn, and the log is told less of each.
    fn fit_to_number(&self) {
        let accounts = self.directory.now();
        accounts.take_turns();
        self.factory.notices().set_many(accounts.are_many());
    }

    /// With several accounts, the calls that wait for the token of one account take at most a quarter of all
    /// connections.
    fn limit_waiters(&self) {
        let most = if self.kept.len() > 1 {
            (self.max_connections / 4).max(1)
        } else {
            usize::MAX
        };
        for kept in &self.kept {
            kept.account.keeper.limit_waiters(most);
        }
    }

    /// The accounts for calls.
    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Keeps listeners open as long as the accounts with these ids exist.
    pub(super) fn keep(&mut self, mut open: HashMap<String, Vec<OpenListener>>) {
        for kept in self.kept.iter_mut() {
            let own = open.remove(kept.account.id());
            kept.listeners.extend(own.into_iter().flatten());
        }
    }

    /// Serves `accounts` from now on. Those that are the same stay untouched, those that changed
    /// keep the token in hand if it is one of theirs, and calls in flight go on with what they have.
    /// An error changes nothing. Other tasks run in between, and what is dropped is dropped on another thread.
    pub(super) async fn change(
        &mut self,
        accounts: Vec<Arc<Options>>,
        listeners: &mut Listeners,
    ) -> Result<Change, AccountsError> {
        let all = self.updates(accounts).await?;
        // From here on nothing fails.
        let before = std::mem::take(&mut self.kept);
        let mut before: Vec<Option<ServedAccount>> = before.into_iter().map(Some).collect();
        let mut change = Change::default();
        let mut open = SpareListeners::default();
        for kept in before.iter_mut().flatten() {
            kept.listeners.drain(..).for_each(|spare| open.add(spare));
        }
        let accounts: Vec<_> = all.iter().map(|next| next.account.clone()).collect();
        self.factory.place_series(&accounts);
        let replaced = self.directory.replace(accounts);
        self.fit_to_number();
        for (at, next) in all.into_iter().enumerate() {
            pieces::step(at).await;
            let before = next.before.and_then(|at| before[at].take());
            let mut kept = match before {
                None => {
                    change.added += 1;
                    ServedAccount::new(next.account)
                }
                Some(before) if Arc::ptr_eq(&before.account, &next.account) => before,
                Some(before) => {
                    change.changed += 1;
                    before.update(next.account, next.secret.as_deref())
                }
            };
            for bound in next.bound {
                let id = kept.account.id();
                kept.listeners.extend(match bound {
                    NewListener::New(address, listener) => {
                        tracing::info!(account = id, address = %listener.address(), "listening");
                        Some(listeners.open(address, listener, Some(id)))
                    }
                    NewListener::Before(address) => open.take(&address, id),
                });
            }
            self.kept.push(kept);
        }
        // They are in the directory that was replaced as well, which is dropped after this, on another thread.
        change.removed = before.into_iter().flatten().count();
        tokio::spawn(retire(replaced));
        self.limit_waiters();
        Ok(change)
    }

    /// What becomes of each of `accounts`.
    async fn updates(&self, accounts: Vec<Arc<Options>>) -> Result<Vec<Update>, AccountsError> {
        let known = KnownAccounts::of(&self.kept);
        let mut all = Vec::with_capacity(accounts.len());
        for (at, options) in accounts.into_iter().enumerate() {
            pieces::step(at).await;
            let id = options.id().to_owned();
            let next = self.next(options, &known).await;
            all.push(next.map_err(|reason| AccountsError::of(&id, reason))?);
        }
        Ok(all)
    }

    async fn next(
        &self,
        options: Arc<Options>,
        known: &KnownAccounts<'_>,
    ) -> Result<Update, Unserved> {
        let before = known.places.get(options.id()).copied();
        let served = before.map(|at| &self.kept[at]);
        let account = match served.map(|served| &served.account) {
            Some(before) if *before.options == *options => before.clone(),
            Some(before) => Arc::new(options.open_after(before, &self.factory)?),
            None => Arc::new(options.open(&self.factory)?),
        };
        let own = served.map_or(&[][..], |served| &served.listeners);
        let is_open = |address: &ListenAddr| match address.is_definite() {
            true => known.addresses.contains(address),
            false => own.iter().any(|open| open.address == *address),
        };
        let mut bound = Vec::new();
        for address in &options.listen {
            bound.push(if is_open(address) {
                NewListener::Before(address.clone())
            } else {
                let listener = Listener::bind(address, Speaks::Http).await;
                let listener = listener.map_err(|error| Unserved::Listen {
                    address: address.clone(),
                    error,
                })?;
                NewListener::New(address.clone(), listener)
            });
        }
        Ok(Update {
            account,
            before,
            secret: options.secret.clone(),
            bound,
        })
    }
}

impl<'a> KnownAccounts<'a> {
    fn of(kept: &'a [ServedAccount]) -> Self {
        let ids = kept.iter().map(|kept| kept.account.id()).zip(0..);
        let open = kept.iter().flat_map(|kept| &kept.listeners);
        Self {
            places: ids.collect(),
            addresses: open.map(|open| &open.address).collect(),
        }
    }
}

impl ServedAccount {
    /// Starts to renew its token. This must be called on a runtime.
    fn new(account: Arc<Account>) -> Self {
        let renewal = tokio::spawn(account.keeper.clone().run());
        Self {
            account,
            renewal: RenewalTask(renewal.abort_handle()),
            listeners: Vec::new(),
        }
    }

    /// The same account with other options. Its secret now uses the source of `secret`.
    fn update(self, account: Arc<Account>, secret: Option<&SecretSource>) -> Self {
        let is_kept = |before: &Arc<SecretSource>| {
            let now = account.secret.as_ref();
            now.is_some_and(|now| Arc::ptr_eq(now, before))
        };
        if let (Some(held), Some(secret)) = (self.account.secret.as_ref(), secret)
            && is_kept(held)
            && !held.same_source(secret)
        {
            held.replace_with(secret);
            account.keeper.try_again();
        }
        if !Arc::ptr_eq(&self.account.keeper, &account.keeper) {
            return Self::new(account);
        }
        Self {
            account,
            renewal: self.renewal,
            listeners: Vec::new(),
        }
    }
}

impl AccountsError {
    fn of(account: &str, reason: impl Into<Unserved>) -> Self {
        Self {
            account: account.to_owned(),
            reason: reason.into(),
        }
    }
}
