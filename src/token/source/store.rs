//! A place that replicas share a token in: what it holds, and what can be done to it.

use std::{fmt, sync::Arc};

use tokio::time::Duration;

use super::TokenError;
use crate::secret::Secret;

/// A place for one account's token, for the lease under which one replica fetches it, and for a note
/// of the last failure. All times are relative, so that no two clocks are ever compared. Every call
/// ends within a second or so, with an error if need be; an error may mean that the step was taken
/// all the same.
pub trait Store: Send + Sync + 'static {
    /// Everything that is there, in one look.
    fn read(&self) -> impl Future<Output = Result<StoreState, StoreError>> + Send;

    /// Takes the lease for `length`, unless another has it, and says whether it is now `owner`'s. Who
    /// has it already has it for `length` again.
    fn acquire(
        &self,
        owner: &LeaseId,
        length: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// How long the lease is still `owner`'s, and how many fetches this one makes in the current
    /// 24 hours: it is counted. `None` when the lease is not its own any more.
    fn begin_fetch(
        &self,
        owner: &LeaseId,
    ) -> impl Future<Output = Result<Option<FetchGrant>, StoreError>> + Send;

    /// The fetch that [`ready`](Self::ready) has counted for `owner`, whose lease it still is, could
    /// not be sent: it does not count.
    fn refund(&self, owner: &LeaseId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Puts `token` in place, to vanish after its life, if what is there is still `seen` (`None` for
    /// nothing), whatever it is now said to live. With `Some(owner)` only under that owner's lease,
    /// which ends with it; without one only while nobody has the lease.
    fn compare_and_set(
        &self,
        owner: Option<&LeaseId>,
        seen: Option<&Secret>,
        token: &StoredToken,
    ) -> impl Future<Output = Result<SetOutcome, StoreError>> + Send;

    /// Leaves a note to all who want a token, to vanish after `length`. A token put in place takes it
    /// away, save one that confirms the token in place.
    fn publish(
        &self,
        note: &Note,
        length: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends the lease, if it is `owner`'s.
    fn release(&self, owner: &LeaseId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Notes that `replica` is here, and says how many have been in the last [`PRESENT`].
    fn heartbeat(&self, replica: &LeaseId) -> impl Future<Output = Result<u32, StoreError>> + Send;

    /// By how much the expiry that others write may be shorter than the token's real life: by this
    /// much a token that seems older may yet be newer.
    fn ttl_skew(&self) -> Duration {
        Duration::from_secs(2)
    }
}

/// Who has not been heard of for so long is no replica any more.
pub const HEARTBEAT_TTL: Duration = Duration::from_secs(180);

/// What a store holds.
#[derive(Clone, Debug, Default)]
pub struct StoreState {
    /// The token in place.
    pub token: Option<StoredToken>,
    /// What others were told.
    pub note: Option<Note>,
    /// Whether somebody has the lease.
    pub leased: bool,
}

/// A token in a store.
#[derive(Clone)]
pub struct StoredToken {
    /// The token itself.
    pub value: Secret,
    /// How long it still lives.
    pub lives: Duration,
}

impl fmt::Debug for StoredToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("lives", &self.lives)
            .finish_non_exhaustive()
    }
}

/// Who has a lease: random, so that no two are alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseId(Arc<str>);

impl LeaseId {
    /// Somebody new.
    pub fn random() -> Self {
        Self(format!("{:032x}", fastrand::u128(..)).into())
    }

    /// As the store knows it: 32 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the owner of a lease may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchGrant {
    /// How long nobody else will.
    pub left: Duration,
    /// How many fetches there are in the current 24 hours, with this one.
    pub fetches: u32,
}

/// What became of a token that was to be put in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetOutcome {
    /// It is there.
    Done,
    /// Something else was there than had been seen.
    Changed,
    /// The lease is not, or no longer, as it has to be.
    NotLeased,
}

/// What a replica learned from WeChat, for those that would ask the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// WeChat refused to issue a token.
    Refused {
        /// What it said.
        error: TokenError,
        /// Which refusal in a row it is, from 1.
        count: u32,
        /// The circumstances it was said in, beside the account.
        credential_fingerprint: u16,
    },
    /// WeChat says that the token in place is the one to use, though a call was refused with it; or
    /// that the ticket in place is still the one.
    Confirmed,
}

/// Why a store could not be used. It holds no URL, no credentials and no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);
