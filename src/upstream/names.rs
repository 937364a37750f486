//! Names to addresses: IPv4 first, looked up once in a while and not for each connection.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::{
    net::lookup_host,
    sync::Mutex,
    time::{Duration, Instant},
};

/// How long an answer is used.
const KEPT: Duration = Duration::from_secs(10);

/// More addresses than these are not tried.
const MOST: usize = 4;

/// Looks up the addresses of WeChat's hosts. Clones share what they know.
#[derive(Clone, Debug)]
pub struct Names {
    /// Used for every name, instead of DNS.
    fixed: Option<IpAddr>,
    known: Arc<Mutex<Vec<Answer>>>,
}

#[derive(Debug)]
struct Answer {
    host: String,
    at: Instant,
    addresses: Arc<[IpAddr]>,
}

impl Names {
    /// With `fixed`, every name has this one address and DNS is never asked.
    pub fn new(fixed: Option<IpAddr>) -> Self {
        Self {
            fixed,
            known: Arc::default(),
        }
    }

    /// The addresses of `host`, IPv4 first: IPv6 egress is often not on the account's whitelist.
    pub async fn resolve(&self, host: &str) -> io::Result<Arc<[IpAddr]>> {
        if let Some(address) = self.fixed.or_else(|| host.parse().ok()) {
            return Ok(Arc::new([address]));
        }
        // Held while the lookup runs, so that a burst of connections asks once.
        let mut known = self.known.lock().await;
        known.retain(|answer| answer.at.elapsed() < KEPT);
        if let Some(answer) = known.iter().find(|answer| answer.host == host) {
            return Ok(answer.addresses.clone());
        }
        let found = lookup_host((host, 0)).await?;
        let mut addresses: Vec<IpAddr> = found.map(|address: SocketAddr| address.ip()).collect();
        if addresses.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the name has no address",
            ));
        }
        addresses.sort_by_key(IpAddr::is_ipv6);
        addresses.truncate(MOST);
        let addresses: Arc<[IpAddr]> = addresses.into();
        known.push(Answer {
            host: host.to_owned(),
            at: Instant::now(),
            addresses: addresses.clone(),
        });
        Ok(addresses)
    }
}
