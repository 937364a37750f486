//! The token in hand and the store are brought together: the newer of the two is everybody's.

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

impl<I: TokenSource, S: Store> Shared<I, S> {
    /// Looks what others have put in place, and puts the token in hand there if it is the newer.
    pub(super) async fn follow(&self) -> Option<Token> {
        let turn = self.state().turn()?;
        if self.state().heartbeat_is_due() {
            // Where nobody can write, some can read.
            let _ = self.heartbeat().await;
        }
        let mut found = self.read(self.store.read().await).ok()?;
        if found.token.is_none() {
            // Whoever took it away may be about to fetch another.
            sleep(Duration::from_millis(fastrand::u64(500..2000))).await;
            found = self.read(self.store.read().await).ok()?;
        }
        let course = {
            let mut known = self.state();
            if known.turn() != Some(turn) {
                return None;
            }
            let course = known.reconcile(&found, self.store.ttl_skew());
            if let Reconcile::Take(held) = &course {
                known.has(&Token::new(held.value.clone(), held.lives));
            }
            course
        };
        match course {
            Reconcile::Take(held) => Some(Token::new(held.value, held.lives)),
            Reconcile::Offer { over, mine } => {
                let over = over.map(|held| held.value);
                self.offer(over.as_ref(), &mine).await;
                None
            }
            Reconcile::Stay => None,
        }
    }

    /// Somebody else has put something in place meanwhile: which of the two is it to be?
    pub(super) async fn settle(&self, issued: FetchedToken) -> FetchedToken {
        let Ok(found) = self.read(self.store.read().await) else {
            return issued;
        };
        let course = self.state().reconcile(&found, self.store.ttl_skew());
        match course {
            Reconcile::Take(held) => FetchedToken {
                token: Token::new(held.value, held.lives),
                ..issued
            },
            Reconcile::Offer { over, mine } => {
                let over = over.map(|held| held.value);
                self.offer(over.as_ref(), &mine).await;
                issued
            }
            Reconcile::Stay => issued,
        }
    }

    /// Puts the token in hand in place of an older one, or of nothing, while nobody fetches.
    async fn offer(&self, over: Option<&Secret>, mine: &StoredToken) {
        let put = self.store.compare_and_set(None, over, mine).await;
        if self.written(put) == Ok(SetOutcome::Done) {
            self.state().is_shared();
            self.metrics.store(StoreEvent::Restored);
            tracing::info!("the token in hand was put into the store");
        }
    }

    /// Says that this replica is here, and hears how many there are.
    pub(super) async fn heartbeat(&self) -> Result<(), StoreError> {
        let replicas = self.written(self.store.heartbeat(&self.replica).await)?;
        self.state().heard_replicas(replicas);
        Ok(())
    }
}
