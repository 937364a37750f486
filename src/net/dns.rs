//! Names to addresses: IPv4 first, looked up once in a while and not for each connection.

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

/// How long an answer is used.
const KEPT: Duration = Duration::from_secs(10);

/// How long a failure is.
const FAILED: Duration = Duration::from_secs(1);

/// More addresses than these are not tried.
const MOST: usize = 4;

/// Looks up the addresses of WeChat's hosts. Clones share what they know.
#[derive(Clone, Debug)]
pub struct Resolver {
    /// Used for every name, instead of DNS.
    fixed: Option<IpAddr>,
    /// Whether /etc/hosts is passed over.
    skip_hosts_file: bool,
    patience: Duration,
    known: Arc<Mutex<Vec<CachedAddresses>>>,
}

#[derive(Debug)]
struct CachedAddresses {
    host: String,
    use_until: Instant,
    /// Or why there are none.
    addresses: Result<Arc<[IpAddr]>, String>,
}

impl Resolver {
    /// With `fixed`, every name has this one address and DNS is never asked.
    /// No lookup takes longer than `patience`.
    pub fn new(fixed: Option<IpAddr>, patience: Duration) -> Self {
        Self {
            fixed,
            skip_hosts_file: false,
            patience,
            known: Arc::default(),
        }
    }

    /// The same, past /etc/hosts: where that sends the app's calls to the sidecar, the sidecar's own
    /// must not follow.
    pub fn past_hosts_file(mut self) -> Self {
        self.skip_hosts_file = true;
        self
    }

    /// The same with DNS asked for every name, for hosts other than WeChat's.
    pub fn without_address(mut self) -> Self {
        self.fixed = None;
        self
    }

    /// The addresses of `host`, IPv4 first: IPv6 egress is often not on the account's whitelist.
    pub async fn resolve(&self, host: &str) -> io::Result<Arc<[IpAddr]>> {
        if let Some(address) = host.parse().ok().or(self.fixed) {
            return Ok(Arc::new([address]));
        }
        // Held while the lookup runs, so that a burst of connections asks once.
        let mut known = self.known.lock().await;
        let answer = known.iter().position(|answer| answer.host == host);
        if let Some(at) = answer
            && Instant::now() < known[at].use_until
        {
            return known[at].addresses();
        }
        let looked_up = timeout(self.patience, self.look_up(host)).await;
        let looked_up = looked_up.unwrap_or_else(|_| {
            let patience = self.patience;
            Err(io::Error::other(format!("no answer within {patience:?}")))
        });
        let before = answer.map(|at| known.swap_remove(at));
        let answer = match looked_up {
            Ok(addresses) => CachedAddresses::new(host, KEPT, Ok(addresses)),
            // An old answer is better than none.
            Err(error) => {
                let old = before.and_then(|before| before.addresses.ok());
                CachedAddresses::new(host, FAILED, old.ok_or_else(|| error.to_string()))
            }
        };
        known.push(answer);
        known[known.len() - 1].addresses()
    }

    async fn look_up(&self, host: &str) -> io::Result<Arc<[IpAddr]>> {
        // A name with its root is no name in /etc/hosts, and DNS takes it as it stands, without the
        // search domains of a cluster.
        let root = if self.skip_hosts_file && !host.ends_with('.') {
            "."
        } else {
            ""
        };
        let name = format!("{host}{root}");
        let found = lookup_host((name.as_str(), 0)).await?;
        let mut addresses: Vec<IpAddr> = found.map(|address: SocketAddr| address.ip()).collect();
        if addresses.is_empty() {
            return Err(io::Error::other("the name has no address"));
        }
        addresses.sort_by_key(IpAddr::is_ipv6);
        addresses.truncate(MOST);
        Ok(addresses.into())
    }
}

impl CachedAddresses {
    fn new(host: &str, kept: Duration, addresses: Result<Arc<[IpAddr]>, String>) -> Self {
        Self {
            host: host.to_owned(),
            use_until: Instant::now() + kept,
            addresses,
        }
    }

    fn addresses(&self) -> io::Result<Arc<[IpAddr]>> {
        self.addresses.clone().map_err(io::Error::other)
    }
}
