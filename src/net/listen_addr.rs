//! The address of a listener: an IP address and port, a port of localhost, or a Unix socket.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

/// The address of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// An IP address and port.
    Tcp(SocketAddr),
    /// A port of this machine's loopback addresses of both families, as far as they exist.
    Localhost(u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// The addresses of `localhost`, IPv4 first.
pub const LOCALHOST: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

impl ListenAddr {
    /// Whether the address is fixed, that is, the system does not pick the port.
    pub fn is_definite(&self) -> bool {
        self.port() != Some(0)
    }

    /// Its port, if it has one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
            Self::Localhost(port) => Some(*port),
            Self::Unix(_) => None,
        }
    }

    /// Whether both are the same, or one includes the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Localhost(port), Self::Tcp(address))
            | (Self::Tcp(address), Self::Localhost(port)) => {
                LOCALHOST.contains(&address.ip()) && address.port() == *port
            }
            _ => self == other,
        }
    }

    /// Whether only this machine can connect to it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Localhost(_) | Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Localhost(port) => write!(f, "localhost:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
