//! A decoder of the chunked transfer coding (RFC 9112 §7.1).

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use crate::net::connection_error::ConnectionError;

/// The longest line before a chunk.
const MAX_LINE: usize = 4096;

/// The most bytes of trailers. They are dropped: WeChat sends none.
const MAX_TRAILERS: usize = 16 * 1024;

/// The state of the decoder: what it expects next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum ChunkedDecoder {
    /// The line before a chunk.
    #[default]
    Size,
    /// This many bytes of a chunk.
    Data(u64),
    /// The CRLF after a chunk.
    EndOfData,
    /// Trailers up to an empty line, of at most this many bytes.
    Trailers(usize),
    /// Nothing: the body has ended.
    Ended,
}

impl ChunkedDecoder {
    /// Consumes everything before the next data from `input`, as far as it is there.
    pub(super) fn advance(&mut self, input: &mut BytesMut) -> Result<(), ConnectionError> {
        loop {
            *self = match *self {
                Self::Data(_) | Self::Ended => return Ok(()),
                Self::Size => match line(input, MAX_LINE)? {
                    None => return Ok(()),
                    Some(length) => {
                        let size = size(&input[..length])?;
                        input.advance(length + 2);
                        match size {
                            0 => Self::Trailers(MAX_TRAILERS),
                            size => Self::Data(size),
                        }
                    }
                },
                Self::EndOfData => {
                    if !b"\r\n".starts_with(&input[..input.len().min(2)]) {
                        return Err(ConnectionError::Chunk);
                    }
                    if input.len() < 2 {
                        return Ok(());
                    }
                    input.advance(2);
                    Self::Size
                }
                Self::Trailers(left) => match line(input, left)? {
                    None => return Ok(()),
                    Some(length) => {
                        input.advance(length + 2);
                        match length {
                            0 => Self::Ended,
                            _ => Self::Trailers(left.saturating_sub(length + 2)),
                        }
                    }
                },
            }
        }
    }

    /// Takes the data of a chunk, as far as it is there.
    pub(super) fn take(&mut self, input: &mut BytesMut) -> Option<Bytes> {
        let Self::Data(left) = self else { return None };
        let data = take(input, left)?;
        if *left == 0 {
            *self = Self::EndOfData;
        }
        Some(data)
    }
}

/// Takes at most `left` bytes, and subtracts them from `left`.
pub(super) fn take(input: &mut BytesMut, left: &mut u64) -> Option<Bytes> {
    let some = usize::try_from(*left)
        .unwrap_or(usize::MAX)
        .min(input.len());
    if some == 0 {
        return None;
    }
    *left -= some as u64;
    // Taking the whole buffer avoids the reference count that a split needs.
    let data = if some == input.len() {
        std::mem::take(input)
    } else {
        input.split_to(some)
    };
    Some(data.freeze())
}

/// The length of the first line without its CRLF, if the line is complete.
fn line(input: &[u8], limit: usize) -> Result<Option<usize>, ConnectionError> {
    match memchr(b'\n', input) {
        Some(end) if end > limit || end == 0 || input[end - 1] != b'\r' => {
            Err(ConnectionError::Chunk)
        }
        Some(end) => Ok(Some(end - 1)),
        None if input.len() > limit => Err(ConnectionError::Chunk),
        None => Ok(None),
    }
}

/// Parses a chunk size: hexadecimal digits, perhaps followed by blanks and extensions.
fn size(line: &[u8]) -> Result<u64, ConnectionError> {
    let count = |line: &[u8], is: fn(&u8) -> bool| line.iter().take_while(|byte| is(byte)).count();
    let (digits, rest) = line.split_at(count(line, u8::is_ascii_hexdigit));
    let rest = &rest[count(rest, |byte| matches!(byte, b' ' | b'\t'))..];
    if !(rest.is_empty() || rest[0] == b';') || rest.contains(&b'\r') {
        return Err(ConnectionError::Chunk);
    }
    // `from_str_radix` rejects an empty string and an overflow.
    let digits = std::str::from_utf8(digits).map_err(|_| ConnectionError::Chunk)?;
    u64::from_str_radix(digits, 16).map_err(|_| ConnectionError::Chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `pieces` one after the other. Returns the data, whether the body has ended, and the rest.
    fn decoded(pieces: &[&[u8]]) -> Result<(Vec<u8>, bool, Vec<u8>), ConnectionError> {
        let (mut chunks, mut input, mut all) =
            (ChunkedDecoder::default(), BytesMut::new(), Vec::new());
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                chunks.advance(&mut input)?;
                match chunks.take(&mut input) {
                    Some(data) => all.extend_from_slice(&data),
                    None => break,
                }
            }
        }
        Ok((all, chunks == ChunkedDecoder::Ended, input.to_vec()))
    }

    #[test]
    fn chunks_are_the_same_wherever_they_are_cut() {
        for (came, data, left) in [
            (&b"5\r\nhello\r\n0\r\n\r\n"[..], &b"hello"[..], &b""[..]),
            (b"0\r\n\r\n", b"", b""),
            (
                b"1\r\na\r\n00000000000000000001\r\nb\r\n0\r\n\r\nmore",
                b"ab",
                b"more",
            ),
            (
                b"a\r\n0123456789\r\nA ; x=\"y\"\r\n0123456789\r\n0;z\r\n\r\n",
                b"01234567890123456789",
                b"",
            ),
            (
                b"2\t\r\n\r\n\r\n0\r\nX-A: 1\r\nX-B: 2\r\n\r\nHTTP",
                b"\r\n",
                b"HTTP",
            ),
        ] {
            for first in 0..=came.len() {
                for second in first..=came.len() {
                    let pieces = [&came[..first], &came[first..second], &came[second..]];
                    let decoded = decoded(&pieces).unwrap();
                    assert_eq!(decoded, (data.to_vec(), true, left.to_vec()), "{pieces:?}");
                }
            }
            for length in 0..came.len() - left.len() {
                assert!(!decoded(&[&came[..length]]).unwrap().1, "{length}");
            }
        }
    }

    #[test]
    fn what_two_could_read_in_two_ways_is_no_chunk() {
        let long = [b"1;".repeat(MAX_LINE), b"\r\n".to_vec()].concat();
        let trailers = [b"0\r\n".to_vec(), b"X: 1\r\n".repeat(MAX_TRAILERS / 6 + 1)].concat();
        for came in [
            &b"\r\n"[..],
            b"\n",
            b"x\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b"0x1\r\n",
            b"1\n",
            b"1 1\r\n",
            b" 1\r\n",
            b"1\r\r\n",
            b"1;\rx\r\n",
            b"10000000000000000\r\n",
            b"ffffffffffffffffffff\r\n",
            b";x\r\n",
            b"1\r\na0\r\n",
            b"1\r\na\n0\r\n",
            b"1\r\na\r0\r\n",
            b"1\r\nab\r\n",
            b"0\r\n\n",
            b"0\r\nX: 1\n\r\n",
            &long,
            &trailers,
        ] {
            assert_eq!(
                decoded(&[came]),
                Err(ConnectionError::Chunk),
                "{:?}",
                String::from_utf8_lossy(came)
            );
        }
        // As much as a reply can have.
        assert!(decoded(&[b"ffffffffffffffff\r\nx"]).is_ok());
    }
}
