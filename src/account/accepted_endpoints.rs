//! Where an account has been accepted.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicBool, Ordering},
};

use crate::wechat::endpoint::{self, Endpoint};

/// Which endpoints WeChat has accepted a call on. A path that is in no table shares its place with
/// others, so that the memory is bounded; that is good enough for what it decides.
#[derive(Debug)]
pub struct AcceptedEndpoints(Box<[AtomicBool]>);

/// Places for paths that are in no table.
const UNLISTED_PATHS: usize = 1024;

impl Default for AcceptedEndpoints {
    fn default() -> Self {
        let places = endpoint::rows() + UNLISTED_PATHS;
        Self((0..places).map(|_| AtomicBool::new(false)).collect())
    }
}

impl AcceptedEndpoints {
    /// WeChat accepted a call on `endpoint`.
    pub fn note(&self, endpoint: &Endpoint<'_>) {
        let place = self.place(endpoint);
        if !place.load(Ordering::Relaxed) {
            place.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it ever did.
    pub fn has(&self, endpoint: &Endpoint<'_>) -> bool {
        self.place(endpoint).load(Ordering::Relaxed)
    }

    fn place(&self, endpoint: &Endpoint<'_>) -> &AtomicBool {
        let stranger = || {
            let mut hash = DefaultHasher::new();
            endpoint.path().hash(&mut hash);
            endpoint::rows() + (hash.finish() as usize) % UNLISTED_PATHS
        };
        &self.0[endpoint.row().unwrap_or_else(stranger)]
    }
}
