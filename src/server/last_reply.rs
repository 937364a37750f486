//! The last reply on a connection.

use http::{HeaderValue, Version, header};

use crate::proxy::Reply;

/// Says in a reply to a call of `version` that the connection ends with it.
pub(super) fn closing(mut reply: Reply, version: Version) -> Reply {
    // To an old client hyper would offer, in a reply of another version, to keep it all the same.
    *reply.version_mut() = version;
    reply
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    reply
}
