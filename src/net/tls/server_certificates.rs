//! The interface of those who make the certificates that this process shows to apps.

use std::{fmt, sync::Arc};

use rustls::ServerConfig;

/// Has certificates for names of hosts, and may renew them at any time. One owner makes them itself; another could read an
/// operator's own from files.
pub trait ServerCertificates: fmt::Debug + Send + Sync {
    /// The configuration for a handshake that begins now. It chooses the certificate by the name that the app asks for.
    fn config(&self) -> Arc<ServerConfig>;

    /// Whether there is a certificate for `host`, a name in lower case without a port.
    fn has(&self, host: &str) -> bool;
}
