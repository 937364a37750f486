//! Why there is no connection to WeChat.

use super::dns::LookupError;

/// Why there is no connection. Nothing of the call was sent.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DialError {
    /// The name cannot be resolved.
    #[error("the name {host} cannot be resolved: {source}")]
    Resolve {
        /// The host.
        host: String,
        /// The resolver's error.
        #[source]
        source: LookupError,
    },
    /// TCP or the egress proxy failed.
    #[error("{host} cannot be connected: {reason}")]
    Connect {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
    /// The certificate is not valid, or the host does not speak TLS.
    #[error("TLS with {host} fails: {reason}")]
    Tls {
        /// The host.
        host: String,
        /// A sentence about the host.
        reason: String,
    },
    /// There is no host, or it has no address.
    #[error("there is no address to connect")]
    NoAddress,
    /// The limit `max-upstream` is reached.
    #[error("all connections to WeChat are busy; see --max-upstream")]
    AtCapacity,
}
