//! Remembers refused calls, so that the second send of a call is never refused by chance.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use tokio::time::{Duration, Instant};

use super::call::RecordedCall;

/// For this long, all calls that are equal to a refused one are spared, because two equal calls at once cannot be
/// told apart.
const SPARED: Duration = Duration::from_secs(30);
/// If there are many, a second send that has not arrived after this long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);
const MANY: usize = 4096;

/// The refused calls, by method, target without token, and body.
#[derive(Debug, Default)]
pub(super) struct SecondSends {
    refused: HashMap<u64, Refused>,
}

#[derive(Debug)]
struct Refused {
    at: Instant,
    came_again: bool,
}

impl SecondSends {
    /// Records that this call is refused now.
    pub(super) fn remember(&mut self, call: &RecordedCall) {
        if self.refused.len() >= MANY {
            self.refused
                .retain(|_, refused| call.at - refused.at < FORGOTTEN);
        }
        let refused = Refused {
            at: call.at,
            came_again: false,
        };
        self.refused.insert(fingerprint(call), refused);
    }

    /// Whether this may be the second send of a refused call.
    pub(super) fn spares(&mut self, call: &RecordedCall) -> bool {
        let fingerprint = fingerprint(call);
        let Some(refused) = self.refused.get_mut(&fingerprint) else {
            return false;
        };
        let spares = !refused.came_again || call.at - refused.at < SPARED;
        refused.came_again = true;
        if !spares {
            self.refused.remove(&fingerprint);
        }
        spares
    }
}

fn fingerprint(call: &RecordedCall) -> u64 {
    let mut hasher = DefaultHasher::new();
    call.method.hash(&mut hasher);
    call.target_without_token().hash(&mut hasher);
    call.body.hash(&mut hasher);
    hasher.finish()
}
