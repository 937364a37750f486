//! Endpoints that refuse calls whatever the token, as a state machine for each: `(state, event, now) → state`.
//!
//! | state | meaning | an accepted call | a call refused for good | then |
//! |---|---|---|---|---|
//! | – | nothing speaks against the endpoint | – | `Suspect` | |
//! | `Suspect` | some calls were refused for good | – | `Refusing` after the third different one | a refused call causes a fetch only if nothing else is accepted; the same call is not replayed if the endpoint never worked |
//! | `Refusing` | it refuses every call with this token | – | with another token: `RefusingAny` if it never worked | calls cause no fetch, and are not replayed |
//! | `RefusingAny` | it refuses every call with every token | – | stays | the same, for an hour |
//!
//! A call is refused for good when its replay is refused, too. That is practically never chance: for example, an API
//! that this type of account may not call always answers 40001, and a call with a mistake may get 40014. An endpoint
//! that accepts calls with the same token never gets to `Refusing`, nor does one on which other calls are open. One
//! that worked with another token gets there only when it refuses a token that was confirmed after its first refusal,
//! because before that the token may have been revoked between the two sends.
//!
//! The replies of a `Refusing` endpoint are cached. More than ten calls a second are answered from the cache, unless
//! other calls to it are open.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Extensions, HeaderMap, StatusCode};
use tokio::time::{Duration, Instant};

use crate::{
    shared_limit::{Forgets, SharedLimit},
    token::Token,
};

/// How many endpoints are kept for one account.
const MOST: usize = 256;

/// How many endpoints are kept for all accounts together.
const MOST_OF_ALL: usize = 4096;

/// Longer paths are not kept.
const LONGEST_PATH: usize = 256;

/// So many different calls must be refused for good before an endpoint refuses every call.
const DIFFERENT_CALLS: usize = 3;

/// How long a refusal counts whose token was not confirmed.
const UNCONFIRMED: Duration = Duration::from_secs(60);

/// How long an endpoint is suspect after its last refusal.
const SUSPECT: Duration = Duration::from_secs(600);

/// How long an endpoint is taken to refuse every token.
/// With the classic API each further attempt would revoke the token of all others.
const ANY_TOKEN: Duration = Duration::from_secs(3600);

/// How many calls a second are still sent to an endpoint that refuses every call.
const MAX_CALLS_PER_SECOND: u32 = 10;

/// After so many calls that were refused for good in a row, the endpoint is reported.
const REPORTED: u32 = 3;

/// How much of a body tells calls from each other.
const COMPARED: usize = 64 * 1024;

/// The hash of a call's query and body, which tells different calls of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallId(u64);

impl CallId {
    /// The id of a call with this query and body.
    pub fn of(query: Option<&str>, body: &[u8]) -> Self {
        let mut hash = DefaultHasher::new();
        (query, body.len(), &body[..body.len().min(COMPARED)]).hash(&mut hash);
        Self(hash.finish())
    }
}

/// A reply of WeChat's that refused the token.
#[derive(Clone, Debug)]
pub struct CachedRefusal {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// What else is known of its head.
    pub extensions: Extensions,
    /// Its body, whole.
    pub body: Bytes,
}

/// A call that was refused for good.
#[derive(Clone, Debug)]
pub struct RefusedCall {
    /// The call.
    pub call: CallId,
    /// The token that was refused last.
    pub token: Arc<Token>,
    /// Whether WeChat confirmed that the token is the current one.
    pub confirmed: bool,
    /// Whether the endpoint has accepted calls before.
    pub worked: bool,
    /// Whether it has accepted calls with this token, or other calls to it are open.
    pub may_work: bool,
}

/// What an account believes of an endpoint. See the table in the text of the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Suspect,
    Refusing,
    RefusingAny { until: Instant },
}

/// The state of an endpoint.
#[derive(Clone, Debug)]
struct EndpointState {
    stage: Stage,
    /// Different calls that were refused for good with the token.
    calls: Vec<CallId>,
    token: Arc<Token>,
    worked: bool,
    /// The first and the last refusal of this token.
    first_at: Instant,
    last_at: Instant,
    /// Until when this counts, while the token is not confirmed.
    until: Option<Instant>,
}

/// How a call will end, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// Nothing speaks against its endpoint.
    Nothing,
    /// Its endpoint has refused other calls for good.
    Suspect,
    /// It will be refused.
    Hopeless,
}

impl EndpointState {
    /// The transition for a call that was refused for good. An accepted call ends any state.
    fn step(before: Option<&Self>, refused: &RefusedCall, now: Instant) -> Self {
        let until = (!refused.confirmed).then(|| now + UNCONFIRMED);
        let new = Self {
            stage: Stage::Suspect,
            calls: vec![refused.call],
            token: refused.token.clone(),
            worked: refused.worked,
            first_at: now,
            last_at: now,
            until,
        };
        let Some(before) = before.filter(|before| before.is_current(now)) else {
            return new;
        };
        if !before.token.is(&refused.token) {
            let any = before.stage != Stage::Suspect && !refused.worked && refused.confirmed;
            let stage = match before.stage {
                Stage::RefusingAny { .. } => before.stage,
                _ if any => Stage::RefusingAny {
                    until: now + ANY_TOKEN,
                },
                _ => Stage::Suspect,
            };
            return Self { stage, ..new };
        }
        let mut calls = before.calls.clone();
        if !calls.contains(&refused.call) && calls.len() < DIFFERENT_CALLS {
            calls.push(refused.call);
        }
        let confirmed_since = refused.confirmed && refused.token.fetched_at() > before.first_at;
        let every_call = calls.len() == DIFFERENT_CALLS
            && !refused.may_work
            && (!refused.worked || confirmed_since);
        Self {
            stage: match before.stage {
                Stage::Suspect if every_call => Stage::Refusing,
                stage => stage,
            },
            calls,
            first_at: before.first_at,
            until: until.filter(|_| before.until.is_some()),
            ..new
        }
    }

    fn is_current(&self, now: Instant) -> bool {
        match self.stage {
            Stage::RefusingAny { until } => now < until,
            Stage::Refusing => self.until.is_none_or(|until| now < until),
            Stage::Suspect => now < self.until.unwrap_or(self.last_at + SUSPECT),
        }
    }

    /// What is known about `call` with `token`.
    fn known(&self, token: &Token, call: CallId, now: Instant) -> Outlook {
        if !self.is_current(now) {
            return Outlook::Nothing;
        }
        let this_token = self.token.is(token);
        match self.stage {
            Stage::RefusingAny { .. } => Outlook::Hopeless,
            Stage::Refusing if this_token => Outlook::Hopeless,
            Stage::Suspect if this_token && !self.worked && self.calls.contains(&call) => {
                Outlook::Hopeless
            }
            Stage::Refusing | Stage::Suspect => Outlook::Suspect,
        }
    }
}

/// An endpoint with its last refusal.
#[derive(Debug)]
struct RefusedEndpoint {
    path: Box<[u8]>,
    state: EndpointState,
    answer: CachedRefusal,
    /// How many calls were refused for good, and none accepted.
    refusals: u32,
    /// The start of the current second, and the calls in it.
    second_began: Instant,
    calls: u32,
}

/// The endpoints of an account that refuse calls, those refused longest ago first.
#[derive(Debug)]
pub struct RefusedEndpoints {
    /// So that nobody takes the lock while there are none.
    count: AtomicUsize,
    entries: Mutex<Vec<RefusedEndpoint>>,
    limit: Arc<SharedLimit>,
    this: Weak<Self>,
}

/// What bounds the endpoints of all accounts together.
pub fn limit() -> Arc<SharedLimit> {
    Arc::new(SharedLimit::new(MOST_OF_ALL))
}

impl RefusedEndpoints {
    /// None yet. All accounts share `limit`.
    pub fn new(limit: Arc<SharedLimit>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            count: AtomicUsize::new(0),
            entries: Mutex::default(),
            limit,
            this: this.clone(),
        })
    }

    /// A call to `path` was refused for good, with this `answer`. Returns whether this is the third in a row.
    pub fn add(&self, path: &[u8], refused: &RefusedCall, answer: CachedRefusal) -> bool {
        if path.len() > LONGEST_PATH {
            return false;
        }
        let now = Instant::now();
        let mut entries = self.lock();
        let before = entries.iter().position(|entry| *entry.path == *path);
        let before = before.map(|at| entries.remove(at));
        let is_new = before.is_none();
        let state = EndpointState::step(before.as_ref().map(|before| &before.state), refused, now);
        let refusals = before.as_ref().map_or(0, |before| before.refusals) + 1;
        let (second_began, calls) =
            before.map_or((now, 0), |before| (before.second_began, before.calls));
        let is_full = entries.len() == MOST;
        if is_full {
            entries.remove(0);
        }
        entries.push(RefusedEndpoint {
            path: path.into(),
            state,
            answer,
            refusals,
            second_began,
            calls,
        });
        self.count.store(entries.len(), Ordering::Relaxed);
        drop(entries);
        // Otherwise it took the place of another of the account's own.
        if is_new && !is_full {
            self.limit.remembered(self.this.clone());
        }
        refusals == REPORTED
    }

    /// What is known about a call to `path` with `token`. `call` is asked for only if something is known about the
    /// endpoint.
    pub fn known(&self, path: &[u8], token: &Token, call: impl FnOnce() -> CallId) -> Outlook {
        self.find(path, |entry| {
            entry.state.known(token, call(), Instant::now())
        })
        .unwrap_or(Outlook::Nothing)
    }

    /// Counts a call to `path` that is about to be sent with `token`. Returns the cached refusal if it is hopeless,
    /// and there have been too many calls in this second.
    pub fn cached_refusal(
        &self,
        path: &[u8],
        token: &Token,
        call: impl FnOnce() -> CallId,
    ) -> Option<CachedRefusal> {
        let now = Instant::now();
        self.find(path, |entry| {
            if entry.state.known(token, call(), now) != Outlook::Hopeless {
                return None;
            }
            if now - entry.second_began >= Duration::from_secs(1) {
                entry.second_began = now;
                entry.calls = 0;
            }
            entry.calls += 1;
            (entry.calls > MAX_CALLS_PER_SECOND).then(|| entry.answer.clone())
        })?
    }

    /// Forgets `path`, since a call to it was accepted.
    pub fn forget(&self, path: &[u8]) {
        if self.count.load(Ordering::Relaxed) > 0 {
            let mut entries = self.lock();
            entries.retain(|entry| *entry.path != *path);
            self.count.store(entries.len(), Ordering::Relaxed);
        }
    }

    fn find<T>(&self, path: &[u8], found: impl FnOnce(&mut RefusedEndpoint) -> T) -> Option<T> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut entries = self.lock();
        entries
            .iter_mut()
            .find(|entry| *entry.path == *path)
            .map(found)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RefusedEndpoint>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Forgets for RefusedEndpoints {
    fn forget_oldest(&self) {
        let mut entries = self.lock();
        if !entries.is_empty() {
            entries.remove(0);
        }
        self.count.store(entries.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
