//! The accounts that are served. They are opened, changed and removed while calls go on.

use std::{io, sync::Arc};

use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use crate::{
    account::{Account, AccountError, AccountFactory, Directory, Options},
    net::listen_addr::ListenAddr,
    secret::SecretSource,
    server::{Drain, Listener, SocketOwner, Speaks, Workers},
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

/// A listener that is open until this is dropped.
#[derive(Debug)]
pub(super) struct OpenListener {
    /// Its address as it was configured.
    address: ListenAddr,
    owner: SocketOwner,
}

/// Opens listeners, and waits for their end.
pub(super) struct Listeners {
    workers: Arc<Workers>,
    drain: Drain,
    tasks: JoinSet<()>,
}

/// An account of a new configuration, before all of that is known to be possible.
struct Update {
    account: Arc<Account>,
    /// The source that its secret will use.
    secret: Option<Arc<SecretSource>>,
    bound: Vec<NewListener>,
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

impl Listeners {
    pub(super) fn new(workers: Arc<Workers>, drain: Drain) -> Self {
        Self {
            workers,
            drain,
            tasks: JoinSet::new(),
        }
    }

    /// Opens `listener`, which is configured as `address`, for calls of the account with this id, or of all accounts.
    pub(super) fn open(
        &mut self,
        address: ListenAddr,
        listener: Listener,
        account: Option<&str>,
    ) -> OpenListener {
        let (owner, owned) = watch::channel(account.map(Into::into));
        self.tasks
            .spawn(listener.serve(self.workers.clone(), self.drain.clone(), owned));
        OpenListener { address, owner }
    }

    /// Waits until all listeners are closed.
    pub(super) async fn closed(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

impl ServedAccounts {
    /// Opens accounts with `factory`. The error names the account.
    pub(super) fn new(
        accounts: &[Arc<Options>],
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

    /// Keeps `open` open as long as the account with this id exists.
    pub(super) fn keep(&mut self, id: &str, open: OpenListener) {
        if let Some(kept) = self.kept.iter_mut().find(|kept| kept.account.id() == id) {
            kept.listeners.push(open);
        }
    }

    /// Serves `accounts` from now on. Those that are the same stay untouched, those that changed
    /// keep the token in hand if it is one of theirs, and calls in flight go on with what they have.
    /// An error changes nothing.
    pub(super) async fn change(
        &mut self,
        accounts: Vec<Arc<Options>>,
        listeners: &mut Listeners,
    ) -> Result<Change, AccountsError> {
        let mut all = Vec::new();
        for options in accounts {
            let id = options.id().to_owned();
            let next = self.next(options).await;
            all.push(next.map_err(|reason| AccountsError::of(&id, reason))?);
        }
        // From here on nothing fails.
        let mut before = std::mem::take(&mut self.kept);
        let mut change = Change::default();
        let mut open: Vec<OpenListener> = before
            .iter_mut()
            .flat_map(|kept| kept.listeners.drain(..))
            .collect();
        let accounts: Vec<_> = all.iter().map(|next| next.account.clone()).collect();
        self.factory.place_series(&accounts);
        self.directory.replace(accounts);
        self.fit_to_number();
        for next in all {
            let Update {
                account,
                secret,
                bound,
            } = next;
            let at = before.iter().position(|kept| kept.is(&account));
            let mut kept = match at.map(|at| before.swap_remove(at)) {
                None => {
                    change.added += 1;
                    ServedAccount::new(account)
                }
                Some(before) if Arc::ptr_eq(&before.account, &account) => before,
                Some(before) => {
                    change.changed += 1;
                    before.update(account, secret.as_deref())
                }
            };
            for bound in bound {
                let id = kept.account.id();
                kept.listeners.extend(match bound {
                    NewListener::New(address, listener) => {
                        tracing::info!(account = id, address = %listener.address(), "listening");
                        Some(listeners.open(address, listener, Some(id)))
                    }
                    NewListener::Before(address) => take(&mut open, &address, id),
                });
            }
            self.kept.push(kept);
        }
        change.removed = before.len();
        self.limit_waiters();
        Ok(change)
    }

    async fn next(&self, options: Arc<Options>) -> Result<Update, Unserved> {
        let before = self
            .kept
            .iter()
            .find(|kept| kept.account.id() == options.id());
        let before = before.map(|kept| &kept.account);
        let account = match before {
            Some(before) if *before.options == *options => before.clone(),
            Some(before) => Arc::new(options.open_after(before, &self.factory)?),
            None => Arc::new(options.open(&self.factory)?),
        };
        let is_open = |address: &ListenAddr| {
            let its =
                |kept: &&ServedAccount| address.is_definite() || kept.account.id() == options.id();
            let listeners = self
                .kept
                .iter()
                .filter(its)
                .flat_map(|kept| &kept.listeners);
            listeners
                .map(|open| &open.address)
                .any(|open| open == address)
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
            secret: options.secret.clone(),
            bound,
        })
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

    fn is(&self, account: &Account) -> bool {
        self.account.id() == account.id()
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

/// Takes the open listener at `address`, and makes it that of the account with this id.
fn take(open: &mut Vec<OpenListener>, address: &ListenAddr, id: &str) -> Option<OpenListener> {
    let is_its = |open: &OpenListener| open.owner.borrow().as_deref() == Some(id);
    let at = open
        .iter()
        .position(|open| open.address == *address && is_its(open))
        .or_else(|| open.iter().position(|open| open.address == *address))?;
    let open = open.swap_remove(at);
    if !is_its(&open) {
        open.owner.send_replace(Some(id.into()));
    }
    Some(open)
}

impl AccountsError {
    fn of(account: &str, reason: impl Into<Unserved>) -> Self {
        Self {
            account: account.to_owned(),
            reason: reason.into(),
        }
    }
}
