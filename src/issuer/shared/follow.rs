//! The token in hand and the store are brought together: the newer of the two is everybody's.

use tokio::time::{Duration, sleep};

use super::{
    super::{
        Issue, Issued,
        store::{Held, Put, Store, StoreError},
    },
    Shared,
    known::Course,
};
use crate::{metrics::StoreEvent, secret::Secret, token::Token};

impl<I: Issue, S: Store> Shared<I, S> {
    /// Looks what others have put in place, and puts the token in hand there if it is the newer.
    pub(super) async fn follow(&self) -> Option<Token> {
        let turn = self.known().turn()?;
        if self.known().is_to_attend() {
            // Where nobody can write, some can read.
            let _ = self.attend().await;
        }
        let mut found = self.read(self.store.read().await).ok()?;
        if found.token.is_none() {
            // Whoever took it away may be about to fetch another.
            sleep(Duration::from_millis(fastrand::u64(500..2000))).await;
            found = self.read(self.store.read().await).ok()?;
        }
        let course = {
            let mut known = self.known();
            if known.turn() != Some(turn) {
                return None;
            }
            let course = known.course(&found, self.store.slack());
            if let Course::Take(held) = &course {
                known.has(&Token::new(held.value.clone(), held.lives));
            }
            course
        };
        match course {
            Course::Take(held) => Some(Token::new(held.value, held.lives)),
            Course::Offer { over, mine } => {
                let over = over.map(|held| held.value);
                self.offer(over.as_ref(), &mine).await;
                None
            }
            Course::Stay => None,
        }
    }

    /// Somebody else has put something in place meanwhile: which of the two is it to be?
    pub(super) async fn settle(&self, issued: Issued) -> Issued {
        let Ok(found) = self.read(self.store.read().await) else {
            return issued;
        };
        let course = self.known().course(&found, self.store.slack());
        match course {
            Course::Take(held) => Issued {
                token: Token::new(held.value, held.lives),
                ..issued
            },
            Course::Offer { over, mine } => {
                let over = over.map(|held| held.value);
                self.offer(over.as_ref(), &mine).await;
                issued
            }
            Course::Stay => issued,
        }
    }

    /// Puts the token in hand in place of an older one, or of nothing, while nobody fetches.
    async fn offer(&self, over: Option<&Secret>, mine: &Held) {
        let put = self.store.put(None, over, mine).await;
        if self.written(put) == Ok(Put::Done) {
            self.known().is_shared();
            self.metrics.store(StoreEvent::Restored);
            tracing::info!("the token in hand was put into the store");
        }
    }

    /// Says that this replica is here, and hears how many there are.
    pub(super) async fn attend(&self) -> Result<(), StoreError> {
        let replicas = self.written(self.store.attend(&self.replica).await)?;
        self.known().attended(replicas);
        Ok(())
    }
}
