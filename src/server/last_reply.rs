//! Marks the last reply on a connection.

use http::{HeaderValue, Version, header};

use crate::proxy::Reply;

/// Adds `Connection: close` to a reply to a call of `version`.
pub(super) fn closing(mut reply: Reply, version: Version) -> Reply {
    // With another version in the reply, hyper would still offer keep-alive to an HTTP/1.0 client.
    *reply.version_mut() = version;
    reply
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    reply
}
