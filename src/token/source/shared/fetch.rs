//! One fetch through the store: it returns the stored token, fetches under the lease, or waits for another
//! replica.

use std::sync::Arc;

use tokio::time::{Duration, Instant, sleep, timeout};

use super::Shared;
use crate::{
    metrics::{Cause, Kept, StoreEvent},
    token::{
        Expiry, Token,
        source::{
            FetchRequest, FetchedToken, TokenError, TokenSource,
            lifetime::{TICKET_VOUCHED, USUAL},
            store::{LeaseId, Note, SetOutcome, Store, StoreError, StoreState, StoredToken},
        },
    },
};

/// The length of the lease. After it, others may fetch.
const LEASE_LENGTH: Duration = Duration::from_secs(20);

/// The rest of the lease that a fetch needs: more than the time limit of a token request.
const MIN_LEASE: Duration = Duration::from_secs(14);

/// The end of the lease that is reserved for publishing a failed fetch.
const RESERVE: Duration = Duration::from_secs(2);

/// The shortest and the longest pause between two reads of the store while another replica fetches.
const POLL_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(300));

/// The longest wait for another replica.
const MAX_WAIT: Duration = Duration::from_secs(45);

/// The longest lifetime of a note.
const MAX_NOTE: Duration = Duration::from_secs(3600);

/// The longest wait for another program that has locked the fetching of this token. WxJava's locks last for up to a
/// minute if their owner has died.
const MAX_FOREIGN_LOCK: Duration = Duration::from_secs(10);

/// A token with a longer remaining lifetime is not renewed after the day's fetches are spent.
const EXPIRES_SOON: Duration = Duration::from_secs(600);

/// How long a refused token counts as confirmed, so that no replica asks again.
const CONFIRMATION: Duration = Duration::from_secs(10);

/// How long a ticket counts as confirmed at most.
const TICKET_CONFIRMATION: Duration = Duration::from_secs(450);

impl<T: TokenSource, S: Store> Shared<T, S> {
    /// Fetches through the store, unless there is a foreign value. It returns an error of the store only if WeChat
    /// was not asked.
    pub(super) async fn fetch_through_store(
        &self,
        request: &FetchRequest,
        owner: &LeaseId,
    ) -> Result<Result<FetchedToken, TokenError>, StoreError> {
        match self.fetch_leased(request, owner).await {
            Err(StoreError::ForeignValue(foreign)) => Ok(Err(TokenError::ForeignValue(foreign))),
            outcome => outcome,
        }
    }

    /// Fetches under the lease, or waits for another replica. It returns an error of the store only if WeChat was not asked.
    async fn fetch_leased(
        &self,
        request: &FetchRequest,
        owner: &LeaseId,
    ) -> Result<Result<FetchedToken, TokenError>, StoreError> {
        let started = Instant::now();
        let deference = self.state().deference();
        let mut free_since = None;
        let mut locked_since = None;
        let (mut pause, max_pause) = POLL_PAUSES;
        let mut waiting = false;
        loop {
            let found = self.note_read(self.store.read().await)?;
            if let Some(outcome) = self.settle_by_store(request, &found) {
                return Ok(outcome);
            }
            // The lease may be our own, if the reply to our `acquire` was lost.
            if !found.leased || self.state().perhaps_leased {
                let since = *free_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= deference
                    && !self.must_wait(&mut locked_since).await?
                    && self.acquire(owner).await?
                    && let Some(outcome) = self.fetch_under_lease(request, owner).await?
                {
                    return Ok(outcome);
                }
            } else {
                free_since = None;
            }
            if found.leased && !std::mem::replace(&mut waiting, true) {
                self.metrics.store(StoreEvent::Wait);
            }
            if started.elapsed() > MAX_WAIT {
                return Ok(Err(TokenError::TimedOut));
            }
            sleep(pause.mul_f64(0.75 + 0.5 * fastrand::f64())).await;
            pause = (pause * 3 / 2).min(max_pause);
        }
    }

    /// Whether another program is about to fetch, which may take [`MAX_FOREIGN_LOCK`] from `locked_since` on.
    async fn must_wait(&self, locked_since: &mut Option<Instant>) -> Result<bool, StoreError> {
        let answer = self.store.is_locked_elsewhere().await;
        if !self.note(answer, |state| &mut state.unreadable)? {
            *locked_since = None;
            return Ok(false);
        }
        if locked_since.is_none() {
            self.metrics.store(StoreEvent::Wait);
        }
        let since = *locked_since.get_or_insert_with(Instant::now);
        Ok(since.elapsed() < MAX_FOREIGN_LOCK)
    }

    /// The outcome, if the token or the note in the store decides the request.
    fn settle_by_store(
        &self,
        request: &FetchRequest,
        found: &StoreState,
    ) -> Option<Result<FetchedToken, TokenError>> {
        let mut state = self.state();
        let stored = found.token.as_ref();
        if let Some(stored) = stored.filter(|stored| state.is_usable(stored, request)) {
            return Some(Ok(self.fetched_elsewhere(stored)));
        }
        if self.source.kept() == Kept::Ticket
            && let (Some(stored), Some(current)) = (stored, &request.current)
            && state.is_newer_ticket(stored, current)
        {
            return Some(Ok(self.fetched_elsewhere(stored)));
        }
        match found.note.as_ref()? {
            Note::Confirmed => {
                let before = request.current.as_ref()?;
                let same = stored.filter(|stored| stored.value == *before.value())?;
                let decides = match request.cause {
                    Cause::Refusal => true,
                    Cause::Renewal => self.source.kept() == Kept::Ticket,
                    Cause::Missing | Cause::Revoke => false,
                };
                decides.then(|| Ok(self.fetched_elsewhere(same)))
            }
            Note::Refused {
                error,
                count,
                credential_fingerprint,
            } => {
                let same = *credential_fingerprint == self.source.credential_fingerprint();
                state.applies(error, same).then(|| {
                    state.failures = state.failures.max(*count);
                    Err(TokenError::Elsewhere(Box::new(error.clone())))
                })
            }
        }
    }

    async fn acquire(&self, owner: &LeaseId) -> Result<bool, StoreError> {
        self.state().perhaps_leased = true;
        let acquired = self.note_write(self.store.acquire(owner, LEASE_LENGTH).await)?;
        self.state().perhaps_leased = false;
        if acquired {
            self.metrics.store(StoreEvent::Lease);
        }
        Ok(acquired)
    }

    /// Fetches under the lease. Returns `None` if the lease was lost before anything was sent.
    async fn fetch_under_lease(
        &self,
        request: &FetchRequest,
        owner: &LeaseId,
    ) -> Result<Option<Result<FetchedToken, TokenError>>, StoreError> {
        self.state().perhaps_leased = true;
        let found = self.note_read(self.store.read().await)?;
        if let Some(outcome) = self.settle_by_store(request, &found) {
            self.release(owner).await;
            return Ok(Some(outcome));
        }
        let Some(grant) = self.note_write(self.store.begin_fetch(owner).await)? else {
            self.state().perhaps_leased = false;
            return Ok(None);
        };
        if grant.left < MIN_LEASE {
            self.release(owner).await;
            return Ok(None);
        }
        if grant.fetches > self.daily_fetches && !is_urgent(request) {
            self.release(owner).await;
            return Ok(Some(Err(TokenError::BudgetSpent(self.daily_fetches))));
        }
        let fetch = timeout(grant.left - RESERVE, self.fetch_from_source(request));
        let outcome = fetch.await.unwrap_or(Err(TokenError::TimedOut));
        Ok(Some(match outcome {
            Ok(fetched) => Ok(self
                .store_fetched(request, owner, found.token, fetched)
                .await),
            Err(error) => {
                self.publish_failure(&error).await;
                // Otherwise the retries during an outage of WeChat would use up the day's fetches.
                if matches!(error, TokenError::Unreachable(_)) {
                    let _ = self.note_write(self.store.refund(owner).await);
                }
                self.release(owner).await;
                Err(error)
            }
        }))
    }

    /// Fetches from WeChat. The lifetime counts from the request, so that of two overlapping requests the later
    /// one has the newer token.
    pub(super) async fn fetch_from_source(
        &self,
        request: &FetchRequest,
    ) -> Result<FetchedToken, TokenError> {
        let started = Instant::now();
        let FetchedToken { token, fetched } = self.source.fetch(request.clone()).await?;
        let token = token.aged(started.elapsed());
        Ok(FetchedToken { token, fetched })
    }

    /// Stores a fetched token, if the stored one is still `seen`.
    async fn store_fetched(
        &self,
        request: &FetchRequest,
        owner: &LeaseId,
        seen: Option<StoredToken>,
        fetched: FetchedToken,
    ) -> FetchedToken {
        let seen = seen.map(|stored| stored.value);
        let same = seen.as_ref() == Some(fetched.token.value());
        self.state().fetched(&fetched.token, seen.as_ref());
        for _ in 0..2 {
            let stored = stored(&fetched.token);
            let outcome = self
                .store
                .compare_and_set(Some(owner), seen.as_ref(), &stored)
                .await;
            match self.note_write(outcome) {
                Ok(SetOutcome::Done) => {
                    self.state().set_shared();
                    let length = self.confirmation_length(request.cause, &fetched.token);
                    if same && !length.is_zero() {
                        let _ = self.note_write(self.store.publish(&Note::Confirmed, length).await);
                    }
                    return fetched;
                }
                Ok(SetOutcome::Changed | SetOutcome::NotLeased) => {
                    self.release(owner).await;
                    return self.resolve_conflict(fetched).await;
                }
                Err(_) => {}
            }
        }
        self.release(owner).await;
        fetched
    }

    /// How long other replicas need not fetch, if this one got `token` again.
    fn confirmation_length(&self, cause: Cause, token: &Token) -> Duration {
        match (cause, self.source.kept()) {
            (Cause::Refusal, _) => CONFIRMATION,
            // The ticket stays the same for hours, and all replicas would ask each time.
            (Cause::Renewal, Kept::Ticket) => (token.remaining() / 4).min(TICKET_CONFIRMATION),
            (Cause::Missing | Cause::Renewal | Cause::Revoke, _) => Duration::ZERO,
        }
    }

    /// Publishes a refusal to replicas that would send the same request.
    async fn publish_failure(&self, error: &TokenError) {
        let count = self.state().failed(error);
        let TokenError::Errcode { kind, .. } = error else {
            return;
        };
        let (first, most) = kind.back_off();
        let length = first.saturating_mul(1 << (count - 1).min(12)).min(most);
        // The note expires before the replicas that read it retry.
        let length = length.mul_f64(0.7).min(MAX_NOTE);
        let note = Note::Refused {
            error: error.clone(),
            count,
            credential_fingerprint: self.source.credential_fingerprint(),
        };
        let _ = self.note_write(self.store.publish(&note, length).await);
    }

    /// The token in the store. A ticket counts as fetched at the earliest time at which it may have been returned last.
    pub(super) fn token(&self, stored: &StoredToken) -> Token {
        let StoredToken {
            value,
            remaining,
            expiry,
        } = stored.clone();
        if self.source.kept() == Kept::Token {
            return Token::new(value, remaining);
        }
        let is_vouched = expiry == Expiry::Known && remaining <= TICKET_VOUCHED;
        let whole = if is_vouched { TICKET_VOUCHED } else { USUAL };
        let lifetime = remaining.max(whole);
        let token = Token::new(value, lifetime).with_expiry(expiry);
        token.aged(lifetime - remaining)
    }

    fn fetched_elsewhere(&self, stored: &StoredToken) -> FetchedToken {
        FetchedToken {
            token: self.token(stored),
            fetched: false,
        }
    }

    pub(super) async fn release(&self, owner: &LeaseId) {
        if self.note_write(self.store.release(owner).await).is_ok() {
            self.state().perhaps_leased = false;
        }
    }
}

/// Whether an operator wants another token, or there is none, or only one that expires soon.
fn is_urgent(request: &FetchRequest) -> bool {
    let lasts = |token: &Arc<Token>| token.remaining() > EXPIRES_SOON;
    match request.cause {
        Cause::Missing | Cause::Revoke => true,
        Cause::Renewal => !request.current.as_ref().is_some_and(lasts),
        Cause::Refusal => false,
    }
}

fn stored(token: &Token) -> StoredToken {
    StoredToken {
        value: token.value().clone(),
        remaining: token.remaining(),
        expiry: token.expiry(),
    }
}
