//! What is known of each name. An answer is used at once even when it is old, and is then looked up again behind.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::watch,
    time::{Duration, Instant},
};

use super::{error::LookupError, nameservers::Answer};

/// How long an answer is fresh, whatever its nameserver says. A host may move, and a nameserver may say 0.
const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(60);

/// How long after a failure no other look-up begins.
const FAILURE_TTL: Duration = Duration::from_secs(1);

/// The addresses of a name, or why there are none. It is shared by all who asked.
pub(super) type LookupOutcome = Result<Arc<[IpAddr]>, LookupError>;

/// The outcome of a look-up, when it ends.
pub(super) type LookupFlight = watch::Receiver<Option<LookupOutcome>>;

/// All names. There are as many as the configuration has hosts, so none is ever forgotten.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<HashMap<String, NameState>>);

#[derive(Debug, Default)]
struct NameState {
    known: Option<KnownAddresses>,
    /// The last failure, and until when it counts.
    failed: Option<(LookupError, Instant)>,
    flight: Option<LookupFlight>,
}

#[derive(Debug)]
struct KnownAddresses {
    addresses: Arc<[IpAddr]>,
    fresh_until: Instant,
}

/// What is known of a name now.
#[derive(Debug)]
pub(super) struct Knowledge {
    /// The last addresses, fresh or not.
    pub(super) addresses: Option<Arc<[IpAddr]>>,
    /// The failure of a moment ago.
    pub(super) failed: Option<LookupError>,
    /// The look-up that runs, because the addresses are not fresh.
    pub(super) flight: Option<LookupFlight>,
}

impl Names {
    /// What is known of `host`. If that is not fresh, `start` starts a look-up, unless one runs. It must send the
    /// outcome that [`land`](Self::land) returns.
    pub(super) fn get(
        &self,
        host: &str,
        start: impl FnOnce(watch::Sender<Option<LookupOutcome>>),
    ) -> Knowledge {
        let now = Instant::now();
        let mut names = self.lock();
        let state = names.entry(host.to_owned()).or_default();
        let fresh = state
            .known
            .as_ref()
            .is_some_and(|known| now < known.fresh_until);
        let failed = state.failed.as_ref().filter(|(_, until)| now < *until);
        let failed = failed.map(|(error, _)| error.clone());
        if !fresh && failed.is_none() {
            // The other end is gone if the runtime of the look-up has ended.
            let runs = |flight: &LookupFlight| flight.has_changed().is_ok();
            if !state.flight.as_ref().is_some_and(runs) {
                let (sender, flight) = watch::channel(None);
                state.flight = Some(flight);
                start(sender);
            }
        }
        Knowledge {
            addresses: state.known.as_ref().map(|known| known.addresses.clone()),
            failed,
            flight: state.flight.clone().filter(|_| !fresh),
        }
    }

    /// Notes the end of a look-up. After a failure the old addresses stay in use.
    pub(super) fn land(&self, host: &str, answer: Result<Answer, LookupError>) -> LookupOutcome {
        let now = Instant::now();
        let mut names = self.lock();
        let state = names.entry(host.to_owned()).or_default();
        state.flight = None;
        match answer {
            Ok(Answer { addresses, ttl }) => {
                let addresses: Arc<[IpAddr]> = addresses.into();
                state.failed = None;
                state.known = Some(KnownAddresses {
                    addresses: addresses.clone(),
                    fresh_until: now + ttl.clamp(MIN_TTL, MAX_TTL),
                });
                Ok(addresses)
            }
            Err(error) => {
                state.failed = Some((error.clone(), now + FAILURE_TTL));
                match &state.known {
                    Some(known) => Ok(known.addresses.clone()),
                    None => Err(error),
                }
            }
        }
    }

    /// Nothing is fresh any more.
    pub(super) fn expire(&self) {
        let now = Instant::now();
        for state in self.lock().values_mut() {
            state.failed = None;
            if let Some(known) = &mut state.known {
                known.fresh_until = now;
            }
        }
    }

    /// Never held across an await.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, NameState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
