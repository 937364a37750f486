//! Turns errors of Redis into ones that tell an operator what to do.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::token::source::store::StoreError;

/// Whether the connection is no longer usable.
pub(super) fn is_lost(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error() || error.is_timeout()
}

/// The error without anything that was written or read.
pub(super) fn store_error(error: &RedisError) -> StoreError {
    // If a command fails inside a script, older versions of Redis put its code into the text.
    let detail = error.detail().unwrap_or_default();
    let is = |code: &str| error.code() == Some(code) || detail.contains(code);
    let text = match error.kind() {
        ErrorKind::AuthenticationFailed => CREDENTIALS,
        _ if error.is_timeout() => return StoreError::NoReply,
        ErrorKind::Io => "the connection to it broke",
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) => {
            "it is a node of a Redis Cluster (MOVED), which this program does not speak to: \
             name a Redis that is not in cluster mode, or a proxy before the cluster"
        }
        _ if is("NOAUTH") || is("WRONGPASS") => CREDENTIALS,
        _ if is("READONLY") => "it is read-only (READONLY): name the primary, not a replica",
        _ if is("NOREPLICAS") => "it takes no writes for want of replicas (NOREPLICAS)",
        _ if is("NOPERM") => {
            "its ACL forbids a command (NOPERM): see store in the documents for those it takes"
        }
        _ if is("WRONGTYPE") => {
            "what is there under the token's key is no string (WRONGTYPE): see store-format"
        }
        _ if is("MISCONF") => "it takes no writes because it cannot save (MISCONF)",
        _ if is("OOM") => "it has no memory left (OOM)",
        _ if is("LOADING") => "it is still loading (LOADING)",
        _ => {
            let code = error.code().unwrap_or("an answer without sense");
            return StoreError::Reply(code.to_owned());
        }
    };
    StoreError::Redis(text)
}

const CREDENTIALS: &str = "it refused the log-in: see store-password-file";
