//! The accounts that are served: opened, changed and let go while calls go on.

use std::sync::Arc;

use tokio::{
    sync::{Semaphore, watch},
    task::{AbortHandle, JoinSet},
};

use crate::{
    account::{Account, Directory, Means, Options},
    address::Address,
    secret::SecretSource,
    server::{Farewell, Listener, Owner, Workers},
};

/// Accounts, and what each keeps going.
pub(super) struct Served {
    means: Means,
    directory: Directory,
    kept: Vec<Kept>,
    /// Connections of apps at once.
    room: usize,
}

/// What an account keeps going, until this is dropped.
struct Kept {
    account: Arc<Account>,
    renewal: Renewal,
    listeners: Vec<Open>,
}

/// The task that renews a token.
struct Renewal(AbortHandle);

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A listener that is open until this is dropped.
#[derive(Debug)]
pub(super) struct Open {
    /// As it was configured.
    address: Address,
    owner: Owner,
}

/// Opens listeners, and waits for their end.
pub(super) struct Doors {
    workers: Arc<Workers>,
    room: Arc<Semaphore>,
    farewell: Farewell,
    tasks: JoinSet<()>,
}

/// What an account of a new configuration will be, if all of it is possible.
struct Next {
    account: Arc<Account>,
    /// What its secret follows then.
    secret: Option<Arc<SecretSource>>,
    bound: Vec<Bound>,
}

enum Bound {
    /// Open already, for this account or another.
    Before(Address),
    New(Address, Listener),
}

/// How many accounts came, changed and went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) added: usize,
    pub(super) changed: usize,
    pub(super) removed: usize,
}

impl Doors {
    pub(super) fn new(workers: Arc<Workers>, room: Arc<Semaphore>, farewell: Farewell) -> Self {
        Self {
            workers,
            room,
            farewell,
            tasks: JoinSet::new(),
        }
    }

    /// Lets calls in at `listener`, which is configured as `address`: those of the account with this
    /// id, or of all.
    pub(super) fn open(
        &mut self,
        address: Address,
        listener: Listener,
        account: Option<&str>,
    ) -> Open {
        let (owner, owned) = watch::channel(account.map(Into::into));
        self.tasks.spawn(listener.serve(
            self.workers.clone(),
            self.room.clone(),
            self.farewell.clone(),
            owned,
        ));
        Open { address, owner }
    }

    /// Waits until all are closed.
    pub(super) async fn closed(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Served {
    /// Opens accounts by `means`. The error names the account.
    pub(super) fn new(accounts: &[Options], means: Means, room: usize) -> Result<Self, String> {
        let mut kept = Vec::new();
        for options in accounts {
            let account = options.open(&means);
            kept.push(Kept::new(Arc::new(
                account.map_err(|problem| of(options, &problem))?,
            )));
        }
        let all = kept.iter().map(|kept: &Kept| kept.account.clone());
        let directory = Directory::new(all.collect(), means.fingerprints().clone());
        let served = Self {
            means,
            directory,
            kept,
            room,
        };
        served.share_room();
        Ok(served)
    }

    /// Where there are others, the calls that wait for one account's token take a part of all
    /// connections and no more.
    fn share_room(&self) {
        let most = if self.kept.len() > 1 {
            (self.room / 4).max(1)
        } else {
            usize::MAX
        };
        for kept in &self.kept {
            kept.account.keeper.let_wait(most);
        }
    }

    /// The accounts as calls see them.
    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Keeps `open` for as long as the account with this id.
    pub(super) fn keep(&mut self, id: &str, open: Open) {
        if let Some(kept) = self.kept.iter_mut().find(|kept| kept.account.id() == id) {
            kept.listeners.push(open);
        }
    }

    /// Serves `accounts` from now on. Those that are the same stay untouched, those that changed
    /// keep the token in hand if it is one of theirs, and calls in flight go on with what they have.
    /// An error changes nothing.
    pub(super) async fn change(
        &mut self,
        accounts: Vec<Options>,
        doors: &mut Doors,
    ) -> Result<Change, String> {
        let mut all = Vec::new();
        for options in accounts {
            let id = options.id().to_owned();
            let next = self.next(options).await;
            all.push(next.map_err(|problem| format!("account {id}: {problem}"))?);
        }
        // From here on nothing fails.
        let mut before = std::mem::take(&mut self.kept);
        let mut change = Change::default();
        let mut open: Vec<Open> = before
            .iter_mut()
            .flat_map(|kept| kept.listeners.drain(..))
            .collect();
        let accounts = all.iter().map(|next| next.account.clone());
        self.directory.replace(accounts.collect());
        for next in all {
            let Next {
                account,
                secret,
                bound,
            } = next;
            let at = before.iter().position(|kept| kept.is(&account));
            let mut kept = match at.map(|at| before.swap_remove(at)) {
                None => {
                    change.added += 1;
                    Kept::new(account)
                }
                Some(before) if Arc::ptr_eq(&before.account, &account) => before,
                Some(before) => {
                    change.changed += 1;
                    before.become_(account, secret.as_deref())
                }
            };
            for bound in bound {
                let id = kept.account.id();
                kept.listeners.extend(match bound {
                    Bound::New(address, listener) => {
                        tracing::info!(account = id, address = %listener.address(), "listening");
                        Some(doors.open(address, listener, Some(id)))
                    }
                    Bound::Before(address) => take(&mut open, &address, id),
                });
            }
            self.kept.push(kept);
        }
        change.removed = before.len();
        self.share_room();
        Ok(change)
    }

    async fn next(&self, options: Options) -> Result<Next, String> {
        let before = self
            .kept
            .iter()
            .find(|kept| kept.account.id() == options.id());
        let before = before.map(|kept| &kept.account);
        let account = match before {
            Some(before) if before.options == options => before.clone(),
            Some(before) => Arc::new(options.open_after(before, &self.means)?),
            None => Arc::new(options.open(&self.means)?),
        };
        let is_open = |address: &Address| {
            let its = |kept: &&Kept| address.is_definite() || kept.account.id() == options.id();
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
                Bound::Before(address.clone())
            } else {
                let listener = Listener::bind(address).await;
                let listener = listener
                    .map_err(|error| format!("listen: {address} cannot be listened on: {error}"))?;
                Bound::New(address.clone(), listener)
            });
        }
        Ok(Next {
            account,
            secret: options.secret,
            bound,
        })
    }
}

impl Kept {
    /// Begins to renew its token. It must be called on a runtime.
    fn new(account: Arc<Account>) -> Self {
        let renewal = tokio::spawn(account.keeper.clone().run());
        Self {
            account,
            renewal: Renewal(renewal.abort_handle()),
            listeners: Vec::new(),
        }
    }

    fn is(&self, account: &Account) -> bool {
        self.account.id() == account.id()
    }

    /// The same account with other options, whose secret is now the one that `secret` is.
    fn become_(self, account: Arc<Account>, secret: Option<&SecretSource>) -> Self {
        let is_kept = |before: &Arc<SecretSource>| {
            let now = account.secret.as_ref();
            now.is_some_and(|now| Arc::ptr_eq(now, before))
        };
        if let (Some(held), Some(secret)) = (self.account.secret.as_ref(), secret)
            && is_kept(held)
            && !held.is_like(secret)
        {
            held.follow(secret);
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

/// The open listener at `address`, which is the account's with this id from now on.
fn take(open: &mut Vec<Open>, address: &Address, id: &str) -> Option<Open> {
    let is_its = |open: &Open| open.owner.borrow().as_deref() == Some(id);
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

fn of(options: &Options, problem: &str) -> String {
    format!("account {}: {problem}", options.id())
}
