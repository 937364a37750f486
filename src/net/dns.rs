//! Resolves host names: IPv4 addresses come first, and answers are cached for a short time.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::{
    net::lookup_host,
    sync::Mutex,
    time::{Duration, Instant, timeout},
};

/// How long an answer is cached.
const CACHE_TTL: Duration = Duration::from_secs(10);

/// How long a failure is cached.
const FAILURE_TTL: Duration = Duration::from_secs(1);

/// The most addresses that are tried.
const MAX_ADDRESSES: usize = 4;

/// Resolves the names of WeChat's hosts. Clones share one cache.
#[derive(Clone, Debug)]
pub struct Resolver {
    /// The address of every name, instead of a lookup.
    fixed: Option<IpAddr>,
    /// Whether /etc/hosts is ignored.
    skip_hosts_file: bool,
    timeout: Duration,
    cache: Arc<Mutex<Vec<CachedAddresses>>>,
}

#[derive(Debug)]
struct CachedAddresses {
    host: String,
    use_until: Instant,
    addresses: Result<Arc<[IpAddr]>, LookupError>,
}

/// Why a name has no address. It is cached, so it is shared.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LookupError {
    /// The system's resolver failed.
    #[error("{0}")]
    System(Arc<io::Error>),
    /// The system's resolver did not answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The name exists, but has no address.
    #[error("the name has no address")]
    NoAddress,
}

impl Resolver {
    /// With `fixed`, every name has this one address, and there are no lookups. A lookup fails after
    /// `timeout`.
    pub fn new(fixed: Option<IpAddr>, timeout: Duration) -> Self {
        Self {
            fixed,
            skip_hosts_file: false,
            timeout,
            cache: Arc::default(),
        }
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

    /// The addresses of `host`, IPv4 first: IPv6 egress is often not on the account's whitelist.
    pub async fn resolve(&self, host: &str) -> Result<Arc<[IpAddr]>, LookupError> {
        if let Some(address) = host.parse().ok().or(self.fixed) {
            return Ok(Arc::new([address]));
        }
        // Locked while the lookup runs, so that a burst of connections causes one lookup.
        let mut cache = self.cache.lock().await;
        let cached = cache.iter().position(|entry| entry.host == host);
        if let Some(at) = cached
            && Instant::now() < cache[at].use_until
        {
            return cache[at].addresses.clone();
        }
        let looked_up = timeout(self.timeout, look_up(host, self.skip_hosts_file)).await;
        let looked_up = looked_up.unwrap_or(Err(LookupError::TimedOut(self.timeout)));
        let before = cached.map(|at| cache.swap_remove(at));
        let entry = match looked_up {
            Ok(addresses) => CachedAddresses::new(host, CACHE_TTL, Ok(addresses)),
            // An old answer is better than none.
            Err(error) => {
                let old = before.and_then(|before| before.addresses.ok());
                CachedAddresses::new(host, FAILURE_TTL, old.ok_or(error))
            }
        };
        let addresses = entry.addresses.clone();
        cache.push(entry);
        addresses
    }
}

async fn look_up(host: &str, skip_hosts_file: bool) -> Result<Arc<[IpAddr]>, LookupError> {
    // A name with its root dot never matches a line of /etc/hosts, and the resolver does not append the
    // search domains of a cluster to it.
    let root = if skip_hosts_file && !host.ends_with('.') {
        "."
    } else {
        ""
    };
    let name = format!("{host}{root}");
    let found = lookup_host((name.as_str(), 0)).await;
    let found = found.map_err(|error| LookupError::System(Arc::new(error)))?;
    let mut addresses: Vec<IpAddr> = found.map(|address: SocketAddr| address.ip()).collect();
    if addresses.is_empty() {
        return Err(LookupError::NoAddress);
    }
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.truncate(MAX_ADDRESSES);
    Ok(addresses.into())
}

impl CachedAddresses {
    fn new(host: &str, ttl: Duration, addresses: Result<Arc<[IpAddr]>, LookupError>) -> Self {
        Self {
            host: host.to_owned(),
            use_until: Instant::now() + ttl,
            addresses,
        }
    }
}
