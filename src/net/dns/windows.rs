//! Asks the resolver of Windows, which knows the nameservers and reads the hosts file. It takes a thread for each look-up.

use std::{io, net::IpAddr, sync::Arc};

use tokio::{net::lookup_host, time::Duration};

use super::error::LookupError;

/// Windows tells no TTL, and keeps addresses itself for as long as they are valid.
const TTL: Duration = Duration::from_secs(10);

/// The nameservers that Windows knows.
#[derive(Debug)]
pub(super) struct Nameservers;

/// The addresses of a name, and for how long they are valid.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ttl: Duration,
}

impl Nameservers {
    /// A resolv.conf that is there all the same says nothing about Windows.
    pub(super) fn new(
        _: &resolv_conf::Config,
        _: Option<&str>,
        _: u16,
    ) -> Result<Self, LookupError> {
        Ok(Self)
    }

    /// There usually is none.
    pub(super) fn without_file(_: &io::Error) -> Result<Self, LookupError> {
        Ok(Self)
    }

    /// Looks `host` up.
    pub(super) async fn look_up(&self, host: &str) -> Result<Answer, LookupError> {
        let found = lookup_host((host, 0)).await;
        let found = found.map_err(|error| LookupError::System(Arc::new(error)))?;
        Ok(Answer {
            addresses: found.map(|address| address.ip()).collect(),
            ttl: TTL,
        })
    }
}
