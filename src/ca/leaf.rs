//! The leaf that is served now. It is made again before it expires, by wall clock.

use std::{
    fmt,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{
    constraints,
    error::CaError,
    issue::{IssuingCa, LEAF_BACKDATED, LEAF_LIFE},
};

/// How long before its end a leaf is replaced. Clocks of clients differ, and connections are opened all day.
const RENEWED_EARLIER: Duration = Duration::from_secs(12 * 3600);

/// The leaf of a CA that is served now.
pub(super) struct CurrentLeaf {
    ca: IssuingCa,
    /// The hosts that the CA is constrained to.
    allowed: Vec<String>,
    leaf: ArcSwap<ServedLeaf>,
    /// Who holds it makes a leaf.
    renewal: Mutex<()>,
}

struct ServedLeaf {
    /// The hosts it is for, the first one first.
    hosts: Vec<String>,
    /// Those that it should be for, too, and that the CA does not allow.
    uncovered: Vec<String>,
    /// `None` if it is for no host.
    key: Option<Arc<CertifiedKey>>,
    /// While this is the time, it is served.
    fresh: Range<SystemTime>,
}

impl CurrentLeaf {
    /// Makes the first leaf of `ca`, for those of `hosts` that it allows.
    pub(super) fn new(
        ca: IssuingCa,
        allowed: Vec<String>,
        hosts: &[String],
        now: SystemTime,
    ) -> Result<Self, CaError> {
        let leaf = ServedLeaf::make(&ca, &allowed, hosts, now)?;
        Ok(Self {
            ca,
            allowed,
            leaf: ArcSwap::from_pointee(leaf),
            renewal: Mutex::default(),
        })
    }

    /// The CA.
    pub(super) fn ca(&self) -> &IssuingCa {
        &self.ca
    }

    /// Serves others of all `hosts` from now on. After an error, all is as before.
    pub(super) fn set_hosts(&self, hosts: &[String], now: SystemTime) -> Result<(), CaError> {
        let _one = self.renewal.lock().unwrap_or_else(PoisonError::into_inner);
        let leaf = ServedLeaf::make(&self.ca, &self.allowed, hosts, now)?;
        self.leaf.store(Arc::new(leaf));
        Ok(())
    }

    /// Whether the leaf is for `host`.
    pub(super) fn serves(&self, host: &str) -> bool {
        self.leaf.load().serves(host)
    }

    /// The hosts that the CA does not allow.
    pub(super) fn uncovered(&self) -> Vec<String> {
        self.leaf.load().uncovered.clone()
    }

    /// The leaf for the host that a client names, if it names one.
    pub(super) fn for_client(
        &self,
        host: Option<&str>,
        now: SystemTime,
    ) -> Option<Arc<CertifiedKey>> {
        let leaf = self.at(now);
        match host {
            Some(host) if !leaf.serves(host) => None,
            _ => leaf.key.clone(),
        }
    }

    fn at(&self, now: SystemTime) -> Arc<ServedLeaf> {
        let leaf = self.leaf.load_full();
        if leaf.fresh.contains(&now) {
            return leaf;
        }
        let _one = self.renewal.lock().unwrap_or_else(PoisonError::into_inner);
        let leaf = self.leaf.load_full();
        if leaf.fresh.contains(&now) {
            return leaf;
        }
        let hosts: Vec<String> = leaf.hosts.iter().chain(&leaf.uncovered).cloned().collect();
        match ServedLeaf::make(&self.ca, &self.allowed, &hosts, now) {
            Ok(renewed) => self.leaf.store(Arc::new(renewed)),
            Err(error) => tracing::error!(%error, "the certificate in use stays"),
        }
        self.leaf.load_full()
    }
}

impl ServedLeaf {
    fn make(
        ca: &IssuingCa,
        allowed: &[String],
        hosts: &[String],
        now: SystemTime,
    ) -> Result<Self, CaError> {
        let covered = |host: &String| constraints::allow(allowed, host);
        let (hosts, uncovered): (Vec<_>, _) = hosts.iter().cloned().partition(covered);
        let key = match hosts.is_empty() {
            true => None,
            false => Some(Arc::new(ca.leaf(&hosts, now)?)),
        };
        // A clock that is set back further than this has made a leaf that is not valid yet for some clients.
        let fresh = now - LEAF_BACKDATED / 2..now + (LEAF_LIFE - RENEWED_EARLIER);
        Ok(Self {
            hosts,
            uncovered,
            key,
            fresh,
        })
    }

    fn serves(&self, host: &str) -> bool {
        self.hosts.iter().any(|served| served == host)
    }
}

impl ResolvesServerCert for CurrentLeaf {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.for_client(hello.server_name(), SystemTime::now())
    }
}

impl fmt::Debug for CurrentLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentLeaf").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::der::validity, *};
    use crate::ca::issue::new_ca;

    const HOUR: Duration = Duration::from_secs(3600);

    fn made(hosts: &[&str], now: SystemTime) -> CurrentLeaf {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let made = new_ca(&hosts, now).unwrap();
        let ca = IssuingCa::new(made.root, made.issuing, made.key).unwrap();
        CurrentLeaf::new(ca, hosts.clone(), &hosts, now).unwrap()
    }

    #[test]
    fn a_leaf_is_renewed_by_wall_clock_whichever_way_it_moves() {
        let now = SystemTime::now();
        let current = made(&["api.weixin.qq.com"], now);
        let served = |now| current.for_client(None, now).unwrap();
        let first = served(now);
        for (moved, is_the_first) in [
            (now + HOUR, true),
            (now + 11 * HOUR, true),
            // A machine that slept.
            (now + 30 * HOUR, false),
            // A clock that was set right.
            (now - 2 * HOUR, false),
            (now - 10 * HOUR, false),
        ] {
            let leaf = served(moved);
            assert_eq!(Arc::ptr_eq(&leaf, &first), is_the_first);
            let valid = validity(&leaf.cert[0]).unwrap();
            // Clients have clocks of their own.
            assert!(valid.contains(&(moved - HOUR / 2)) && valid.contains(&(moved + 11 * HOUR)));
            assert!(Arc::ptr_eq(&served(moved), &leaf), "made twice");
        }
    }

    #[test]
    fn a_leaf_has_a_new_key_a_day_of_life_and_the_issuing_ca_behind_it() {
        let now = SystemTime::now();
        let current = made(&["api.weixin.qq.com", "api2.weixin.qq.com"], now);
        let leaf = current.for_client(Some("api2.weixin.qq.com"), now).unwrap();
        let valid = validity(&leaf.cert[0]).unwrap();
        assert_eq!(valid.end.duration_since(valid.start).unwrap(), 25 * HOUR);
        assert_eq!(leaf.cert.len(), 2);
        assert_eq!(&leaf.cert[1], current.ca().issuing());
        let next = current.for_client(None, now + 20 * HOUR).unwrap();
        assert_ne!(
            leaf.key.public_key().unwrap(),
            next.key.public_key().unwrap()
        );
    }

    #[test]
    fn a_ca_that_covers_no_host_serves_nobody() {
        let now = SystemTime::now();
        let current = made(&["api.weixin.qq.com"], now);
        let other = ["wechat.internal".to_owned()];
        current.set_hosts(&other, now).unwrap();
        assert_eq!(current.uncovered(), other);
        assert!(current.for_client(None, now).is_none());
        // A renewal forgets nothing.
        assert!(current.for_client(None, now + 30 * HOUR).is_none());
        assert_eq!(current.uncovered(), other);
    }
}
