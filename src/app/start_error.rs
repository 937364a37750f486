//! Why the sidecar cannot start.

use std::io;

use super::accounts::AccountsError;
use crate::{ca::CaError, client::api::ClientError, net::connector::DialError};

/// Why the sidecar cannot start, as a sentence that names the key.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is in use, or does not belong to this machine.
    #[error("{key}: {address} cannot be listened on: {error}")]
    Listen {
        /// The key that sets it.
        key: &'static str,
        /// The address as it was configured.
        address: String,
        /// The system's error.
        #[source]
        error: io::Error,
    },
    /// There is no local CA, or apps cannot trust it.
    #[error("the local CA: {0}")]
    LocalCa(#[from] CaError),
    /// The client for token requests cannot be built.
    #[error("upstream: {0}")]
    Client(#[source] ClientError),
    /// The client for the collector of traces cannot be built.
    #[error("otlp-endpoint: {0}")]
    Traces(#[source] ClientError),
    /// The connector for calls cannot be built.
    #[error("upstream: {0}")]
    Connector(#[source] DialError),
    /// An account cannot be opened.
    #[error(transparent)]
    Account(#[from] AccountsError),
    /// The signal handler cannot be installed.
    #[error("SIGHUP cannot be handled: {0}")]
    Signals(#[source] io::Error),
    /// The system cannot start a thread.
    #[error("workers: {0}")]
    Workers(#[source] io::Error),
}

/// The error for an address of `key`.
pub(super) fn cannot_listen(
    key: &'static str,
    address: impl ToString,
    error: io::Error,
) -> StartError {
    StartError::Listen {
        key,
        address: address.to_string(),
        error,
    }
}
