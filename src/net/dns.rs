//! The resolver of the house, for calls, token requests and the store: it resolves host names without a thread.
//!
//! A look-up is a task of its own on one runtime. It ends by itself: who waits for it may give up before, and its late
//! answer is still kept for the next one.

mod error;
#[cfg(test)]
pub(crate) mod fake;
mod files;
mod names;
// Windows has no /etc/resolv.conf: its own resolver looks names up.
#[cfg_attr(windows, path = "dns/windows.rs")]
mod nameservers;
mod order;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, OnceLock, Weak},
};

use arc_swap::ArcSwap;
use tokio::{
    runtime::Handle,
    sync::watch,
    task::AbortHandle,
    time::{Duration, timeout},
};

pub use error::LookupError;
use files::{System, SystemFiles};
use names::{LookupFlight, LookupOutcome, Names};
use order::FailedAddresses;

use crate::rt::file_watcher::FileWatcher;

/// How long a caller waits for a look-up. The C library asks its second nameserver after 5 s.
const PATIENCE: Duration = Duration::from_secs(6);

/// How long a look-up may take when nobody waits for it any more.
const LOOKUP_LIMIT: Duration = Duration::from_secs(30);

/// How often /etc/resolv.conf and /etc/hosts are read.
const FILES_INTERVAL: Duration = Duration::from_secs(5);

/// Resolves names. Clones share what they know.
#[derive(Clone, Debug)]
pub struct Resolver {
    /// The address of every name, instead of a lookup.
    fixed: Option<IpAddr>,
    /// Whether /etc/hosts is ignored.
    skip_hosts_file: bool,
    shared: Arc<ResolverState>,
}

#[derive(Debug)]
struct ResolverState {
    files: SystemFiles,
    system: ArcSwap<System>,
    names: Names,
    failed: FailedAddresses,
    /// The runtime of the look-ups, and the task on it that watches the files.
    runtime: OnceLock<(Handle, AbortHandle)>,
}

impl Resolver {
    /// With `fixed`, every name has this one address, and there are no lookups.
    pub fn new(fixed: Option<IpAddr>) -> Self {
        Self::with_files(fixed, SystemFiles::default())
    }

    fn with_files(fixed: Option<IpAddr>, files: SystemFiles) -> Self {
        Self {
            fixed,
            skip_hosts_file: false,
            shared: Arc::new(ResolverState {
                system: ArcSwap::from_pointee(files.read()),
                files,
                names: Names::default(),
                failed: FailedAddresses::default(),
                runtime: OnceLock::new(),
            }),
        }
    }

    /// Runs look-ups on the current runtime, and watches the system's files from now on. Otherwise the runtime of the
    /// first look-up is used for all.
    pub fn start(&self) {
        self.shared.runtime();
    }

    /// Ignores /etc/hosts. That file may redirect the app's calls to the sidecar, and must not redirect
    /// the sidecar's own.
    pub fn past_hosts_file(mut self) -> Self {
        self.skip_hosts_file = true;
        self
    }

    /// Without the fixed address, for hosts other than WeChat's.
    pub fn without_address(mut self) -> Self {
        self.fixed = None;
        self
    }

    /// For servers nearby, such as a proxy or a store: without the fixed address, and with /etc/hosts.
    pub fn nearby(&self) -> Self {
        let mut nearby = self.clone().without_address();
        nearby.skip_hosts_file = false;
        nearby
    }

    /// The addresses of `host`, in the order in which to try them. Those that are known are returned at once, and
    /// looked up again behind if they are old.
    pub async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        self.find(host, PATIENCE, true).await
    }

    /// The addresses of `host`, but known ones that are old are returned only if there are no newer ones within
    /// `patience`.
    pub async fn resolve_fresh(
        &self,
        host: &str,
        patience: Duration,
    ) -> Result<Vec<IpAddr>, LookupError> {
        self.find(host, patience, false).await
    }

    /// Notes whether `address` could be connected. One that could not comes after the others for a while.
    pub(crate) fn note(&self, address: IpAddr, connected: bool) {
        self.shared.failed.note(address, connected);
    }

    async fn find(
        &self,
        host: &str,
        patience: Duration,
        old_is_good: bool,
    ) -> Result<Vec<IpAddr>, LookupError> {
        let shared = &self.shared;
        if let Some(addresses) = self.without_lookup(host) {
            return Ok(shared.failed.sort(&addresses));
        }
        // A name with its root dot is not looked for in the search domains of a cluster.
        let root = self.skip_hosts_file && !host.ends_with('.');
        let host = format!("{host}{}", if root { "." } else { "" });
        let known = shared
            .names
            .get(&host, |sender| shared.look_up(&host, sender));
        let outcome = match (known.addresses, known.flight) {
            (Some(addresses), None) => Ok(addresses),
            (Some(addresses), _) if old_is_good => Ok(addresses),
            (old, Some(flight)) => {
                let landed = landed(flight, patience).await;
                landed.or_else(|error| old.ok_or(error))
            }
            (None, None) => Err(known.failed.unwrap_or(LookupError::Stopped)),
        };
        outcome.map(|addresses| shared.failed.sort(&addresses))
    }

    /// The addresses of a name that needs no nameserver.
    fn without_lookup(&self, host: &str) -> Option<Vec<IpAddr>> {
        if let Some(address) = host.parse().ok().or(self.fixed) {
            return Some(vec![address]);
        }
        if is_localhost(host) {
            return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let system = (!self.skip_hosts_file).then(|| self.shared.system.load());
        system?.hosts(host)
    }
}

/// Whether `host` is this machine by RFC 6761.
fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// Waits for the end of a look-up.
async fn landed(mut flight: LookupFlight, patience: Duration) -> LookupOutcome {
    let landed = timeout(patience, flight.wait_for(Option::is_some)).await;
    let landed = landed.map_err(|_| LookupError::TimedOut(patience))?;
    let landed = landed.map_err(|_| LookupError::Stopped)?;
    landed.clone().unwrap_or(Err(LookupError::Stopped))
}

impl ResolverState {
    /// The runtime of all look-ups.
    fn runtime(self: &Arc<Self>) -> &Handle {
        let (runtime, _) = self.runtime.get_or_init(|| {
            let runtime = Handle::current();
            let watch = watch_files(Arc::downgrade(self), self.files.clone());
            let watch = runtime.spawn(watch);
            (runtime, watch.abort_handle())
        });
        runtime
    }

    /// Starts to look `host` up.
    fn look_up(self: &Arc<Self>, host: &str, sender: watch::Sender<Option<LookupOutcome>>) {
        let (shared, host) = (self.clone(), host.to_owned());
        self.runtime().spawn(async move {
            let system = shared.system.load_full();
            let answer = match &system.nameservers {
                Ok(nameservers) => timeout(LOOKUP_LIMIT, nameservers.look_up(&host)).await,
                Err(error) => Ok(Err(error.clone())),
            };
            let mut answer = answer.unwrap_or(Err(LookupError::TimedOut(LOOKUP_LIMIT)));
            // The files have changed meanwhile.
            if !Arc::ptr_eq(&system, &shared.system.load())
                && let Ok(answer) = &mut answer
            {
                answer.ttl = Duration::ZERO;
            }
            let outcome = shared.names.land(&host, answer);
            sender.send_replace(Some(outcome));
        });
    }

    fn replace(&self, system: System) {
        if !self.system.load().is_like(&system) {
            tracing::info!("/etc/hosts or /etc/resolv.conf changed: names are looked up again");
            if let Err(error) = &system.nameservers {
                tracing::warn!(%error, "names outside of /etc/hosts cannot be resolved");
            }
            self.system.store(Arc::new(system));
            self.names.expire();
        }
    }
}

impl Drop for ResolverState {
    fn drop(&mut self) {
        if let Some((_, watch)) = self.runtime.get() {
            watch.abort();
        }
    }
}

/// Reads the system's files again when they change.
async fn watch_files(shared: Weak<ResolverState>, files: SystemFiles) {
    let mut watcher = FileWatcher::new(files.paths(), FILES_INTERVAL).await;
    loop {
        let files = files.clone();
        let read = watcher.read(move || files.read()).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        if let Some(system) = read {
            shared.replace(system);
        }
        drop(shared);
        watcher.changed().await;
    }
}

#[cfg(test)]
mod tests;
