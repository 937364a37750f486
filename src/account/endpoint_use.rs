//! What became of an account's calls, by endpoint: which token was accepted last, and how many calls are open.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicU16, Ordering},
};

use crate::{
    sparse::SparseArray,
    token::Token,
    wechat::endpoint::{self, Endpoint},
};

/// All endpoints. Paths that are in no table share a fixed number of slots by their hash, so that the memory is
/// bounded. A collision does little harm.
#[derive(Debug)]
pub struct EndpointUse(SparseArray<Slot, PART>);

/// How many slots are allocated together.
const PART: usize = 64;

/// One endpoint.
#[derive(Debug, Default)]
struct Slot {
    /// The [`tag`](Token::tag) of the token with which a call was accepted last; 0 for none.
    accepted: AtomicU16,
    /// How many calls are sent and not answered.
    open: AtomicU16,
}

/// Slots for paths that are in no table.
const UNLISTED_PATHS: usize = 256;

impl Default for EndpointUse {
    fn default() -> Self {
        Self(SparseArray::new(endpoint::rows() + UNLISTED_PATHS))
    }
}

impl EndpointUse {
    /// A call to `endpoint` begins. It is open until the result is dropped.
    pub fn begin(&self, endpoint: &Endpoint<'_>) -> OpenCall<'_> {
        let hashed = || {
            let mut hash = DefaultHasher::new();
            endpoint.path().hash(&mut hash);
            endpoint::rows() + (hash.finish() as usize) % UNLISTED_PATHS
        };
        let slot = self.0.at(endpoint.row().unwrap_or_else(hashed));
        let others = slot.open.fetch_add(1, Ordering::Relaxed);
        OpenCall {
            slot,
            has_others: others > 0,
        }
    }
}

/// A call that is not answered yet.
#[derive(Debug)]
pub struct OpenCall<'a> {
    slot: &'a Slot,
    has_others: bool,
}

impl OpenCall<'_> {
    /// Whether other calls to this endpoint were open when this one began.
    pub fn has_others(&self) -> bool {
        self.has_others
    }

    /// Whether other calls to this endpoint are open now.
    pub fn has_others_now(&self) -> bool {
        self.slot.open.load(Ordering::Relaxed) > 1
    }

    /// WeChat accepted a call here with `token`.
    pub fn accepted(&self, token: &Token) {
        if self.slot.accepted.load(Ordering::Relaxed) != token.tag() {
            self.slot.accepted.store(token.tag(), Ordering::Relaxed);
        }
    }

    /// Whether WeChat ever accepted a call here.
    pub fn worked(&self) -> bool {
        self.slot.accepted.load(Ordering::Relaxed) != 0
    }

    /// Whether `token` is the one with which a call was accepted here last.
    pub fn worked_with(&self, token: &Token) -> bool {
        self.slot.accepted.load(Ordering::Relaxed) == token.tag()
    }
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        self.slot.open.fetch_sub(1, Ordering::Relaxed);
    }
}
