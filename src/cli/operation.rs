//! The operation that a command line asks for.

use tokio::time::Duration;

use super::{
    ca::CaOutput, call::CallOptions, check::CheckOptions, explain, manual, quota::QuotaOptions,
    revoke::RevokeOptions, rid::RidOptions,
};
use crate::k8s::{
    inject::offline,
    webhook::{self, bootstrap},
};

/// An operation.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Serve apps.
    Serve,
    /// Test the configuration.
    Check(CheckOptions),
    /// Call an endpoint.
    Call(Box<CallOptions>),
    /// Ask WeChat for quotas.
    Quota(QuotaOptions),
    /// Ask WeChat about calls that failed.
    Rid(RidOptions),
    /// Ask a running sidecar whether it is alive.
    Health,
    /// Wait for a running sidecar.
    Wait {
        /// The state to wait for.
        until: Until,
        /// The longest wait.
        timeout: Duration,
    },
    /// Have a running sidecar revoke a token.
    Revoke(RevokeOptions),
    /// Ask a running sidecar to stop.
    Shutdown,
    /// Print the root of the local CA, or the variables by which apps trust it.
    Ca(CaOutput),
    /// Say what error codes mean.
    Explain(explain::Options),
    /// Be a fake WeChat.
    #[cfg(feature = "fake")]
    Fake(Box<super::fake::FakeOptions>),
    /// Print the completions of a shell.
    Completions(manual::CompletedShell),
    /// Make man pages.
    Man(manual::Pages),
    /// Add sidecars to Kubernetes objects in files.
    Inject(offline::Options),
    /// Add sidecars to the pods of a cluster.
    Webhook(Box<webhook::Options>),
    /// Make a certificate for the webhook.
    WebhookCerts(bootstrap::Options),
}

/// The state that `wait` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The first token request has ended, whether it succeeded or failed.
    Started,
    /// There is a token.
    Ready,
}
