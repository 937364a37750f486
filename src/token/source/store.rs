//! The interface of a store in which replicas share a token.

use std::{fmt, future, io, sync::Arc};

use tokio::time::Duration;

use super::TokenError;
use crate::{secret::Secret, token::Expiry};

/// Holds one account's token, the lease under which one replica fetches it, and a note about the last
/// failure. All times are relative, so that clocks of different machines are never compared. Every call
/// ends within a second or two. After an error, the operation may have taken effect or not.
pub trait Store: Send + Sync + 'static {
    /// Reads everything at once.
    fn read(&self) -> impl Future<Output = Result<StoreState, StoreError>> + Send;

    /// Acquires the lease for `length`, unless another owner has it, and returns whether `owner` has it now.
    /// An owner that already has it extends it.
    fn acquire(
        &self,
        owner: &LeaseId,
        length: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Counts a fetch of `owner`, and returns the rest of its lease and the fetches in the current 24 hours.
    /// Returns `None`, and counts nothing, if the lease is lost.
    fn begin_fetch(
        &self,
        owner: &LeaseId,
    ) -> impl Future<Output = Result<Option<FetchGrant>, StoreError>> + Send;

    /// Takes back the fetch that [`begin_fetch`](Self::begin_fetch) has counted, because it could not be
    /// sent. `owner` must still have the lease.
    fn refund(&self, owner: &LeaseId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores `token` until it expires, if the stored value is still `seen` (`None` for no token). With
    /// `Some(owner)`, that owner must have the lease, which ends. With `None`, nobody may have the lease.
    fn compare_and_set(
        &self,
        owner: Option<&LeaseId>,
        seen: Option<&Secret>,
        token: &StoredToken,
    ) -> impl Future<Output = Result<SetOutcome, StoreError>> + Send;

    /// Publishes a note to all replicas for `length`. Storing another token removes the note.
    fn publish(
        &self,
        note: &Note,
        length: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Releases the lease, if `owner` has it.
    fn release(&self, owner: &LeaseId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Whether another program has its own lock on fetching this token.
    fn is_locked_elsewhere(&self) -> impl Future<Output = Result<bool, StoreError>> + Send {
        future::ready(Ok(false))
    }

    /// Notes that `replica` is alive, and returns how many replicas were within [`HEARTBEAT_TTL`].
    fn heartbeat(&self, replica: &LeaseId) -> impl Future<Output = Result<u32, StoreError>> + Send;

    /// How much shorter than real the lifetimes in the store may be. A stored token that seems older by
    /// less than this may be the newer one.
    fn ttl_skew(&self) -> Duration {
        Duration::from_secs(2)
    }
}

/// A replica without a heartbeat for this long no longer counts.
pub const HEARTBEAT_TTL: Duration = Duration::from_secs(180);

/// The content of a store.
#[derive(Clone, Debug, Default)]
pub struct StoreState {
    /// The stored token.
    pub token: Option<StoredToken>,
    /// The note of another replica.
    pub note: Option<Note>,
    /// Whether somebody has the lease.
    pub leased: bool,
}

/// A token in a store.
#[derive(Clone)]
pub struct StoredToken {
    /// The token itself.
    pub value: Secret,
    /// Its remaining lifetime.
    pub remaining: Duration,
    /// Whether it is known when it expires. Only a ticket's may be unknown.
    pub expiry: Expiry,
}

impl fmt::Debug for StoredToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredToken")
            .field("remaining", &self.remaining)
            .finish_non_exhaustive()
    }
}

/// The random id of an owner of a lease, or of a replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseId(Arc<str>);

impl LeaseId {
    /// A new id.
    pub fn random() -> Self {
        Self(format!("{:032x}", fastrand::u128(..)).into())
    }

    /// The id as text: 32 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Permission to fetch, for the owner of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchGrant {
    /// The rest of the lease.
    pub left: Duration,
    /// The number of fetches in the current 24 hours, including this one.
    pub fetches: u32,
}

/// The outcome of [`Store::compare_and_set`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetOutcome {
    /// The token is stored.
    Done,
    /// Another value was stored than the expected one.
    Changed,
    /// The lease is not in the required state.
    NotLeased,
}

/// A reply of WeChat's that saves other replicas the same request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// WeChat refused to issue a token.
    Refused {
        /// The error.
        error: TokenError,
        /// The number of refusals in a row, from 1.
        count: u32,
        /// The fingerprint of the secret that was refused.
        credential_fingerprint: u16,
    },
    /// WeChat returned the stored token or ticket again. For a token, although it refused a call with it.
    Confirmed,
}

/// Why a store could not be used. It holds no URL, no credentials and no token. The subject of the texts,
/// 'it', is the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be connected.
    #[error("it cannot be connected to: {0}")]
    Connect(io::ErrorKind),
    /// Its name has no address.
    #[error("its name cannot be resolved: {0}")]
    Resolve(String),
    /// Connecting takes too long.
    #[error("it cannot be connected to in time")]
    ConnectTimedOut,
    /// TLS cannot verify a name like its own.
    #[error("its name is none that TLS can check")]
    ServerName,
    /// The TLS handshake failed.
    #[error("TLS with it failed: {0}")]
    Tls(String),
    /// A reply takes too long.
    #[error("it does not answer in time")]
    NoReply,
    /// A failure of Redis with a known cause.
    #[error("{0}")]
    Redis(&'static str),
    /// Redis replied with another error code.
    #[error("it answered {0}")]
    Reply(String),
    /// The store answers, but the value under the token's key is not a token.
    #[error("{0}")]
    ForeignValue(ForeignValue),
    /// Its ACL does not allow a command.
    #[error(
        "its ACL forbids the command {0}: allow +{lower}, or all commands that \
         'ACL' in the documents on replicas lists",
        lower = .0.to_ascii_lowercase()
    )]
    ForbiddenCommand(String),
    /// Its ACL does not allow a key.
    #[error(
        "its ACL forbids a key: allow those that 'ACL' in the documents on replicas lists, for \
         this store-format and store-prefix"
    )]
    ForbiddenKey,
    /// Any other store, such as one of a test, failed.
    #[error("{0}")]
    Other(String),
}

/// A value under the token's key that is no token. Another program wrote it, and shares a token there in a way
/// that is not understood. So it is neither overwritten, nor is a token fetched beside it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key {key} holds {form}, which is no token: {}", .form.advice())]
pub struct ForeignValue {
    /// The key.
    pub key: String,
    /// What the value looks like.
    pub form: ValueForm,
}

/// What a value looks like. It holds nothing of the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueForm {
    /// No bytes.
    #[error("an empty value")]
    Empty,
    /// What Redisson, or Spring's JdkSerializationRedisSerializer, makes of a string.
    #[error("a string in a binary codec of Java's, such as Redisson's default")]
    JavaCodec,
    /// JSON in a format without it.
    #[error("JSON")]
    Json,
    /// A text in a format of JSON.
    #[error("a text that is not in JSON")]
    NotJson,
    /// A text with blanks, or a long one.
    #[error("a text of {0} bytes that is not one word")]
    Text(usize),
    /// Other bytes.
    #[error("{0} binary bytes")]
    Binary(usize),
    /// Not a string of Redis: the name of its type.
    #[error("a {0} instead of a string")]
    OtherType(String),
}

impl ValueForm {
    /// What the operator can do about it.
    fn advice(&self) -> &'static str {
        match self {
            Self::JavaCodec | Self::Binary(_) => {
                "let that program write plain strings (StringCodec for Redisson, \
                 StringRedisSerializer for Spring), then delete the key"
            }
            Self::Json | Self::NotJson => {
                "set store-format to what that program writes, or store-prefix to keys that it does not \
                 use, or delete the key"
            }
            Self::Empty | Self::Text(_) | Self::OtherType(_) => {
                "delete the key, and set store-prefix if a program needs it"
            }
        }
    }
}
