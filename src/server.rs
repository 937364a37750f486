//! Accepts apps' connections and hands them to workers; drains them in the end.

use std::{fmt, net::SocketAddr, path::PathBuf};

use tokio::time::Duration;

/// Where apps connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl Address {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What the server needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Threads that carry calls.
    pub workers: usize,
    /// Connections of apps at once.
    pub max_connections: usize,
    /// A pause in a body, either way.
    pub idle_timeout: Duration,
    /// How long calls in flight may take to finish.
    pub shutdown_grace: Duration,
}
