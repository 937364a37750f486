//! Parses the head of a reply, including the framing of its body and whether the connection persists (RFC 9112).

use std::mem::MaybeUninit;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::ext::ReasonPhrase;

use super::{chunked::ChunkedDecoder, header_names::HeaderNames};
use crate::{body::content_length, net::connection_error::ConnectionError};

/// The largest head.
pub(super) const MAX_HEAD: usize = 256 * 1024;

/// The most headers.
const MAX_HEADERS: usize = 100;

/// How a body ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After this many more bytes.
    Length(u64),
    /// With the last chunk.
    Chunked(ChunkedDecoder),
    /// With the end of the connection.
    UntilClose,
    /// It has ended, or there is none.
    NoMoreData,
}

/// A parsed head.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) head: Response<()>,
    pub(super) framing: Framing,
    /// Whether the connection can take another call.
    pub(super) keep_alive: bool,
}

/// Parses the head of a reply; `is_head` says whether the request was HEAD. Returns how many bytes were
/// parsed, and the head if it is complete. Interim replies (1xx) before it are skipped.
pub(super) fn parse(
    bytes: &[u8],
    is_head: bool,
) -> Result<(usize, Option<ResponseHead>), ConnectionError> {
    let mut start = 0;
    loop {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut reply = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut reply, &bytes[start..], &mut headers)
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
            return Ok((start, Some(ResponseHead::of(&reply, status, is_head)?)));
        }
    }
}

impl ResponseHead {
    fn of(
        reply: &httparse::Response<'_, '_>,
        status: StatusCode,
        is_head: bool,
    ) -> Result<Self, ConnectionError> {
        let mut framing_headers = FramingHeaders::default();
        let mut head = Response::new(());
        *head.status_mut() = status;
        head.headers_mut().reserve(reply.headers.len());
        for header in reply.headers.iter() {
            framing_headers.read(head.headers_mut(), header)?;
        }
        let reason = reply.reason.unwrap_or_default();
        if Some(reason) != status.canonical_reason()
            && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
        {
            head.extensions_mut().insert(reason);
        }
        let names = reply.headers.iter().map(|header| header.name.as_bytes());
        if let Some(names) = HeaderNames::unusual(names) {
            head.extensions_mut().insert(names);
        }
        let is_old = reply.version == Some(0);
        let framing = match status.as_u16() {
            101 | 204 | 304 => Framing::NoMoreData,
            _ if is_head => Framing::NoMoreData,
            _ => framing_headers.framing(is_old)?,
        };
        if framing_headers.chunked {
            // Of two lengths the chunks are right (RFC 9112 §6.3).
            head.headers_mut().remove(header::CONTENT_LENGTH);
        }
        // If a reply without a body announces one, the connection's state is unknown after it.
        let is_odd = framing_headers.error.is_some()
            || (status == StatusCode::NO_CONTENT
                && (framing_headers.chunked || framing_headers.length > Some(0)));
        let ends = framing_headers.close
            || is_odd
            || (is_old && !framing_headers.keep_alive)
            || (framing_headers.chunked && framing_headers.length.is_some())
            || framing == Framing::UntilClose
            || status == StatusCode::SWITCHING_PROTOCOLS;
        Ok(Self {
            head,
            framing,
            keep_alive: !ends,
        })
    }
}

/// The headers that frame the body and control the connection.
#[derive(Default)]
struct FramingHeaders {
    close: bool,
    keep_alive: bool,
    length: Option<u64>,
    chunked: bool,
    /// What is wrong with them. It matters only if there is a body.
    error: Option<ConnectionError>,
}

impl FramingHeaders {
    /// Reads `header`, and adds it to `headers` unless it is for the connection only.
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

    /// The framing of the body.
    fn framing(&self, is_old: bool) -> Result<Framing, ConnectionError> {
        match (self.error, self.length) {
            (Some(error), _) => Err(error),
            _ if self.chunked && is_old => Err(ConnectionError::Coding),
            _ if self.chunked => Ok(Framing::Chunked(ChunkedDecoder::default())),
            (None, Some(0)) => Ok(Framing::NoMoreData),
            (None, Some(length)) => Ok(Framing::Length(length)),
            (None, None) => Ok(Framing::UntilClose),
        }
    }

    /// Reads `Transfer-Encoding`. Some servers repeat it.
    fn coding(&mut self, coding: &[u8]) {
        if coding.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
        } else if !coding.eq_ignore_ascii_case(b"identity") {
            self.error = Some(ConnectionError::Coding);
        }
    }

    /// Reads `Content-Length`. Returns the length the first time.
    fn content_length(&mut self, value: &[u8]) -> Option<u64> {
        let known = self.length;
        for length in value.split(|byte| *byte == b',') {
            let length = content_length::parse(length.trim_ascii());
            if length.is_none() || self.length.is_some_and(|known| Some(known) != length) {
                self.error = Some(ConnectionError::Length);
                return None;
            }
            self.length = length;
        }
        self.length.filter(|_| known.is_none())
    }

    /// Reads `Connection`. Returns false if it names other headers, too.
    fn connection(&mut self, value: &[u8]) -> bool {
        let mut only_known = true;
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else {
                only_known = false;
            }
        }
        only_known
    }
}

#[cfg(test)]
mod tests;
