//! Why a name has no address.

use std::{io, sync::Arc};

use tokio::time::Duration;

/// Why a name has no address. It is remembered, so it is shared.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LookupError {
    /// The text cannot be a name in DNS.
    #[error("it is not a valid host name")]
    Invalid,
    /// A nameserver says that there is no such name.
    #[error("there is no such name, says the nameserver {0}")]
    NotFound(String),
    /// The name exists, but has no address.
    #[error("the name has no address, says the nameserver {0}")]
    NoAddress(String),
    /// No nameserver has answered yet. The look-up goes on.
    #[error("no nameserver of /etc/resolv.conf answered within {0:?}")]
    TimedOut(Duration),
    /// All nameservers failed.
    #[error("the nameservers of /etc/resolv.conf failed: {0}")]
    Failed(String),
    /// Nothing says which nameservers there are.
    #[error("/etc/resolv.conf, which names the nameservers, cannot be read: {0}")]
    Unreadable(Arc<io::Error>),
    /// A file names nameservers, but none that can be used.
    #[error("/etc/resolv.conf names no nameserver that can be used")]
    NoNameserver,
    /// The system's own resolver failed, which is asked on Windows.
    #[error("the system cannot resolve it: {0}")]
    System(Arc<io::Error>),
    /// The runtime that looked it up has ended.
    #[error("the look-up was broken off")]
    Stopped,
}
