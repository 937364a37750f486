//! The head of a reply, and what it says of its body and of the connection (RFC 9112).

use std::mem::MaybeUninit;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::ext::ReasonPhrase;

use super::chunked::ChunkedDecoder;
use crate::net::connection_error::ConnectionError;

/// How long a head may be.
pub(super) const LARGEST_HEAD: usize = 256 * 1024;

/// How many headers it may have.
const MOST_HEADERS: usize = 100;

/// How many bytes a body may say that it has.
const MOST_BYTES: u64 = i64::MAX as u64;

/// How a body ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes more.
    Length(u64),
    /// With an empty chunk.
    Chunked(ChunkedDecoder),
    /// With the connection.
    UntilClose,
    /// It has.
    Ended,
}

/// What a head says.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) head: Response<()>,
    pub(super) framing: Framing,
    /// Whether the connection can take another call.
    pub(super) keep_alive: bool,
}

/// Reads the head of a reply to a call, of which it is known whether it was HEAD: how many bytes have
/// been understood, and what they say once all of it is here. 1xx come before it, and say nothing.
pub(super) fn parse(
    bytes: &[u8],
    to_head: bool,
) -> Result<(usize, Option<ResponseHead>), ConnectionError> {
    let mut start = 0;
    loop {
        let mut room = [const { MaybeUninit::uninit() }; MOST_HEADERS];
        let mut reply = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut reply, &bytes[start..], &mut room)
            .map_err(|error| match error {
                httparse::Error::TooManyHeaders => ConnectionError::LargeHead,
                _ => ConnectionError::Head,
            })?;
        let httparse::Status::Complete(length) = parsed else {
            return Ok((start, None));
        };
        start += length;
        let status = StatusCode::from_u16(reply.code.unwrap_or_default());
        let status = status.map_err(|_| ConnectionError::Head)?;
        if status == StatusCode::SWITCHING_PROTOCOLS || !status.is_informational() {
            return Ok((start, Some(ResponseHead::of(&reply, status, to_head)?)));
        }
    }
}

impl ResponseHead {
    fn of(
        reply: &httparse::Response<'_, '_>,
        status: StatusCode,
        to_head: bool,
    ) -> Result<Self, ConnectionError> {
        let mut said = FramingHeaders::default();
        let mut head = Response::new(());
        *head.status_mut() = status;
        head.headers_mut().reserve(reply.headers.len());
        for header in reply.headers.iter() {
            said.read(head.headers_mut(), header)?;
        }
        let reason = reply.reason.unwrap_or_default();
        if Some(reason) != status.canonical_reason()
            && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
        {
            head.extensions_mut().insert(reason);
        }
        let is_old = reply.version == Some(0);
        let framing = match status.as_u16() {
            101 | 204 | 304 => Framing::Ended,
            _ if to_head => Framing::Ended,
            _ => said.framing(is_old)?,
        };
        if said.chunked {
            // Of two lengths the chunks are right (RFC 9112 §6.3).
            head.headers_mut().remove(header::CONTENT_LENGTH);
        }
        // Nothing may follow such a head; of who says that something does it is not known what follows.
        let is_odd = said.fault.is_some()
            || (status == StatusCode::NO_CONTENT && (said.chunked || said.length > Some(0)));
        let ends = said.close
            || is_odd
            || (is_old && !said.keep_alive)
            || (said.chunked && said.length.is_some())
            || framing == Framing::UntilClose
            || status == StatusCode::SWITCHING_PROTOCOLS;
        Ok(Self {
            head,
            framing,
            keep_alive: !ends,
        })
    }
}

/// What headers say of the connection.
#[derive(Default)]
struct FramingHeaders {
    close: bool,
    keep_alive: bool,
    length: Option<u64>,
    chunked: bool,
    /// What is wrong with them, which matters where there is a body.
    fault: Option<ConnectionError>,
}

impl FramingHeaders {
    /// Notes what `header` says, and puts it to the others unless that is all it is there for.
    fn read(
        &mut self,
        headers: &mut HeaderMap,
        header: &httparse::Header<'_>,
    ) -> Result<(), ConnectionError> {
        let name =
            HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| ConnectionError::Head)?;
        match name {
            header::CONNECTION if self.connection(header.value) => return Ok(()),
            header::TRANSFER_ENCODING => {
                self.coding(header.value.trim_ascii());
                return Ok(());
            }
            header::CONTENT_LENGTH => {
                if let Some(length) = self.content_length(header.value) {
                    headers.append(name, HeaderValue::from(length));
                }
                return Ok(());
            }
            _ => {}
        }
        let value = HeaderValue::from_bytes(header.value).map_err(|_| ConnectionError::Head)?;
        headers.append(name, value);
        Ok(())
    }

    /// How a body ends.
    fn framing(&self, is_old: bool) -> Result<Framing, ConnectionError> {
        match (self.fault, self.length) {
            (Some(fault), _) => Err(fault),
            _ if self.chunked && is_old => Err(ConnectionError::Coding),
            _ if self.chunked => Ok(Framing::Chunked(ChunkedDecoder::default())),
            (None, Some(0)) => Ok(Framing::Ended),
            (None, Some(length)) => Ok(Framing::Length(length)),
            (None, None) => Ok(Framing::UntilClose),
        }
    }

    /// Notes what `Transfer-Encoding` says. Some repeat it.
    fn coding(&mut self, coding: &[u8]) {
        if coding.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
        } else if !coding.eq_ignore_ascii_case(b"identity") {
            self.fault = Some(ConnectionError::Coding);
        }
    }

    /// Notes what `Content-Length` says; the length, if it is news.
    fn content_length(&mut self, value: &[u8]) -> Option<u64> {
        let known = self.length;
        for length in value.split(|byte| *byte == b',') {
            let length = number(length.trim_ascii());
            if length.is_none() || self.length.is_some_and(|known| Some(known) != length) {
                self.fault = Some(ConnectionError::Length);
                return None;
            }
            self.length = length;
        }
        self.length.filter(|_| known.is_none())
    }

    /// Notes what `Connection` says; false if it names other headers, too.
    fn connection(&mut self, value: &[u8]) -> bool {
        let mut usual = true;
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else {
                usual = false;
            }
        }
        usual
    }
}

/// Digits, and nothing else.
fn number(digits: &[u8]) -> Option<u64> {
    let sound = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| sound)?;
    text.parse().ok().filter(|length| *length <= MOST_BYTES)
}

#[cfg(test)]
mod tests;
