//! Reconciles the current token with the store, so that all replicas use the newer one.

use tokio::time::{Duration, sleep};

use super::{Shared, replica_state::Reconcile};
use crate::{
    metrics::StoreEvent,
    secret::Secret,
    token::{
        Token,
        source::{
            FetchedToken, TokenSource,
            store::{SetOutcome, Store, StoreError, StoredToken},
        },
    },
};

impl<T: TokenSource, S: Store> Shared<T, S> {
    /// Returns the stored token if it is newer than the current one. If the current one is newer, stores it.
    pub(super) async fn poll_store(&self) -> Option<Token> {
        let generation = self.state().generation()?;
        if self.state().heartbeat_is_due() {
            // A store that cannot be written may still be readable.
            let _ = self.heartbeat().await;
        }
        let mut found = self.note_read(self.store.read().await).ok()?;
        if found.token.is_none() {
            // The replica that removed it may be about to fetch another.
            sleep(Duration::from_millis(fastrand::u64(500..2000))).await;
            found = self.note_read(self.store.read().await).ok()?;
        }
        let action = {
            let mut state = self.state();
            if state.generation() != Some(generation) {
                return None;
            }
            let action = state.reconcile(&found, self.store.ttl_skew());
            if let Reconcile::Take(stored) = &action {
                state.set_current(&self.token(stored));
            }
            action
        };
        match action {
            Reconcile::Take(stored) => Some(self.token(&stored)),
            Reconcile::Store { replaced, current } => {
                let replaced = replaced.map(|stored| stored.value);
                self.store_current(replaced.as_ref(), &current).await;
                None
            }
            Reconcile::Keep => None,
        }
    }

    /// Chooses between a fetched token and one that another replica has stored meanwhile.
    pub(super) async fn resolve_conflict(&self, fetched: FetchedToken) -> FetchedToken {
        let Ok(found) = self.note_read(self.store.read().await) else {
            return fetched;
        };
        let action = self.state().reconcile(&found, self.store.ttl_skew());
        match action {
            Reconcile::Take(stored) => FetchedToken {
                token: self.token(&stored),
                ..fetched
            },
            Reconcile::Store { replaced, current } => {
                let replaced = replaced.map(|stored| stored.value);
                self.store_current(replaced.as_ref(), &current).await;
                fetched
            }
            Reconcile::Keep => fetched,
        }
    }

    /// Stores the current token in place of `replaced`, unless a replica has the lease.
    async fn store_current(&self, replaced: Option<&Secret>, current: &StoredToken) {
        let outcome = self.store.compare_and_set(None, replaced, current).await;
        if self.note_write(outcome) == Ok(SetOutcome::Done) {
            self.state().set_shared();
            self.metrics.store(StoreEvent::Restored);
            let account = self.metrics.problems.account();
            tracing::info!(account, "the token in hand was put into the store");
        }
    }

    /// Tells the store that this replica is alive, and learns how many there are.
    pub(super) async fn heartbeat(&self) -> Result<(), StoreError> {
        let replicas = self.note_write(self.store.heartbeat(&self.replica).await)?;
        self.state().note_replicas(replicas);
        Ok(())
    }
}
