//! Parses a plain call whose head arrived whole. hyper parses all others.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};

use crate::body::content_length;

/// The most headers of a plain call.
const MAX_HEADERS: usize = 100;

/// A plain call.
pub(super) struct Plain {
    /// Without its body, if not all of it is here.
    pub(super) call: Request<Bytes>,
    /// Where its body begins.
    pub(super) start: usize,
    /// Where it ends. There may be fewer bytes.
    pub(super) end: usize,
}

/// Parses the call at the beginning of `bytes`. Returns `None` if its head is not complete, or not plain: if it has another version, a transfer coding, two lengths, an `Expect`, an `Upgrade`
/// or a `Connection` other than keep-alive.
pub(super) fn read(bytes: &[u8]) -> Option<Plain> {
    let mut room = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut []);
    let parsed = head.parse_with_uninit_headers(bytes, &mut room);
    let Ok(httparse::Status::Complete(start)) = parsed else {
        return None;
    };
    if head.version != Some(1) {
        return None;
    }
    let method = Method::from_bytes(head.method?.as_bytes()).ok()?;
    if matches!(method, Method::HEAD | Method::CONNECT) {
        return None;
    }
    let length = length(head.headers)?;
    let end = start.checked_add(length)?;
    // One copy. The target, the header values and the body are slices of it.
    let all = Bytes::copy_from_slice(bytes.get(..end).unwrap_or(&bytes[..start]));
    let part = |part: &[u8]| {
        let at = part.as_ptr().addr() - bytes.as_ptr().addr();
        all.slice(at..at + part.len())
    };
    let target = Uri::from_maybe_shared(part(head.path?.as_bytes())).ok()?;
    let mut headers = HeaderMap::with_capacity(head.headers.len());
    for field in head.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(part(field.value)).ok()?;
        headers.try_append(name, value).ok()?;
    }
    let mut call = Request::new(all.slice(start..));
    *call.method_mut() = method;
    *call.uri_mut() = target;
    *call.headers_mut() = headers;
    Some(Plain { call, start, end })
}

/// The length of the body that the headers state; zero if they state none. `None` if the call is not plain.
fn length(fields: &[httparse::Header<'_>]) -> Option<usize> {
    let mut length = None;
    for field in fields {
        let is = |name: HeaderName| field.name.eq_ignore_ascii_case(name.as_str());
        match field.name.len() {
            6 if is(header::EXPECT) => return None,
            7 if is(header::UPGRADE) => return None,
            10 if is(header::CONNECTION) && !field.value.eq_ignore_ascii_case(b"keep-alive") => {
                return None;
            }
            14 if is(header::CONTENT_LENGTH) && length.is_some() => return None,
            14 if is(header::CONTENT_LENGTH) => length = Some(content_length::parse(field.value)?),
            17 if is(header::TRANSFER_ENCODING) => return None,
            _ => {}
        }
    }
    usize::try_from(length.unwrap_or_default()).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
