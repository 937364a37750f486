//! The endpoints that have accepted a call of an account.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicBool, Ordering},
};

use crate::wechat::endpoint::{self, Endpoint};

/// The endpoints on which WeChat has accepted a call. Paths that are in no table share a fixed number
/// of slots by their hash, so that the memory is bounded. A collision does little harm.
#[derive(Debug)]
pub struct AcceptedEndpoints(Box<[AtomicBool]>);

/// Slots for paths that are in no table.
const UNLISTED_PATHS: usize = 1024;

impl Default for AcceptedEndpoints {
    fn default() -> Self {
        let slots = endpoint::rows() + UNLISTED_PATHS;
        Self((0..slots).map(|_| AtomicBool::new(false)).collect())
    }
}

impl AcceptedEndpoints {
    /// Notes that WeChat accepted a call on `endpoint`.
    pub fn note(&self, endpoint: &Endpoint<'_>) {
        let slot = self.slot(endpoint);
        if !slot.load(Ordering::Relaxed) {
            slot.store(true, Ordering::Relaxed);
        }
    }

    /// Whether WeChat ever accepted a call on `endpoint`.
    pub fn has(&self, endpoint: &Endpoint<'_>) -> bool {
        self.slot(endpoint).load(Ordering::Relaxed)
    }

    fn slot(&self, endpoint: &Endpoint<'_>) -> &AtomicBool {
        let hashed = || {
            let mut hash = DefaultHasher::new();
            endpoint.path().hash(&mut hash);
            endpoint::rows() + (hash.finish() as usize) % UNLISTED_PATHS
        };
        &self.0[endpoint.row().unwrap_or_else(hashed)]
    }
}
