//! Why an account cannot be opened.

use crate::{net::connector::DialError, token::source::api::ClientError};

/// Why an account cannot be opened, as a sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// A WeChat account that fetches its own tokens needs an AppSecret.
    #[error("it has no AppSecret")]
    NoAppSecret,
    /// A WeCom account that fetches its own tokens needs a secret.
    #[error("it has no secret")]
    NoCorpSecret,
    /// Its upstream cannot be used.
    #[error(transparent)]
    Upstream(#[from] DialError),
    /// The client for its token requests cannot be built.
    #[error(transparent)]
    Client(#[from] ClientError),
}
