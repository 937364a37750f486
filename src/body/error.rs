//! Why a body ended early, an app's or a reply's.

use tokio::time::Duration;

use crate::net::connection_error::ConnectionError;

/// See the [module](self).
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// No byte arrived for this long.
    #[error("nothing came for {0:?}")]
    Idle(Duration),
    /// The app hung up, or sent a malformed body.
    #[error("the connection broke")]
    App(#[source] hyper::Error),
    /// The connection to WeChat broke, or its reply is malformed.
    #[error(transparent)]
    Upstream(ConnectionError),
}
