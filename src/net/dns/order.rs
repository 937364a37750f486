//! The order in which the addresses of a name are tried.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::{Duration, Instant};

/// How long an address that could not be connected comes after the others.
const PUT_LAST_FOR: Duration = Duration::from_secs(60);

/// The most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

/// The addresses that could not be connected lately.
#[derive(Debug, Default)]
pub(super) struct FailedAddresses(Mutex<HashMap<IpAddr, Instant>>);

impl FailedAddresses {
    /// Notes whether `address` could be connected.
    pub(super) fn note(&self, address: IpAddr, connected: bool) {
        let mut failed = self.lock();
        if connected {
            failed.remove(&address);
        } else {
            let now = Instant::now();
            failed.retain(|_, until| now < *until);
            failed.insert(address, now + PUT_LAST_FOR);
        }
    }

    /// `addresses` in the order in which to try them: the families alternate, and those that failed come last.
    pub(super) fn sort(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let (now, failed) = (Instant::now(), self.lock());
        let has_failed = |address: &&IpAddr| failed.get(*address).is_some_and(|until| now < *until);
        let (last, first): (Vec<&IpAddr>, Vec<&IpAddr>) = addresses.iter().partition(has_failed);
        let mut sorted = interleave(&first);
        sorted.extend(interleave(&last));
        sorted.truncate(MAX_ADDRESSES);
        sorted
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Alternates the families, and keeps the order within each. IPv4 begins, because IPv6 egress is often not on the
/// account's whitelist.
fn interleave(addresses: &[&IpAddr]) -> Vec<IpAddr> {
    let of_family = |v6: bool| {
        addresses
            .iter()
            .filter(move |address| address.is_ipv6() == v6)
    };
    let (mut v4, mut v6) = (of_family(false), of_family(true));
    let mut sorted = Vec::new();
    loop {
        let pair = (v4.next(), v6.next());
        sorted.extend(
            [pair.0, pair.1]
                .into_iter()
                .flatten()
                .map(|address| **address),
        );
        if pair == (None, None) {
            return sorted;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn no_number_of_ipv4_addresses_hides_the_ipv6_one() {
        let known = addresses(&[
            "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7",
            "10.0.0.8", "fd00::1", "fd00::2",
        ]);
        let sorted = FailedAddresses::default().sort(&known);
        let expected = addresses(&[
            "10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2", "10.0.0.3", "10.0.0.4", "10.0.0.5",
            "10.0.0.6",
        ]);
        assert_eq!(sorted, expected);
        let v6 = addresses(&["fd00::1", "fd00::2"]);
        assert_eq!(FailedAddresses::default().sort(&v6), v6);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_failed_comes_last_for_a_while() {
        let known = addresses(&["10.0.0.1", "10.0.0.2", "fd00::1"]);
        let failed = FailedAddresses::default();
        failed.note(known[0], false);
        let put_last = addresses(&["10.0.0.2", "fd00::1", "10.0.0.1"]);
        assert_eq!(failed.sort(&known), put_last);
        advance(PUT_LAST_FOR).await;
        let usual = addresses(&["10.0.0.1", "fd00::1", "10.0.0.2"]);
        assert_eq!(failed.sort(&known), usual);

        failed.note(known[0], false);
        failed.note(known[0], true);
        assert_eq!(failed.sort(&known), usual);
        for address in &known {
            failed.note(*address, false);
        }
        assert_eq!(
            failed.sort(&known),
            usual,
            "all have failed, so all are tried"
        );
    }
}
