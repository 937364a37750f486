//! The listeners that are open, each for one account or for all.

use std::{collections::HashMap, sync::Arc};

use tokio::{sync::watch, task::JoinSet};

use crate::{
    net::listen_addr::ListenAddr,
    server::{Drain, Listener, SocketOwner, Workers},
};

/// A listener that is open until this is dropped.
#[derive(Debug)]
pub(super) struct OpenListener {
    /// Its address as it was configured.
    pub(super) address: ListenAddr,
    owner: SocketOwner,
}

/// Opens listeners, and waits for their end.
pub(super) struct Listeners {
    workers: Arc<Workers>,
    drain: Drain,
    tasks: JoinSet<()>,
}

/// Open listeners that may get other owners, by their addresses. Those that are left are closed with this.
#[derive(Default)]
pub(super) struct SpareListeners(HashMap<ListenAddr, Vec<OpenListener>>);

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
        // Those that a reload has closed.
        while self.tasks.try_join_next().is_some() {}
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

impl SpareListeners {
    /// Adds one.
    pub(super) fn add(&mut self, open: OpenListener) {
        self.0.entry(open.address.clone()).or_default().push(open);
    }

    /// Takes the open listener at `address`, and makes it that of the account with this id.
    pub(super) fn take(&mut self, address: &ListenAddr, id: &str) -> Option<OpenListener> {
        let is_its = |open: &OpenListener| open.owner.borrow().as_deref() == Some(id);
        let open = self.0.get_mut(address)?;
        let at = open.iter().position(is_its).unwrap_or(0);
        if open.is_empty() {
            return None;
        }
        let open = open.swap_remove(at);
        if !is_its(&open) {
            open.owner.send_replace(Some(id.into()));
        }
        Some(open)
    }
}
