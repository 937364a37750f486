//! Where apps connect, and the key that they send, whatever the rest of the configuration says.

use std::sync::Arc;

use super::{Sources, error::ConfigError, keys::Id, layers, network, secrets};
use crate::{net::listen_addr::ListenAddr, secret::SecretSource};

/// What an app must know of the sidecar that has this configuration.
#[derive(Debug)]
pub struct AppPorts {
    /// The addresses to connect to.
    pub listen: Vec<ListenAddr>,
    /// The key to send.
    pub caller_key: Option<Arc<SecretSource>>,
}

impl AppPorts {
    /// Finds them in flags, the environment, the file or the defaults. Accounts and other keys are not parsed.
    ///
    /// # Errors
    /// If one of them is wrong, or the file cannot be parsed.
    pub fn find(sources: &Sources) -> Result<Self, ConfigError> {
        let settings = layers::gather(sources)?.settings;
        // Its warnings are those of the sidecar.
        let caller_key = secrets::secret(&settings, Id::CallerKeyFile, &mut Vec::new())?;
        Ok(Self {
            listen: network::listen(&settings)?,
            caller_key,
        })
    }
}

/// Parses an address that a sidecar says it listens on.
pub fn listen_address(text: &str) -> Option<ListenAddr> {
    network::address(text).ok()
}
