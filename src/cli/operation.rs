//! What a command line asks for.

use tokio::time::Duration;

use crate::k8s::{
    inject::offline,
    webhook::{self, bootstrap},
};

/// What to do.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Serve apps.
    Serve,
    /// Say what of the configuration works.
    Check {
        /// Request a token even where that ends the token of others.
        mint: bool,
    },
    /// Ask a running sidecar whether it lives.
    Health,
    /// Wait for a running sidecar.
    Wait {
        /// For what.
        until: Until,
        /// How long.
        timeout: Duration,
    },
    /// Ask a running sidecar to stop.
    Shutdown,
    /// Add sidecars to Kubernetes objects in files.
    Inject(offline::Options),
    /// Add sidecars to the pods of a cluster.
    Webhook(Box<webhook::Options>),
    /// Make a certificate for that.
    WebhookCerts(bootstrap::Options),
}

/// What `wait` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The first token request has ended, well or badly.
    Started,
    /// There is a token.
    Ready,
}
