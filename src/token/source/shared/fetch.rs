//! One wish, through the store: what is there, or the lease and a fetch, or what others fetch.

use std::sync::Arc;

use tokio::time::{Duration, Instant, sleep, timeout};

use super::Shared;
use crate::{
    metrics::{Cause, Kept, StoreEvent},
    token::{
        Token,
        source::{
            FetchRequest, FetchedToken, TokenError, TokenSource,
            store::{LeaseId, Note, SetOutcome, Store, StoreError, StoreState, StoredToken},
        },
    },
};

/// How long one may fetch before others try.
const LEASE: Duration = Duration::from_secs(20);

/// What must be left of the lease to begin a fetch: more than a token request may take.
const NEEDED: Duration = Duration::from_secs(14);

/// What is left of the lease when a fetch is given up, to say so.
const RESERVE: Duration = Duration::from_secs(2);

/// The shortest and the longest pause between two looks at the store while another fetches.
const POLLS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(300));

/// How long to wait for others at most.
const LONGEST_WAIT: Duration = Duration::from_secs(45);

/// The longest that a note binds others.
const LONGEST_NOTE: Duration = Duration::from_secs(3600);

/// A token that lives longer is not renewed when the day's fetches are spent.
const SOON: Duration = Duration::from_secs(600);

/// How long nobody asks again whether a refused token is still the one to use.
const CONFIRMED: Duration = Duration::from_secs(10);

impl<I: TokenSource, S: Store> Shared<I, S> {
    /// Through the store; it fails with the store, but not once WeChat has been asked.
    pub(super) async fn fetch_leased(
        &self,
        wanted: &FetchRequest,
        owner: &LeaseId,
    ) -> Result<Result<FetchedToken, TokenError>, StoreError> {
        let began = Instant::now();
        let modesty = self.state().deference();
        let mut free_since = None;
        let (mut pause, longest) = POLLS;
        let mut waits = false;
        loop {
            let found = self.read(self.store.read().await)?;
            if let Some(outcome) = self.settled(wanted, &found) {
                return Ok(outcome);
            }
            // One that is leased may be so by our own step whose answer was lost.
            if !found.leased || self.state().perhaps_leased {
                let since = *free_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= modesty
                    && self.take(owner).await?
                    && let Some(outcome) = self.leased(wanted, owner).await?
                {
                    return Ok(outcome);
                }
            } else {
                free_since = None;
            }
            if found.leased && !std::mem::replace(&mut waits, true) {
                self.metrics.store(StoreEvent::Wait);
            }
            if began.elapsed() > LONGEST_WAIT {
                return Ok(Err(TokenError::Slow));
            }
            sleep(pause.mul_f64(0.75 + 0.5 * fastrand::f64())).await;
            pause = (pause * 3 / 2).min(longest);
        }
    }

    /// What is in the store answers the wish, or forbids it.
    fn settled(
        &self,
        wanted: &FetchRequest,
        found: &StoreState,
    ) -> Option<Result<FetchedToken, TokenError>> {
        let mut known = self.state();
        let held = found.token.as_ref();
        if let Some(held) = held.filter(|held| known.takes(held, wanted)) {
            return Some(Ok(shared(held)));
        }
        match found.note.as_ref()? {
            Note::Confirmed => {
                let before = wanted.current.as_ref()?;
                let same = held.filter(|held| held.value == *before.value())?;
                let answers = match wanted.cause {
                    Cause::Refusal => true,
                    Cause::Renewal => self.inner.kept() == Kept::Ticket,
                    Cause::Missing => false,
                };
                answers.then(|| Ok(shared(same)))
            }
            Note::Refused {
                error,
                count,
                credential_fingerprint: circumstances,
            } => {
                let same = *circumstances == self.inner.credential_fingerprint();
                known.binds(error, same).then(|| {
                    known.failures = known.failures.max(*count);
                    Err(TokenError::Elsewhere(Box::new(error.clone())))
                })
            }
        }
    }

    async fn take(&self, owner: &LeaseId) -> Result<bool, StoreError> {
        self.state().perhaps_leased = true;
        let taken = self.written(self.store.acquire(owner, LEASE).await)?;
        self.state().perhaps_leased = false;
        if taken {
            self.metrics.store(StoreEvent::Lease);
        }
        Ok(taken)
    }

    /// Under the lease. `None` when it was lost before anything was sent.
    async fn leased(
        &self,
        wanted: &FetchRequest,
        owner: &LeaseId,
    ) -> Result<Option<Result<FetchedToken, TokenError>>, StoreError> {
        self.state().perhaps_leased = true;
        let found = self.read(self.store.read().await)?;
        if let Some(outcome) = self.settled(wanted, &found) {
            self.release(owner).await;
            return Ok(Some(outcome));
        }
        let Some(ready) = self.written(self.store.begin_fetch(owner).await)? else {
            self.state().perhaps_leased = false;
            return Ok(None);
        };
        if ready.left < NEEDED {
            self.release(owner).await;
            return Ok(None);
        }
        if ready.fetches > self.daily_fetches && !is_urgent(wanted) {
            self.release(owner).await;
            return Ok(Some(Err(TokenError::Spent(self.daily_fetches))));
        }
        let fetch = timeout(ready.left - RESERVE, self.ask(wanted));
        let outcome = fetch.await.unwrap_or(Err(TokenError::Slow));
        Ok(Some(match outcome {
            Ok(issued) => Ok(self.publish(wanted, owner, found.token, issued).await),
            Err(error) => {
                self.publish_failure(&error).await;
                // Or an outage of WeChat, in which many try, would use up the day's fetches.
                if matches!(error, TokenError::Unreachable(_)) {
                    let _ = self.written(self.store.refund(owner).await);
                }
                self.release(owner).await;
                Err(error)
            }
        }))
    }

    /// Asks WeChat. The life of a token is counted from the request, so that of two requests that
    /// overlap the later one's token is the newer.
    pub(super) async fn ask(&self, wanted: &FetchRequest) -> Result<FetchedToken, TokenError> {
        let asked = Instant::now();
        let FetchedToken { token, fetched } = self.inner.fetch(wanted.clone()).await?;
        let lives = token.remaining().saturating_sub(asked.elapsed());
        let token = Token::new(token.value().clone(), lives);
        Ok(FetchedToken { token, fetched })
    }

    /// Puts what was fetched in place of what had been seen under the lease.
    async fn publish(
        &self,
        wanted: &FetchRequest,
        owner: &LeaseId,
        seen: Option<StoredToken>,
        issued: FetchedToken,
    ) -> FetchedToken {
        let seen = seen.map(|held| held.value);
        let same = seen.as_ref() == Some(issued.token.value());
        self.state().fetched(&issued.token, seen.as_ref());
        for _ in 0..2 {
            let held = held(&issued.token);
            let put = self
                .store
                .compare_and_set(Some(owner), seen.as_ref(), &held)
                .await;
            match self.written(put) {
                Ok(SetOutcome::Done) => {
                    self.state().is_shared();
                    let length = self.confirmed_for(wanted.cause, &issued.token);
                    if same && !length.is_zero() {
                        let _ = self.written(self.store.publish(&Note::Confirmed, length).await);
                    }
                    return issued;
                }
                Ok(SetOutcome::Changed | SetOutcome::NotLeased) => {
                    self.release(owner).await;
                    return self.settle(issued).await;
                }
                Err(_) => {}
            }
        }
        self.release(owner).await;
        issued
    }

    /// How long others need not ask what this one asked, when it brought `token` again.
    fn confirmed_for(&self, cause: Cause, token: &Token) -> Duration {
        match (cause, self.inner.kept()) {
            (Cause::Refusal, _) => CONFIRMED,
            // It is the same for hours, and all would ask each time.
            (Cause::Renewal, Kept::Ticket) => token.remaining() / 4,
            (Cause::Missing | Cause::Renewal, _) => Duration::ZERO,
        }
    }

    /// Lets those know who would ask the same.
    async fn publish_failure(&self, error: &TokenError) {
        let count = self.state().failed(error);
        let TokenError::Refused { kind: meaning, .. } = error else {
            return;
        };
        let (first, most) = meaning.back_off();
        let length = first.saturating_mul(1 << (count - 1).min(12)).min(most);
        // Ends before those come again who heard of it.
        let length = length.mul_f64(0.7).min(LONGEST_NOTE);
        let note = Note::Refused {
            error: error.clone(),
            count,
            credential_fingerprint: self.inner.credential_fingerprint(),
        };
        let _ = self.written(self.store.publish(&note, length).await);
    }

    pub(super) async fn release(&self, owner: &LeaseId) {
        if self.written(self.store.release(owner).await).is_ok() {
            self.state().perhaps_leased = false;
        }
    }
}

/// Whether there is no token, or none for long.
fn is_urgent(wanted: &FetchRequest) -> bool {
    let lives = |token: &Arc<Token>| token.remaining() > SOON;
    match wanted.cause {
        Cause::Missing => true,
        Cause::Renewal => !wanted.current.as_ref().is_some_and(lives),
        Cause::Refusal => false,
    }
}

fn held(token: &Token) -> StoredToken {
    StoredToken {
        value: token.value().clone(),
        lives: token.remaining(),
    }
}

fn shared(held: &StoredToken) -> FetchedToken {
    FetchedToken {
        token: Token::new(held.value.clone(), held.lives),
        fetched: false,
    }
}
